"""The runner and its store: what is durable, what is told twice, what strangers cannot fill."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.case import Case, Role
from nodeclient.core.types import Commitment, Phase, TaskId, TaskState, Verdict
from nodeclient.errors import ChainUnavailable
from nodeclient.runner import RefusedByPeer, Runner
from nodeclient.store.database import Store
from nodeclient.store.freezing import row_key
from tests.core.test_roles import (
    ASKER,
    COMMITMENT,
    ME,
    OTHER,
    OWNER,
    SPEC,
    STATEMENT,
    accepted,
    admitted,
    block,
    claimed,
    consent_asked,
    drawn,
    me,
    posted,
    settled,
    vote,
)

SECOND = Commitment(b"2" * 32)
Do = Callable[[do.Action], Awaitable[ev.OutcomeEvent | None]]


async def nothing(_action: do.Action) -> None:
    await asyncio.Event().wait()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "node.db", bytes(32))


def runner_of(store: Store, effect: Do = nothing, *roles: Role) -> Runner:
    async def perform(action: do.Action, _emit: object) -> ev.OutcomeEvent | None:
        return await effect(action)

    effects = dict.fromkeys(do.Action.__subclasses__(), perform)
    return Runner(store, me(ME, *roles), effects, lambda _event: None)


def on_chain(runner: Runner, *events: ev.TaskEvent) -> None:
    for number, event in enumerate(events):
        runner.on_chain(replace(event, log_index=number))


async def test_refused_consent__leaves_nothing_in_the_store(store: Store) -> None:
    runner = runner_of(store)
    for number in range(3):
        asked = replace(consent_asked(1, "no policy"), commitment=Commitment(bytes([number]) * 32))
        with pytest.raises(RefusedByPeer):
            await runner.ask(lambda n, asked=asked: replace(asked, request=n), 1.0)
    assert store.cases() == []


async def test_restart__row_whose_worker_runs_already__is_not_done_twice(store: Store) -> None:
    begun: list[do.Action] = []

    async def effect(action: do.Action) -> None:
        begun.append(action)
        await asyncio.Event().wait()

    runner = runner_of(store, effect, Role.EXECUTOR)
    on_chain(runner, posted(), claimed(ME), drawn(ME))
    case = store.case(COMMITMENT)
    assert case is not None
    store.apply(case, [do.VetTask(commitment=COMMITMENT, spec=b"s")])
    runner.resume()
    runner.resume()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(begun) == 1
    await runner.stop()


async def test_stop__what_comes_afterwards__is_kept_and_not_begun(store: Store) -> None:
    begun: list[do.Action] = []

    async def effect(action: do.Action) -> None:
        begun.append(action)

    runner = runner_of(store, effect, Role.EXECUTOR)
    on_chain(runner, posted(), claimed(ME), drawn(ME))
    await runner.stop()
    begun.clear()
    store.apply(known(store), [do.VetTask(commitment=COMMITMENT, spec=b"s")])
    runner.resume()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert begun == []
    again = runner_of(store, effect, Role.EXECUTOR)
    again.resume()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert begun
    await again.stop()


@pytest.mark.parametrize("kind", [do.AppraiseEvidence, do.SignDissent])
async def test_settled_while_a_member_judges__its_vote_is_shown_all_the_same(
    store: Store, kind: type[do.Action]
) -> None:
    cast = replace(vote(Verdict.CONTRAINDICATED), phase=Phase.AFTER)
    judged, shown = asyncio.Event(), asyncio.Queue[do.SubmitExcuse]()

    async def effect(action: do.Action) -> ev.OutcomeEvent | None:
        if isinstance(action, do.SubmitExcuse):
            shown.put_nowait(action)
        if isinstance(action, kind):
            await judged.wait()
            return ev.DissentSigned(commitment=COMMITMENT, vote=cast)
        return await nothing(action)

    runner = runner_of(store, effect, Role.MEMBER)
    members = (ME, OWNER, ASKER)
    on_chain(runner, posted(), claimed(OTHER), drawn(OTHER, members), accepted(), admitted())
    task = known(store).on_chain()
    order: do.Action = do.SignDissent(
        commitment=COMMITMENT, task=task, phase=Phase.AFTER, attempt=1, header=bytes(32)
    )
    if kind is do.AppraiseEvidence:
        order = do.AppraiseEvidence(
            commitment=COMMITMENT,
            task=task,
            spec=SPEC,
            members=members,
            phase=Phase.AFTER,
            statement=STATEMENT,
            evidence=b"e",
            nonces=(),
            own_nonce=b"n",
            asked=(),
            answers=(),
            before=b"",
            findings=(),
        )
    store.apply(None, [order])
    runner.resume()
    await asyncio.sleep(0)
    on_chain(runner, settled(0b110))
    judged.set()
    assert (await asyncio.wait_for(shown.get(), 30)).vote == cast
    await runner.stop()


def known(store: Store) -> Case:
    case = store.case(COMMITMENT)
    assert case is not None
    return case


async def test_done_order__keeps_its_key_and_not_its_body(store: Store) -> None:
    order = do.VetTask(commitment=COMMITMENT, spec=b"e" * 100_000)
    (row,) = store.apply(None, [order])
    store.apply(None, (), closes=row.key)
    assert store.apply(None, [order]) == []
    (size,) = store._one("SELECT length(body) FROM outbox WHERE key = ?", row_key(order))
    assert size == 0


async def test_unexpected_fact__the_chains_view_is_kept_all_the_same(store: Store) -> None:
    runner = runner_of(store, nothing, Role.BROKER)
    await asyncio.gather(
        runner.ask(lambda n: replace(consent_asked(), request=n), 0.01), return_exceptions=True
    )
    on_chain(runner, posted(10), drawn(OTHER), accepted())
    case = store.case(COMMITMENT)
    assert case is not None
    assert case.broker is not None
    wedged = replace(case, broker=replace(case.broker, state=next(iter(type(case.broker.state)))))
    store.apply(wedged, ())  # a table with a hole: CONSENTED does not expect the end
    runner.on_chain(
        ev.TaskFailed(block=block(30), log_index=0, tx_hash=b"", task=TaskId(1), cause=5)
    )
    case = store.case(COMMITMENT)
    assert case is not None
    assert case.state is TaskState.FAILED
    await runner.stop()


async def test_reorganisation__task_id_goes_to_another_posting__neither_blocks_the_other(
    store: Store,
) -> None:
    runner = runner_of(store, nothing, Role.EXECUTOR)
    on_chain(runner, posted(10))
    runner.on_chain(ev.BlockSeen(block(12)))
    runner.on_chain(ev.ChainReorganised(9))
    on_chain(runner, replace(posted(10), commitment=SECOND))
    runner.on_chain(ev.BlockSeen(block(13)))
    second = store.case_of(TaskId(1))
    assert second is not None
    assert second.commitment == SECOND
    on_chain(runner, replace(posted(14), task=TaskId(2)))
    first = store.case_of(TaskId(2))
    assert first is not None
    assert first.commitment == COMMITMENT
    await runner.stop()


async def test_heads__are_remembered_and_forgotten_with_a_reorganisation(store: Store) -> None:
    runner = runner_of(store)
    for number in range(1, 400):
        runner.on_chain(ev.BlockSeen(block(number)))
    assert store.blocks()[-1] == block(399)
    assert len(store.blocks()) == 256
    runner.on_chain(ev.ChainReorganised(390))
    assert store.blocks()[-1] == block(390)
    assert store.cursor() is not None


async def test_journal__has_an_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodeclient.store.database.KEPT_NOTES", 5)
    for number in range(20):
        store.note(0.0, None, str(number))
    assert [what for _, _, what in store.notes()] == ["19", "18", "17", "16", "15"]


async def test_block__loads_only_cases_with_a_part_left(store: Store) -> None:
    runner = runner_of(store, nothing, Role.EXECUTOR)
    on_chain(runner, posted(10), claimed(OTHER), drawn(OTHER, (OWNER,)))
    assert store.open_cases() == []
    assert isinstance(store.case(COMMITMENT), Case)


async def test_failing_effect__says_nothing_of_the_task_in_the_log(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def effect(_action: do.Action) -> None:
        if not failures:
            over.set()
            return
        raise failures.pop()

    failures: list[Exception] = [ChainUnavailable("canary", "x"), KeyError("canary")]
    over = asyncio.Event()
    caplog.set_level("DEBUG")
    runner = runner_of(store, effect)
    store.apply(None, [do.VetTask(commitment=COMMITMENT, spec=b"s")])
    runner.resume()
    await over.wait()
    await runner.stop()
    assert "KeyError" in caplog.text
    assert "canary" not in caplog.text
