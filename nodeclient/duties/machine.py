"""Effects on the Executor's Machine: boot, prepare, ask, deliver keys, watch, clean, power off.

Two of them never run beside each other for one Task, because each is ordered by the outcome of the
one before; only keys arrive while the Machine is watched.
"""

from __future__ import annotations

import asyncio
import math

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.erasure import ErasureProof
from agent.formats.evidence import Evidence, fold_nonces
from agent.formats.messages import Context, Prepare, Question, Release, State, Status
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.case import Me
from nodeclient.core.claims import memory
from nodeclient.core.digests import header_digest
from nodeclient.core.images import ImageKind
from nodeclient.core.types import Address, Commitment, Phase, Statement, Task
from nodeclient.core.watch import Heard, how_heard
from nodeclient.duties.candidacy import NO_ERASER
from nodeclient.duties.endorsing import says_quoted
from nodeclient.duties.services import Services
from nodeclient.errors import MachineError, MachineRefused
from nodeclient.runner import Effect, Emit

POLL_SECONDS = 0.3
# How long a run that has ended waits for members that were not answered yet and that no quorum
# needs: ten mean waits of a member that asks as often as the default says.
LEAVE_OUT_SECONDS = 20.0


def effects(services: Services) -> dict[type[do.Action], Effect]:
    """The table of this module."""
    me, machine, store = services.me, services.machine, services.store

    def lost(action: do.Action, error: MachineError) -> ev.MachineLost:
        services.note(action.commitment, "the machine is lost", f": {error}")
        resume = getattr(action, "resume", b"")  # an order to boot has none yet
        return ev.MachineLost(commitment=action.commitment, reason=error.message, resume=resume)

    async def boot(action: do.BootMachine, emit: Emit) -> ev.OutcomeEvent:
        """Twice boots twice: a Machine that nobody adopted cleans itself and ends."""
        count = store.next_boot()
        try:
            session = await machine.boot(count)
        except MachineError as error:
            return lost(action, error)
        services.images.loads.add(session.image, ImageKind.BOOT)
        services.note(action.commitment, f"machine booted, phase {action.phase.name}")
        return ev.MachineBooted(
            commitment=action.commitment,
            phase=action.phase,
            attempt=action.attempt,
            session_hpke=session.hpke,
            session_signing=session.signing,
            resume=session.resume,
        )

    async def prepare(action: do.PrepareTask, emit: Emit) -> ev.OutcomeEvent:
        """Harmless twice: the Agent keeps the first TaskSpec and says so."""
        order = Prepare(
            action.spec,
            context(me, action.task, Phase.BEFORE, action.attempt),
            services.settings.min_answers,
        )
        try:
            await machine.call(action.resume, "prepare", order.to_body())
        except MachineError as error:
            return lost(action, error)
        return ev.TaskPrepared(commitment=action.commitment)

    async def take_evidence(action: do.TakeEvidence, emit: Emit) -> ev.OutcomeEvent:
        """Twice: the Agent repeats the same bytes for the same nonce, so the header is the same."""
        nonce = fold_nonces(dict(action.nonces))
        kept = store.blob(proof_key(action.commitment)) if action.phase is Phase.AFTER else None
        question = Question(
            nonce,
            context(me, action.task, action.phase, action.attempt),
            action.during,
            action.transcript,
            proof=kept or b"",
        )
        try:
            evidence = Evidence.decode(
                as_evidence(await machine.call(action.resume, "ask", question.to_body()))
            )
        except MachineError as error:
            return lost(action, error)
        except FormatError as error:
            return lost(action, MachineError(str(error), "boot the machine again"))
        if action.phase is Phase.BEFORE and not services.settings.erases and says_quoted(evidence):
            # With a record the Task begins, and without a proof of erasure it ends refused.
            return lost(action, MachineError(NO_ERASER, "give the task up"))
        store.put_blob(evidence_key(evidence.root), evidence.encode())
        return ev.EvidenceTaken(
            commitment=action.commitment,
            phase=action.phase,
            statement=await sign_statement(action, nonce, evidence.root),
        )

    async def sign_statement(action: do.TakeEvidence, nonce: bytes, root: bytes) -> Statement:
        unsigned = Statement(action.attempt, nonce, root, action.session_hash, 0, 0)
        digest = header_digest(
            me.parameters.chain_id,
            me.parameters.ledger,
            action.task.id,
            action.task.commitment,
            me.address,
            action.phase,
            unsigned,
        )
        signature = await asyncio.to_thread(services.root.sign, digest)
        r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:]))
        return Statement(action.attempt, nonce, root, action.session_hash, r, s)

    async def deliver_key(action: do.DeliverKey, emit: Emit) -> ev.OutcomeEvent:
        """Harmless twice: the Agent takes a Capsule's key once."""
        try:
            release = Release(action.cid, action.sealed)
            await machine.call(action.resume, "release", release.to_body())
        except MachineRefused as error:
            # A key that does not open anything: the run ends as INPUT_MISSING, not the Machine.
            services.note(action.commitment, "the agent refused a key", f": {error.message}")
        except MachineError as error:
            return lost(action, error)
        return ev.KeyDelivered(commitment=action.commitment, cid=action.cid)

    async def watch(action: do.WatchMachine, emit: Emit) -> ev.OutcomeEvent:
        """Harmless twice: it reads, and says at most that no further key will come."""
        patience = me.parameters.classes[action.task.class_id].finish_blocks // 3
        clock, patient_until = asyncio.get_running_loop(), math.inf
        while True:
            try:
                status = Status.from_body(await machine.call(action.resume, "status", None))
                if status.state is State.PREPARED and (
                    services.head() > action.task.step_at + patience
                ):
                    await machine.call(
                        action.resume, "start", None
                    )  # the run ends as INPUT_MISSING
            except MachineError as error:
                return lost(action, error)
            except FormatError as error:
                return lost(action, MachineError(str(error), "look at the agent's log"))
            if status.state is State.DONE and status.outcome is not None:
                watched = heard(action, status)
                patient_until = min(patient_until, clock.time() + LEAVE_OUT_SECONDS)
                if watched is Heard.ALL or (
                    watched is Heard.ENOUGH and clock.time() >= patient_until
                ):
                    break
            await asyncio.sleep(POLL_SECONDS)
        services.note(action.commitment, f"the function ended: {status.outcome.status.value}")
        return ev.MachineRan(
            commitment=action.commitment,
            outcome=cbor.encode(status.outcome.to_body()),
        )

    def heard(action: do.WatchMachine, status: Status) -> Heard:
        """An answer that died with this daemon before it was noted counts for the Agent, but cannot
        be shown to the Committee."""
        case, noted = store.case(action.commitment), store.answers(action.commitment)
        members = case.members if case is not None else ()
        answered = [Address(member) for member, _, _ in noted]
        return how_heard(members, answered, status.answers, services.settings.min_answers)

    async def clean(action: do.CleanMachine, emit: Emit) -> ev.OutcomeEvent:
        """Harmless twice: transcript and proof are kept before the next step, and looked for
        first. A proof that was made and not kept is made again."""
        kept = f"transcript:{action.commitment.hex()}"
        try:
            transcript = store.blob(kept) or await machine.call(action.resume, "clean", None)
            if not isinstance(transcript, bytes):
                raise MachineError("the agent gave no transcript", "look at its log")
            store.put_blob(kept, transcript)
            if store.blob(proof_key(action.commitment)) is None:
                services.note(action.commitment, "the machine's memory is being erased")
                before = evidence_before(action.before)
                memory_then = () if before is None else memory(before)
                quoted = before is not None and says_quoted(before)
                proof = await machine.erase(action.resume, memory_then, quoted)
                note_eraser(proof)
                store.put_blob(proof_key(action.commitment), proof)
            await machine.power_off(action.resume)
        except MachineError as error:
            return lost(action, error)
        during = tuple(
            (Address(member), nonce, root)
            for member, nonce, root in store.answers(action.commitment)
        )
        return ev.MachineCleaned(commitment=action.commitment, transcript=transcript, during=during)

    def note_eraser(proof: bytes) -> None:
        """The eraser was booted, too, and is an approved image as any other."""
        try:
            image = ErasureProof.decode(proof).image
        except FormatError:  # no eraser, or not its bytes: the Committee judges that
            return
        services.images.loads.add(image, ImageKind.BOOT)

    def evidence_before(root: bytes) -> Evidence | None:
        """What the Agent stated of the boot that ran the task: it decides what is erased."""
        evidence = store.blob(evidence_key(root))
        return None if evidence is None else Evidence.decode(evidence)

    async def power_off(action: do.PowerOff, emit: Emit) -> None:
        """Harmless twice."""
        await machine.power_off(action.resume)

    return {
        do.BootMachine: boot,
        do.PrepareTask: prepare,
        do.TakeEvidence: take_evidence,
        do.DeliverKey: deliver_key,
        do.WatchMachine: watch,
        do.CleanMachine: clean,
        do.PowerOff: power_off,
    }


def as_evidence(answer: object) -> bytes:
    """The Agent's answer to a question; anything but bytes is a broken Agent."""
    if not isinstance(answer, bytes):
        raise MachineError("the agent answered without Evidence", "look at its log")
    return answer


def context(me: Me, task: Task, phase: Phase, attempt: int) -> Context:
    """The chain's view of a question, which the Agent states back in its Evidence."""
    return Context(
        me.parameters.chain_id,
        me.parameters.market,
        task.id,
        task.commitment,
        me.address,
        int(phase),
        attempt,
    )


def proof_key(commitment: Commitment) -> str:
    """Under which name the store keeps the proof that a task's memory was erased."""
    return f"proof:{commitment.hex()}"


def evidence_key(root: bytes) -> str:
    """Under which name the store keeps the Evidence of a root."""
    return f"evidence:{root.hex()}"
