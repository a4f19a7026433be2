"""A Committee member during the run: questions at its own times, and what the answers show."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

from agent.formats.cbor import FormatError
from agent.formats.evidence import Evidence
from agent.formats.taskspec import TaskSpec
from nodeclient.attestation.schedule import next_wait
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.evidence_policy import Nonce, Remembered, remember
from nodeclient.core.types import Phase
from nodeclient.duties.appraising import Appraiser
from nodeclient.duties.services import RETRY_SECONDS, Services
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
        while True:
            await asyncio.sleep(next_wait(self._services.settings.question_rate))
            nonce = secrets.token_bytes(32)
            emit(ev.QuestionDrawn(commitment=action.commitment, nonce=nonce))
            answer = await self._put(action, nonce)
            if answer is None:
                continue
            root, reasons, last = await self._judge(action, nonce, answer, last, told)
            emit(
                ev.QuestionAnswered(
                    commitment=action.commitment, nonce=nonce, evidence_root=root, reasons=reasons
                )
            )
            for text in reasons:
                self._services.note_reason(action.commitment, "DURING contraindicated", text)

    async def _put(self, action: do.AskDuring, nonce: bytes) -> bytes | None:
        """The answer; None when the Machine does not run now; b"" when nobody answers in time."""
        waited = 0.0
        while waited < self._services.settings.silence_seconds:
            started = asyncio.get_running_loop().time()
            try:
                question = Question(action.commitment, nonce, during=True)
                return await self._services.ask(action.task.executor, "question", question)
            except PeerDeclined:
                return None  # the Machine does not run now: before the keys, or after the end
            except PeerError:
                await asyncio.sleep(RETRY_SECONDS)
            waited += asyncio.get_running_loop().time() - started
        return b""

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


def as_attempt(evidence: Evidence) -> int:
    """The attempt that Evidence of a run speaks of: the one whose session the record names."""
    stated = evidence.claim("chain")
    attempt = stated.get("attempt") if isinstance(stated, dict) else None
    if not isinstance(attempt, int):
        raise FormatError("claim chain names no attempt")
    return attempt
