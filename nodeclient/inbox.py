"""What peers may ask of this Node, and how each question reaches the rules.

The transport has authenticated the sender. Here the bytes are parsed (bounded), what needs the
world is looked up (a policy, a root key, a fresh nonce), and the fact is put to the rules, whose
reply goes back. Three questions only read and bypass the rules: a block, the BEFORE Evidence, and a
question to the Machine.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace

from agent.formats import cbor, hpke
from agent.formats.cbor import FormatError
from agent.formats.evidence import Evidence
from agent.formats.hpke import OpenError
from agent.formats.messages import Question as AgentQuestion
from agent.formats.outcome import MAX_ANSWERS, MAX_QUESTIONS
from agent.formats.protocol import taskspec_info
from agent.formats.shape import as_bytes, as_list
from agent.formats.taskspec import MAX_TASKSPEC, TaskSpec, commitment_of, open_commitment
from nodeclient.capsules.consents import MAX_CONSENT, check_consents, owners_of
from nodeclient.capsules.errors import BlockCorrupt
from nodeclient.core import events as ev
from nodeclient.core.case import Case
from nodeclient.core.incidents import Kind
from nodeclient.core.roles.broker import owned_cids
from nodeclient.core.roles.executor import Executor
from nodeclient.core.roles.executor import State as ExecutorState
from nodeclient.core.types import Address, Commitment, Phase, TaskState, Vote
from nodeclient.core.votes import is_signed
from nodeclient.duties.admitting import Admitter
from nodeclient.duties.appraising import read_summary
from nodeclient.duties.machine import as_evidence, context, evidence_key
from nodeclient.duties.services import Services
from nodeclient.errors import MachineError, MachineRefused, SealrunError
from nodeclient.p2p import messages as msg
from nodeclient.p2p.errors import PeerBusy, PeerRefused
from nodeclient.p2p.limits import OverLimit, Slots
from nodeclient.p2p.quota import Quota
from nodeclient.runner import RefusedByPeer, Runner

REPLY_SECONDS = 15.0  # the asker's own bound is longer, so it gets this side's reason
MAX_OWNERS = 17  # sixteen inputs and the function
# Refusals that stand in the journal elsewhere, or that belong to the course of things: these are
# asked again until the answer is yes.
UNNOTED = frozenset(
    {
        *("consent", "nonce", "appraise", "result", "block", "question", "activate", "running"),
        "motion_vote",
    }
)
BEFORE_ADMISSION = frozenset({"motion_vote", "alive"})  # all that a PENDING Node can ask
SIGNINGS = 4  # statements that are signed at once
# Peers that wait for one, each with one place: few that ask all the time cost others a wait, no
# answer. Fewer than the transport serves at once (`Limits.requests`).
SIGNING_ASKERS = 16
ACTIVATIONS = 16  # of each asker for one Task: one is needed, the others are tries


class Inbox:
    """``handle`` is the transport's handler."""

    def __init__(
        self, services: Services, runner: Runner, admitter: Admitter | None = None
    ) -> None:
        self._services = services
        self._runner = runner
        self._quota = Quota()
        self._activations = Quota()
        self._asking, self._signing = Slots(SIGNING_ASKERS, 1), asyncio.Semaphore(SIGNINGS)
        self._methods: dict[str, Callable[[Address, bytes], Awaitable[bytes]]] = {
            "consent": self._consent,
            "brief": self._brief,
            "nonce": self._nonce,
            "appraise": self._appraise,
            "vote": self._vote,
            "question": self._question,
            "evidence": self._evidence,
            "endorsement": self._endorsement,
            "activate": self._activate,
            "incident": self._incident,
            "key": self._key,
            "notice": self._notice,
            "result": self._result,
            "block": self._block,
            "alive": self._alive,
            "running": self._running,
            **(admitter.methods() if admitter is not None else {}),
        }

    async def _alive(self, _sender: Address, _body: bytes) -> bytes:
        """A sign of life, for who counts the peers that it can reach."""
        return b""

    async def handle(self, sender: bytes, method: str, body: bytes) -> bytes:
        """Answer, or raise PeerRefused with one line for the peer."""
        try:
            serve = self._methods.get(method)
            if serve is None:
                raise PeerRefused(f"no method {method[:32]!r}", "update the node")
            if method not in BEFORE_ADMISSION and self._services.directory.is_pending(sender):
                raise PeerRefused("not admitted yet", "ask for admission first")
            return await serve(Address(sender), body)
        except (FormatError, SealrunError, OpenError, ValueError) as error:
            refusal = refusal_of(error)
            if method not in UNNOTED:
                # The reason may quote a TaskSpec: the sealed journal tells it, the log does not.
                who = f"refused {method[:32]} to 0x{sender.hex()}"
                self._services.note(None, who, f": {refusal.message[:160]}")
            raise refusal from None
        except (TimeoutError, OverLimit):
            raise PeerBusy("busy", "ask again") from None

    # ------------------------------------------------------------------------ facts for the rules

    async def _consent(self, sender: Address, body: bytes) -> bytes:
        request = msg.unpack(msg.ConsentRequest, body)
        spec = TaskSpec.decode(request.spec)
        committed = Commitment(commitment_of(request.spec))
        cids = owned_cids(spec, self._services.me.address)
        reasons = self._permission(sender, spec, cids, committed, request.committee_size)
        if not reasons:
            reasons = await asyncio.to_thread(self._services.faults, spec, cids)
        if not reasons:
            # Again, and counted before anything else is awaited: questions at once are many uses.
            reasons = self._permission(sender, spec, cids, committed, request.committee_size)
            for cid in () if reasons else cids:
                self._services.store.use_policy(cid, committed)
        try:
            reply = await self._runner.ask(
                lambda request_id: ev.ConsentAsked(
                    sender=sender,
                    request=request_id,
                    commitment=committed,
                    spec=request.spec,
                    reasons=reasons,
                ),
                REPLY_SECONDS,
            )
        except RefusedByPeer as error:
            who = f"consent refused to 0x{sender.hex()}"
            self._services.note(committed, who, f": {error.message}")
            raise
        return as_bytes_reply(reply)

    def _permission(
        self,
        sender: Address,
        spec: TaskSpec,
        cids: tuple[str, ...],
        committed: Commitment,
        committee_size: int,
    ) -> tuple[str, ...]:
        """Why the owner's policy is against it just now; empty: it is not."""
        reasons = self._services.policies.consent_reasons(spec, cids, committed, committee_size)
        if spec.requester != sender:
            reasons = (*reasons, "the TaskSpec names another requester")
        return reasons

    async def _brief(self, sender: Address, body: bytes) -> bytes:
        """From the requester or a relaying member: what counts is that it opens the commitment."""
        request = msg.unpack(msg.Brief, body)
        case = self._case(request.commitment)
        parameters = self._services.me.parameters
        info = taskspec_info(parameters.chain_id, parameters.market, case.on_chain().id)
        plain = hpke.open(self._services.keys.hpke_private, info, request.sealed)
        encoded, consents = as_list(cbor.decode(plain, 2 * MAX_TASKSPEC), 2, 2, "brief")
        spec_bytes = as_bytes(encoded, 1, "taskspec", MAX_TASKSPEC)
        spec = open_commitment(spec_bytes, case.commitment)
        given = tuple(
            as_bytes(consent, 1, "consent", MAX_CONSENT)
            for consent in as_list(consents, 0, MAX_OWNERS, "consents")
        )
        roots = {}
        for owner in owners_of(spec):
            record = await self._services.chain.node(owner)
            if record is not None:
                roots[owner] = record.root_public
        check_consents(parameters, case.commitment, spec, given, roots)
        await self._runner.ask(
            lambda request_id: ev.BriefReceived(
                sender=sender,
                request=request_id,
                commitment=case.commitment,
                spec=spec_bytes,
                consents=given,
            ),
            REPLY_SECONDS,
        )
        return b""

    async def _nonce(self, sender: Address, body: bytes) -> bytes:
        request = msg.unpack(msg.NonceRequest, body)
        fresh = secrets.token_bytes(32)
        return as_bytes_reply(
            await self._runner.ask(
                lambda request_id: ev.NonceAsked(
                    sender=sender,
                    request=request_id,
                    commitment=Commitment(request.commitment),
                    phase=Phase(request.phase),
                    attempt=request.attempt,
                    fresh=fresh,
                ),
                REPLY_SECONDS,
            )
        )

    async def _appraise(self, sender: Address, body: bytes) -> bytes:
        request = msg.unpack(msg.AppraisalRequest, body)
        vote = await self._runner.ask(
            lambda request_id: ev.AppraisalAsked(
                sender=sender,
                request=request_id,
                commitment=Commitment(request.commitment),
                phase=Phase(request.phase),
                statement=request.statement.statement(),
                evidence=request.evidence,
                nonces=tuple((Address(member), nonce) for member, nonce in request.nonces),
            ),
            REPLY_SECONDS,
        )
        if not isinstance(vote, Vote):
            raise PeerRefused("no vote yet", "ask again")
        return msg.pack(msg.vote_message(request.commitment, vote))

    async def _vote(self, sender: Address, body: bytes) -> bytes:
        request = msg.unpack(msg.VoteMessage, body)
        vote = msg.vote_of(request)
        case = self._case(request.commitment)
        if vote.task != case.on_chain().id or not is_signed(self._services.me.parameters, vote):
            raise PeerRefused("the vote is not signed for this task", "sign it again")
        await self._runner.ask(
            lambda request_id: ev.VoteReceived(
                sender=sender, request=request_id, commitment=case.commitment, vote=vote
            ),
            REPLY_SECONDS,
        )
        return b""

    async def _incident(self, sender: Address, body: bytes) -> bytes:
        """Raises ValueError for an unknown phase or kind."""
        request = msg.unpack(msg.IncidentReport, body)
        phase, kind = Phase(request.phase), Kind(request.kind)
        if not request.text.isprintable():
            raise FormatError("message IncidentReport: text is not printable")
        await self._runner.ask(
            lambda request_id: ev.IncidentReported(
                sender=sender,
                request=request_id,
                commitment=Commitment(request.commitment),
                phase=phase,
                attempt=request.attempt,
                kind=kind,
                text=request.text,
                ended=request.ended,
            ),
            REPLY_SECONDS,
        )
        told = f"the executor reports: {kind}" + (", boot given up" if request.ended else "")
        self._services.note(request.commitment, told, f": {request.text}")
        return b""

    async def _key(self, sender: Address, body: bytes) -> bytes:
        request = msg.unpack(msg.KeyRelease, body)
        case = self._case(request.commitment)
        if request.cid not in owned_cids(self._spec(case), sender):
            raise PeerRefused("the capsule is not the sender's", "send only own keys")
        await self._runner.ask(
            lambda request_id: ev.KeyOffered(
                sender=sender,
                request=request_id,
                commitment=case.commitment,
                cid=request.cid,
                sealed=request.sealed,
            ),
            REPLY_SECONDS,
        )
        return b""

    async def _notice(self, sender: Address, body: bytes) -> bytes:
        request = msg.unpack(msg.ResultNotice, body)
        await self._runner.ask(
            lambda request_id: ev.ResultAnnounced(
                sender=sender, request=request_id, commitment=Commitment(request.commitment)
            ),
            REPLY_SECONDS,
        )
        return b""

    # ----------------------------------------------------------------------------- reading only

    async def _question(self, sender: Address, body: bytes) -> bytes:
        """Evidence over the asker's nonce, for members (DURING) and owners of the Capsules."""
        request = msg.unpack(msg.Question, body)
        case = self._case(request.commitment)
        role = case.executor
        # From the end of the run on at once: to wait for a Machine that is being erased would look
        # like its silence.
        runs = role is not None and role.state is ExecutorState.RUNNING
        if role is None or not runs or case.state is not TaskState.ADMITTED:
            raise PeerRefused("no machine runs this task here", "ask while it runs")
        allowed = case.members if request.during else tuple(owners_and_requester(self._spec(case)))
        if sender not in allowed:
            raise PeerRefused("the sender has no part in this task", "ask as member or owner")
        share = (MAX_ANSWERS if request.during else MAX_QUESTIONS) // len(allowed)
        with self._quota.hold(case.commitment, sender, request.during, share):
            return await self._put(case, role, sender, request)

    async def _put(
        self, case: Case, role: Executor, sender: Address, request: msg.Question
    ) -> bytes:
        """Put a question to the Machine; note what it answered to a member."""
        phase = Phase.DURING if request.during else Phase.BEFORE
        question = AgentQuestion(
            request.nonce, context(self._services.me, case.on_chain(), phase, role.attempt)
        )
        answer = await self._services.machine.call(role.resume, "ask", question.to_body())
        evidence = as_evidence(answer)
        if request.during:
            root = Evidence.decode(evidence).root
            self._services.store.add_answer(case.commitment, sender, request.nonce, root)
        return evidence

    async def _evidence(self, sender: Address, body: bytes) -> bytes:
        """The Evidence behind the BEFORE record, to those whose Capsules it would unlock."""
        case = self._case_with(sender, msg.unpack(msg.EvidenceRequest, body).commitment)
        evidence = self._services.store.blob(evidence_key(case.before_root))
        if evidence is None:
            raise PeerRefused("no such evidence here", "ask the executor")
        return evidence

    async def _endorsement(self, sender: Address, body: bytes) -> bytes:
        """Whose TPM this Node's Machine has, to those who must believe it."""
        self._case_with(sender, msg.unpack(msg.EndorsementRequest, body).commitment)
        return await self._services.voucher.endorsement()

    async def _activate(self, sender: Address, body: bytes) -> bytes:
        """The TPM's answer to a secret of the asker. A TPM takes a while, so each asker has few."""
        request = msg.unpack(msg.ActivationRequest, body)
        case = self._case_with(sender, request.commitment)
        role = case.executor
        if role is None or not role.resume or case.over:
            raise PeerRefused("no machine runs this task here", "ask while it runs")
        with self._activations.hold(case.commitment, sender, False, ACTIVATIONS):
            return await self._services.voucher.activate(role.resume, request)

    async def _result(self, sender: Address, body: bytes) -> bytes:
        """As a member: how the run ended by the affirmed AFTER Evidence, to requester and
        receivers; of the results each is told its own, never that of another.
        """
        request = msg.unpack(msg.ResultQuestion, body)
        case = self._case(request.commitment)
        role = case.member
        if role is None or not role.after or case.state is not TaskState.SETTLED:
            raise PeerRefused("no affirmed result here", "ask another member")
        spec = TaskSpec.decode(role.spec)
        names = [item.name for item in spec.receivers if item.node == sender]
        if not names and sender != spec.requester:
            raise PeerRefused("the task names no such receiver", "look at its TaskSpec")
        outcome, owner = read_summary(role.after)
        shown = replace(
            outcome,
            results={name: cid for name, cid in outcome.results.items() if name in names},
            empty=tuple(name for name in outcome.empty if name in names),
        )
        return msg.pack(msg.ResultAnswer(cbor.encode(shown.to_body()), owner))

    async def _block(self, sender: Address, body: bytes) -> bytes:  # noqa: ARG002 (sealed anyway)
        request = msg.unpack(msg.BlockRequest, body)
        if not self._services.blocks.has(request.cid):
            raise PeerRefused("no such block here", "ask another peer")
        return await asyncio.to_thread(self._services.blocks.get, request.cid)

    async def _running(self, sender: Address, body: bytes) -> bytes:
        """What this Node runs, to any peer. Signing takes the root a while: first come, first
        served, and each asker stands there once."""
        request = msg.unpack(msg.RunningRequest, body)
        with self._asking.hold(sender):
            async with self._signing:
                return msg.pack(await self._services.images.own.signed(request.nonce))

    # ------------------------------------------------------------------------------- plumbing

    def _case(self, committed: bytes) -> Case:
        case = self._services.store.case(Commitment(committed))
        if case is None or case.task is None:
            raise RefusedByPeer("this node knows no such task", "wait until it is posted")
        return case

    def _case_with(self, sender: Address, committed: bytes) -> Case:
        """The Case of a task that runs here, in which the sender has a part."""
        case = self._case(committed)
        if sender not in (*owners_and_requester(self._spec(case)), *case.members):
            raise PeerRefused("the sender has no part in this task", "ask as member or owner")
        return case

    def _spec(self, case: Case) -> TaskSpec:
        role = case.executor
        if role is None or not role.spec:
            raise PeerRefused("this node does not execute the task", "ask its executor")
        return TaskSpec.decode(role.spec)


def refusal_of(error: Exception) -> PeerRefused:
    """What a peer is told. The Node's own troubles name paths, logs and endpoints: not to peers."""
    match error:
        case PeerRefused():
            return error
        case RefusedByPeer() | MachineRefused():
            return PeerRefused(error.message, "read the reason")
        case BlockCorrupt():  # it does not heal: who is told "busy" would wait in vain
            return PeerRefused("no such block here", "ask another peer")
        case MachineError():
            return PeerRefused("no machine runs this task here", "ask while it runs")
        case SealrunError():
            return PeerBusy("this node cannot answer that now", "ask again later")
        case _:
            return PeerRefused(str(error), "read the reason")


def owners_and_requester(spec: TaskSpec) -> tuple[Address, ...]:
    """Who may put a question to the Machine before it gives a key away."""
    owners = {item.owner for item in spec.inputs} | {spec.function.owner, spec.requester}
    return tuple(Address(owner) for owner in sorted(owners))


def as_bytes_reply(reply: object) -> bytes:
    """A reply of the rules that must be bytes."""
    if not isinstance(reply, bytes):
        raise PeerRefused("no answer", "ask again")
    return reply
