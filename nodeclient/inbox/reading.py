"""What peers may read: of a Task that runs here, of this Node's blocks, of what it runs.

These bypass the rules. What costs the Machine or the root is bounded for each asker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from agent.formats import cbor
from agent.formats.evidence import Evidence
from agent.formats.messages import Question as AgentQuestion
from agent.formats.outcome import MAX_ANSWERS, MAX_QUESTIONS
from agent.formats.taskspec import TaskSpec
from nodeclient.core.case import Case
from nodeclient.core.roles.executor import Executor
from nodeclient.core.roles.executor import State as ExecutorState
from nodeclient.core.types import Address, Phase, TaskState
from nodeclient.duties.appraising import read_summary
from nodeclient.duties.machine import as_evidence, context, evidence_key
from nodeclient.duties.services import Services
from nodeclient.inbox.cases import Cases, owners_and_requester
from nodeclient.p2p import messages as msg
from nodeclient.p2p.errors import PeerRefused
from nodeclient.p2p.limits import Slots
from nodeclient.p2p.quota import Quota

ACTIVATIONS = 16  # of each asker for one Task: one is needed, the others are tries
SIGNINGS = 4  # statements that are signed at once
# Peers that wait for one, each with one place: few that ask all the time cost others a wait, no
# answer. Fewer than the transport serves at once (`Limits.requests`).
SIGNING_ASKERS = 16


class Reading:
    """One method for each kind of question; each takes the authenticated sender and the body."""

    def __init__(self, services: Services, cases: Cases) -> None:
        self._services, self._cases = services, cases
        self._quota, self._activations = Quota(), Quota()
        self._asking, self._signing = Slots(SIGNING_ASKERS, 1), asyncio.Semaphore(SIGNINGS)

    def methods(self) -> dict[str, Callable[[Address, bytes], Awaitable[bytes]]]:
        """What peers may ask, by method."""
        return {
            "question": self._question,
            "evidence": self._evidence,
            "endorsement": self._endorsement,
            "activate": self._activate,
            "result": self._result,
            "block": self._block,
            "running": self._running,
            "alive": self._alive,
        }

    async def _alive(self, _sender: Address, _body: bytes) -> bytes:
        """A sign of life, for who counts the peers that it can reach."""
        return b""

    async def _question(self, sender: Address, body: bytes) -> bytes:
        """Evidence over the asker's nonce, for members (DURING) and owners of the Capsules."""
        request = msg.unpack(msg.Question, body)
        case = self._cases.case(request.commitment)
        role = case.executor
        # From the end of the run on at once: to wait for a Machine that is being erased would look
        # like its silence.
        runs = role is not None and role.state is ExecutorState.RUNNING
        if role is None or not runs or case.state is not TaskState.ADMITTED:
            raise PeerRefused("no machine runs this task here", "ask while it runs")
        allowed = (
            case.members
            if request.during
            else tuple(owners_and_requester(self._cases.spec_of(case)))
        )
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
        case = self._cases.case_with(sender, msg.unpack(msg.EvidenceRequest, body).commitment)
        evidence = self._services.store.blob(evidence_key(case.before_root))
        if evidence is None:
            raise PeerRefused("no such evidence here", "ask the executor")
        return evidence

    async def _endorsement(self, sender: Address, body: bytes) -> bytes:
        """Whose TPM this Node's Machine has, to those who must believe it."""
        self._cases.case_with(sender, msg.unpack(msg.EndorsementRequest, body).commitment)
        return await self._services.voucher.endorsement()

    async def _activate(self, sender: Address, body: bytes) -> bytes:
        """The TPM's answer to a secret of the asker. A TPM takes a while, so each asker has few."""
        request = msg.unpack(msg.ActivationRequest, body)
        case = self._cases.case_with(sender, request.commitment)
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
        case = self._cases.case(request.commitment)
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
