"""A Committee member during the run: questions at its own times, and what the answers show."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import replace

from agent.formats.cbor import FormatError
from agent.formats.evidence import Evidence
from agent.formats.outcome import MAX_ANSWERS
from agent.formats.taskspec import TaskSpec
from nodeclient.attestation.schedule import moments
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.evidence_policy import Nonce, Remembered, remember
from nodeclient.core.schedule import affordable_rate
from nodeclient.core.types import Phase
from nodeclient.duties.appraising import Appraiser
from nodeclient.duties.services import RETRY_SECONDS, Services
from nodeclient.errors import SealrunError
from nodeclient.p2p.errors import PeerDeclined, PeerError
from nodeclient.p2p.messages import EvidenceRequest, Question
from nodeclient.runner import Emit


class Questioner:
    """Asks one Machine until its Task is over."""

    def __init__(self, services: Services, appraiser: Appraiser) -> None:
        self._services, self._appraiser = services, appraiser

    async def learn_before(self, action: do.LearnBefore, _emit: Emit) -> ev.OutcomeEvent:
        """Reads only. What counts is the root on chain, which a quorum affirmed."""
        while True:
            try:
                answer = await self._services.ask(
                    action.task.executor, "evidence", EvidenceRequest(action.commitment)
                )
                evidence = Evidence.decode(answer)
                if evidence.root == action.evidence_root:
                    return ev.BeforeLearned(
                        commitment=action.commitment,
                        evidence_root=evidence.root,
                        summary=remember(evidence).encode(),
                    )
            except (PeerError, FormatError) as error:
                self._services.note(action.commitment, "no evidence to learn from", f": {error}")
            await asyncio.sleep(RETRY_SECONDS)

    async def ask(self, action: do.AskDuring, emit: Emit) -> None:
        """Asks until the Task is over, at times that only this member knows. After a restart it
        asks on with new nonces; the old ones are remembered as asked."""
        last: Remembered | None = None
        told: set[str] = set()
        async for _ in moments(self._rate(action)):
            nonce = secrets.token_bytes(32)
            emit(ev.QuestionDrawn(commitment=action.commitment, nonce=nonce))
            asked = now_ms()
            answer, declined = await self._put(action, nonce)
            if answer is None:
                emit(ev.QuestionDeclined(commitment=action.commitment, asked=asked, told=declined))
                continue
            root, reasons, last = await self._judge_in_the_end(action, nonce, answer, last, told)
            emit(
                ev.QuestionAnswered(
                    commitment=action.commitment,
                    nonce=nonce,
                    evidence_root=root,
                    reasons=reasons,
                    at=now_ms(),
                )
            )
            for text in reasons:
                self._services.note_reason(action.commitment, "DURING contraindicated", text)

    def _rate(self, action: do.AskDuring) -> float:
        """Questions per second: as configured, as far as this member's share of answers lasts."""
        seconds = TaskSpec.decode(action.spec).limits.seconds
        share = MAX_ANSWERS // action.task.committee_size
        return affordable_rate(self._services.settings.question_rate, share, seconds)

    def _has_answers(self, action: do.AskDuring) -> bool:
        """Whether the run has begun, as far as this member saw it."""
        case = self._services.store.case(action.commitment)
        return case is not None and case.member is not None and case.member.watch.first is not None

    async def _put(self, action: do.AskDuring, nonce: bytes) -> tuple[bytes | None, int]:
        """(answer, when it was first declined). The answer is None when the Machine does not run
        now; b"" when nobody answers in time.

        Once the run has begun it is asked again before it counts as declined: a Machine that could
        not answer this once must not look as if it had been kept from answering.
        """
        waited, declined = 0.0, 0
        while waited < self._services.settings.silence_seconds:
            started = asyncio.get_running_loop().time()
            try:
                question = Question(action.commitment, nonce, during=True)
                return await self._services.ask(action.task.executor, "question", question), 0
            except PeerDeclined:
                declined = declined or now_ms()
                if not self._has_answers(action):
                    return None, declined  # before the keys
                await asyncio.sleep(RETRY_SECONDS)
            except PeerError:
                await asyncio.sleep(RETRY_SECONDS)
            waited += asyncio.get_running_loop().time() - started
        return (None, declined) if declined else (b"", 0)

    async def _judge_in_the_end(
        self,
        action: do.AskDuring,
        nonce: bytes,
        answer: bytes,
        last: Remembered | None,
        told: set[str],
    ) -> tuple[bytes, tuple[str, ...], Remembered | None]:
        """Until it can be judged: an answer must not be forgotten because the chain is silent."""
        while True:
            try:
                return await self._judge(action, nonce, answer, last, told)
            except SealrunError as error:
                self._services.note(action.commitment, "an answer waits", f": {error.message}")
                await asyncio.sleep(RETRY_SECONDS)

    async def _judge(
        self,
        action: do.AskDuring,
        nonce: bytes,
        answer: bytes,
        last: Remembered | None,
        told: set[str],
    ) -> tuple[bytes, tuple[str, ...], Remembered | None]:
        """(evidence root, reasons, latest affirmed Evidence). What the Evidence tells without
        being a reason, refused connections say, is noted once; ``told`` remembers it.
        """
        if not answer:
            return b"", ("silence: the machine did not answer in time",), last
        try:
            evidence = Evidence.decode(answer)
            attempt = as_attempt(evidence)
        except FormatError as error:
            return b"", (f"malformed: {error}",), last
        spec = TaskSpec.decode(action.spec)
        expected = replace(
            self._appraiser.expected(action.task, spec, Phase.DURING, attempt),
            nonce=Nonce(nonce),
            before=Remembered.decode(action.before),
            last=last,
        )
        result = await self._appraiser.judge(action.task, action.spec, evidence, expected)
        for text in result.notes:
            if text not in told:
                told.add(text)
                self._services.note(action.commitment, f"DURING: {text}")
        reasons = tuple(f"{each.code}: {each.text}" for each in result.reasons)
        return evidence.root, reasons, last if reasons else remember(evidence)


def now_ms() -> int:
    """Milliseconds of a clock that runs on while this Node's daemon does not."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000)


def as_attempt(evidence: Evidence) -> int:
    """The attempt that Evidence of a run speaks of: the one whose session the record names."""
    stated = evidence.claim("chain")
    attempt = stated.get("attempt") if isinstance(stated, dict) else None
    if not isinstance(attempt, int):
        raise FormatError("claim chain names no attempt")
    return attempt
