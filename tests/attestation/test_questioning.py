"""A member's questions: what counts as silence, as a decline, as dropped, and what is kept."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from nodeclient.attestation import schedule
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.appraisal import AttestationResult
from nodeclient.core.reasons import Code, reason
from nodeclient.core.types import Address, Phase, Verdict
from nodeclient.core.watch import Watch
from nodeclient.duties import questioning
from nodeclient.duties.questioning import Questioner
from nodeclient.errors import ChainUnavailable
from nodeclient.p2p.errors import PeerBusy, PeerDeclined, PeerSilent
from nodeclient.p2p.messages import Question
from tests.core.evidence_kit import SPEC, before_remembered, make_kit

GOOD = AttestationResult(Verdict.AFFIRMING, (), ())
BAD = AttestationResult(Verdict.CONTRAINDICATED, (reason(Code.AGENT, "another"),), ())
EVIDENCE = make_kit(Phase.DURING).evidence()
DECLINED = PeerDeclined("no machine runs this task here", "ask while it runs")
SILENT = PeerSilent("no answer", "ask again")
BUSY = PeerBusy("busy", "ask again")


@dataclass
class Executor:
    """Answers as scripted, then as the last word says; judged as scripted, then as good."""

    says: list[Exception | None] = field(default_factory=lambda: [None])
    judged: list[AttestationResult | Exception] = field(default_factory=list)
    first: int | None = None
    silence: float = 0.1
    rate: float = 1_000.0
    spec: Any = SPEC
    asked: list[bytes] = field(default_factory=list)
    events: list[ev.OutcomeEvent] = field(default_factory=list)

    async def ask(self, _peer: Address, method: str, message: Question) -> bytes:
        assert (method, message.during) == ("question", True)
        await asyncio.sleep(0)
        self.asked.append(message.nonce)
        word = self.says[0] if len(self.says) == 1 else self.says.pop(0)
        if word is not None:
            raise word
        return EVIDENCE.encode()

    async def judge(self, *_: object) -> AttestationResult:
        verdict = self.judged.pop(0) if self.judged else GOOD
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    async def until(self, enough: Callable[[list[ev.OutcomeEvent]], bool]) -> None:
        """Let a member ask until its events suffice."""
        done = asyncio.Event()

        def emit(event: ev.OutcomeEvent) -> None:
            self.events.append(event)
            if isinstance(event, ev.QuestionAnswered) and event.evidence_root and not self.first:
                self.first = event.at or 1
            if enough(self.events):
                done.set()

        member = SimpleNamespace(watch=Watch(first=self.first))
        services: Any = SimpleNamespace(
            ask=self.ask,
            settings=SimpleNamespace(question_rate=self.rate, silence_seconds=self.silence),
            store=SimpleNamespace(
                case=lambda _c: SimpleNamespace(
                    member=SimpleNamespace(watch=replace(member.watch, first=self.first))
                )
            ),
            note=lambda *_: None,
            note_reason=lambda *_: None,
        )
        appraiser: Any = SimpleNamespace(
            judge=self.judge, expected=lambda *_: make_kit(Phase.DURING).expected
        )
        task: Any = SimpleNamespace(executor=Address(bytes(20)), committee_size=3)
        action = do.AskDuring(
            commitment=b"c" * 32,  # type: ignore[arg-type]
            task=task,
            spec=self.spec.encode(),
            before=before_remembered().encode(),
        )
        asking = asyncio.create_task(Questioner(services, appraiser).ask(action, emit))
        try:
            await asyncio.wait_for(done.wait(), 60)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questioning, "RETRY_SECONDS", 0.01)


def seen(kind: type, number: int = 1) -> Callable[[list[ev.OutcomeEvent]], bool]:
    return lambda events: sum(isinstance(event, kind) for event in events) >= number


async def test_answered__nonce_is_kept_before_it_leaves_and_never_comes_twice() -> None:
    executor = Executor()
    await executor.until(seen(ev.QuestionAnswered, 5))
    drawn = [event.nonce for event in executor.of(ev.QuestionDrawn)]
    assert executor.asked == drawn[: len(executor.asked)]
    assert len(set(drawn)) == len(drawn)
    assert [type(event) for event in executor.events[:2]] == [
        ev.QuestionDrawn,
        ev.QuestionAnswered,
    ]
    assert {event.reasons for event in executor.of(ev.QuestionAnswered)} == {()}


@pytest.mark.parametrize("word", [SILENT, BUSY])
async def test_no_answer_for_the_whole_bound__silence(word: Exception) -> None:
    executor = Executor(says=[word])
    await executor.until(seen(ev.QuestionAnswered))
    answer = executor.of(ev.QuestionAnswered)[0]
    assert answer.evidence_root == b""
    assert answer.reasons[0].startswith("silence")
    assert executor.asked.count(answer.nonce) > 2, "the same question until the bound"


async def test_silent_for_less_than_the_bound__no_finding() -> None:
    executor = Executor(says=[SILENT, BUSY, SILENT, None], silence=30)
    await executor.until(seen(ev.QuestionAnswered))
    assert executor.of(ev.QuestionAnswered)[0].reasons == ()


async def test_declined_before_the_run__told_as_such_and_asked_no_second_time() -> None:
    executor = Executor(says=[DECLINED])
    await executor.until(seen(ev.QuestionDeclined, 3))
    assert executor.of(ev.QuestionAnswered) == []
    assert len(executor.asked) == len(set(executor.asked))
    assert all(event.asked <= event.told for event in executor.of(ev.QuestionDeclined))


async def test_declined_once_during_the_run__asked_again_and_no_decline() -> None:
    """A Machine that failed once must not look as if its Pi had dropped the question."""
    executor = Executor(says=[None, DECLINED, DECLINED, None], silence=30)
    await executor.until(seen(ev.QuestionAnswered, 3))
    assert executor.of(ev.QuestionDeclined) == []


async def test_dropped_during_the_run__declined_since_the_first_no(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = itertools.count()
    monkeypatch.setattr(questioning, "now_ms", lambda: next(looks))
    executor = Executor(says=[DECLINED], first=1)
    await executor.until(seen(ev.QuestionDeclined))
    event = executor.of(ev.QuestionDeclined)[0]
    assert len(executor.asked) > 2
    assert (event.asked, event.told) == (0, 1), "not since the last one"


async def test_chain_is_away_while_a_bad_answer_is_judged__it_is_not_forgotten() -> None:
    executor = Executor(judged=[ChainUnavailable("no chain", "wait"), BAD])
    await executor.until(seen(ev.QuestionAnswered))
    assert executor.of(ev.QuestionAnswered)[0].reasons == ("agent: another",)


async def test_rate__long_task__asks_as_often_as_its_share_lasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates: list[float] = []

    async def watched(rate: float) -> Any:
        rates.append(rate)
        async for moment in schedule.moments(1_000.0):
            yield moment

    monkeypatch.setattr(questioning, "moments", watched)
    long = replace(SPEC, limits=replace(SPEC.limits, seconds=3_000))
    for spec, rate in ((SPEC, 0.5), (long, 0.5)):
        await Executor(spec=spec, rate=rate).until(seen(ev.QuestionAnswered))
    assert rates[0] == min(0.5, 341 / (2 * SPEC.limits.seconds))
    assert rates[1] == 341 / 6_000
