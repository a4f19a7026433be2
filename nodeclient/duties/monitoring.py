"""The Node's own watch over its Machine, besides the Committee's: questions and a pulse.

Questions come at own, memoryless times with own nonces, and the answers are appraised as a member
would, against the own copy of the boot image and with the TPM's key proved. What the operator knows
of a Machine of his own needs no permission: who vouches for it, and what of it is simulated.

The pulse is one short call after the other. A Machine that answers neither within
``silence_seconds`` is silent, whatever the reason: frozen, slowed down, cut off. Everything found
goes to ``report``, and nothing is decided here.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable
from dataclasses import replace
from typing import TypeVar

from agent.formats.cbor import FormatError
from agent.formats.evidence import PI_ONLY, TPM_QUOTED, Evidence
from agent.formats.messages import MONITOR, Question, State, Status
from agent.formats.taskspec import TaskSpec
from nodeclient.attestation.schedule import moments
from nodeclient.core import actions as do
from nodeclient.core import claims
from nodeclient.core.evidence_policy import (
    AppraisalPolicy,
    Expected,
    Nonce,
    Remembered,
    remember,
)
from nodeclient.core.incidents import Incident, Kind
from nodeclient.core.roles import execution
from nodeclient.core.types import Address, Phase, Statement
from nodeclient.duties.appraising import Appraiser
from nodeclient.duties.machine import as_evidence, context, evidence_key
from nodeclient.duties.services import Services
from nodeclient.errors import MachineError, MachineRefused, SealrunError
from nodeclient.p2p.messages import ActivationRequest
from nodeclient.runner import Effect, Emit

PULSE_SECONDS = 1.0  # between two short calls
WATCHED = (
    execution.State.GATHERING,
    execution.State.PROVING,
    execution.State.POLLING,
    execution.State.ADMITTING,
    execution.State.RUNNING,
)
Answer = TypeVar("Answer")


class Silent(Exception):
    """The Machine did not answer in time, or is gone."""


def effects(services: Services) -> dict[type[do.Action], Effect]:
    """The table of this module."""

    async def monitor(action: do.MonitorMachine, emit: Emit) -> None:
        """Reads only. Ends when the boot is watched no more; a restarted Node goes on asking."""
        watcher = Watcher(services, action)
        asking = asyncio.create_task(watcher.ask())
        try:
            await watcher.feel_pulse()
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    return {do.MonitorMachine: monitor}


class Watcher:
    """Watches one boot while a Task is on it."""

    def __init__(self, services: Services, action: do.MonitorMachine) -> None:
        self._services, self._action = services, action
        self._spec = TaskSpec.decode(action.spec)
        self._last: Remembered | None = None
        self._told: set[str] = set()

    @property
    def wanted(self) -> bool:
        """Whether this boot still holds the Task, as far as the rules know."""
        case = self._services.store.case(self._action.commitment)
        role = case.executor if case is not None else None
        return (
            role is not None
            and role.state in WATCHED
            and role.phase is Phase.BEFORE
            and role.resume == self._action.resume
        )

    async def feel_pulse(self) -> None:
        """Until nobody wants it: call, and report a silence once for each bound that it lasts."""
        while self.wanted:
            try:
                await self._call("status", None)
            except Silent as silent:
                self._report(Kind.SILENCE, str(silent))
            except MachineRefused:
                pass  # it answers
            await asyncio.sleep(PULSE_SECONDS)

    async def ask(self) -> None:
        """At own times: a question, and the appraisal of its answer."""
        async for _ in moments(self._services.settings.monitor_rate):
            if not self.wanted:
                return
            try:
                await self._ask_once()
            except Silent as silent:
                self._report(Kind.SILENCE, str(silent))
            except MachineRefused as error:
                if error.code == "machine_failed":
                    self._report(Kind.APPRAISAL, f"the agent cannot look: {error.message}")
            except FormatError as error:
                self._report(Kind.APPRAISAL, f"malformed: {error}")
            except SealrunError as error:  # no chain, say: the next question is judged
                self._services.note(self._action.commitment, "not judged", f": {error.message}")

    async def _ask_once(self) -> None:
        phase = await self._phase()
        if phase is None:
            return
        nonce, action = secrets.token_bytes(32), self._action
        asked = context(self._services.me, action.task, phase, action.attempt)
        answer = await self._call(MONITOR, Question(nonce, asked).to_body())
        evidence = Evidence.decode(as_evidence(answer))
        reasons = await self._reasons(evidence, phase, nonce)
        for text in reasons:
            self._report(Kind.APPRAISAL, text)
        if not reasons and phase.name not in self._told:
            self._told.add(phase.name)
            self._services.note(action.commitment, f"own appraisal: {phase.name} affirmed")

    async def _phase(self) -> Phase | None:
        """What the Agent can be asked about now."""
        status = Status.from_body(await self._call("status", None))
        if status.state is State.PREPARED:
            return Phase.BEFORE
        return Phase.DURING if status.state in (State.RUNNING, State.DONE) else None

    async def _reasons(self, evidence: Evidence, phase: Phase, nonce: bytes) -> tuple[str, ...]:
        """Every reason of the own appraisal; its codes, which hold nothing of a task."""
        action, services = self._action, own_view(self._services, self._action, evidence)
        appraiser = Appraiser(services)
        expected = appraiser.expected(action.task, self._spec, phase, action.attempt)
        expected = self._known(replace(expected, nonce=Nonce(nonce)), evidence)
        result = await appraiser.judge(action.task, action.spec, evidence, expected)
        if not result.reasons:
            self._last = remember(evidence)
        for each in result.reasons:
            services.note_reason(action.commitment, "own appraisal", f"{each.code}: {each.text}")
        return tuple(dict.fromkeys(each.code.value for each in result.reasons))

    def _known(self, expected: Expected, evidence: Evidence) -> Expected:
        """BEFORE: the session of the boot's hello. DURING: the Evidence behind the record."""
        if expected.phase is Phase.BEFORE:
            stated = Statement(
                expected.attempt, evidence.nonce, evidence.root, self._action.session_hash, 0, 0
            )
            return replace(expected, statement=stated)
        store = self._services.store
        case = store.case(self._action.commitment)
        recorded = store.blob(evidence_key(case.before_root)) if case is not None else None
        if recorded is None:
            raise FormatError("the evidence behind the record is not stored here")
        return replace(expected, before=remember(Evidence.decode(recorded)), last=self._last)

    async def _call(self, method: str, body: object) -> object:
        """Raises Silent, MachineRefused."""
        machine, bound = self._services.machine, self._services.settings.silence_seconds
        try:
            return await in_time(machine.call(self._action.resume, method, body), bound)
        except MachineRefused:
            raise
        except MachineError as error:
            raise Silent(f"the machine is gone: {error.message}") from error

    def _report(self, kind: Kind, text: str) -> None:
        if self.wanted:  # what ended meanwhile is no finding: a boot that is over answers nobody
            self._services.report(Incident(kind, text))


async def in_time(answer: Awaitable[Answer], seconds: float) -> Answer:
    """Raises Silent after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        raise Silent(f"no answer in {seconds:g} s") from None


def own_view(services: Services, action: do.MonitorMachine, evidence: Evidence) -> Services:
    """The same adapters, judging a Machine of one's own: its TPM is asked without a network."""

    async def ask(_peer: Address, method: str, message: object) -> bytes:
        if method == "activate" and isinstance(message, ActivationRequest):
            return await services.voucher.activate(action.resume, message)
        return await services.voucher.endorsement()

    accepted = AppraisalPolicy(
        frozenset({PI_ONLY, TPM_QUOTED}), frozenset({*claims.simulated(evidence), "root"})
    )
    return replace(
        services,
        endorser=services.endorser.asking(ask),
        settings=replace(services.settings, appraisal=accepted),
    )
