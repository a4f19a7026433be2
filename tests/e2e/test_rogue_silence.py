"""Silence at every step: each task ends by itself, the money leaves, and nobody is stuck.

Silent nodes are stopped by SIGSTOP at the step in question, by themselves: worse than a process
that is gone, because its connections stay open. Their deadlines are mined.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from nodeclient.core.types import TaskState
from nodeclient.p2p.errors import PeerDeclined
from nodeclient.p2p.messages import KeyRelease
from tests.e2e.rogues import Rogue
from tests.e2e.rogues.peer import ask
from tests.e2e.stage import FEES, Stage, wait

UNIT = 10**18
SILENT, NO_ACCEPT, NO_ADMIT, NOT_FINISHED = 3, 4, 5, 7


@pytest.fixture(autouse=True)
def awake(stage: Stage) -> Iterator[None]:
    """Whoever was stopped goes on after the test."""
    yield
    stage.wake()
    wait(lambda: not stage.halted())


@dataclass(frozen=True)
class Step:
    """A silent step: the state in which all wait for it, the cause, and the slash in wei."""

    rogue: Rogue
    silent_in: str
    cause: int
    slash: int = 0


STEPS = (
    Step(Rogue.HALT_LEADING, "DRAWN", NO_ACCEPT),  # the requester draws in its place
    Step(Rogue.HALT_DRAWN, "DRAWN", NO_ACCEPT),
    Step(Rogue.HALT_ACCEPTED, "ACCEPTED", NO_ADMIT),
    Step(Rogue.HALT_ADMITTED, "ADMITTED", NOT_FINISHED, UNIT // 4),
)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.rogue.name)
def test_executor__silent_in_a_state__task_ends_and_money_leaves(stage: Stage, step: Step) -> None:
    books, requester = stage.books, stage.requester
    task = stage.post(step.rogue)
    wait(lambda: len(stage.halted()) == 1)
    stage.driver.until(task, step.silent_in)
    executor = stage.executor(task)
    assert stage.halted() == {executor.name}
    for owner in (stage.driver.b, stage.driver.c):
        role = stage.case(owner, task).broker
        assert role is not None
        if step.silent_in != "ADMITTED":
            assert role.keys == (), "no key before the record"
    deposit, owed = books.deposit(executor), books.owed(requester)
    stage.let_deadline_pass(task)
    assert books.state(task) is TaskState.FAILED

    fate = books.fate(task)
    assert fate.cause == step.cause
    assert fate.lost(executor.account) == [step.cause]
    assert deposit - books.deposit(executor) == step.slash
    reward = books.owed(requester) - owed - (FEES + step.rogue)
    assert 0 <= reward <= step.slash // 10
    owed = books.owed(requester)
    assert owed * 0.9 < books.withdraw(requester) <= owed

    stage.wake()
    wait(lambda: stage.driver.view(task, executor)["state"] == "FAILED")
    assert stage.driver.view(task, executor)["roles"]["executor"] == "closed"


def test_executor__asks_an_owner_for_a_key_before_the_record__refused_and_logged(
    stage: Stage,
) -> None:
    """Keys go one way, and nobody is ever sent one for the asking."""
    task = stage.post(Rogue.HALT_ACCEPTED)
    wait(lambda: len(stage.halted()) == 1)
    executor, owner = stage.executor(task), stage.driver.b
    case = stage.case(owner, task)
    assert case.broker is not None
    wish = KeyRelease(case.commitment, case.broker.cids[0], b"?")
    answers = ask(stage.network, executor, owner, ("key", wish), ("release", wish))
    assert all(isinstance(answer, PeerDeclined) for answer in answers)
    for method in ("key", "release"):
        assert stage.noted(owner, f"refused {method} to {executor.account.lower()}")
    assert stage.case(owner, task).broker == case.broker
    stage.let_deadline_pass(task)


def test_member__one_of_three_hangs__settles_and_its_seat_is_unpaid(stage: Stage) -> None:
    task = stage.post(Rogue.SEAT_0_HALTS)
    stage.driver.until(task, "SETTLED")
    silent, *others = stage.members(task)
    wait(lambda: stage.halted() == {silent.name})
    for node in (stage.driver.b, stage.driver.c):
        assert (stage.driver.results(task, node) / "common.txt").read_text() == "Ada\nHedy\n"
    fate = stage.books.fate(task)
    assert fate.slashed == {}
    assert fate.lost(silent.account) == [SILENT]
    assert not any(fate.lost(node.account) for node in others)


def test_members__two_of_three_hang__refunded_after_the_deadline(stage: Stage) -> None:
    owed, deposits = stage.books.owed(stage.requester), stage.books.deposits()
    rogue = Rogue.SEAT_0_HALTS | Rogue.SEAT_1_HALTS
    task = stage.post(rogue)
    stage.driver.until(task, "ACCEPTED")
    executor, members = stage.executor(task), stage.members(task)
    wait(lambda: stage.halted() == {node.name for node in members[:2]})
    view = stage.let_deadline_pass(task)
    assert (view["state"], view["cause"]) == ("FAILED", NO_ADMIT)
    assert stage.books.owed(stage.requester) - owed == FEES + rogue
    assert stage.books.deposits() == deposits
    stage.wake()
    for node in (executor, *members):
        wait(lambda node=node: set(stage.driver.view(task, node)["roles"].values()) == {"closed"})  # type: ignore[misc]
    for owner in (stage.driver.b, stage.driver.c):
        role = stage.case(owner, task).broker
        assert role is not None
        assert role.keys == ()


def test_requester__never_sends_the_taskspec__fails_and_costs_a_little_reputation(
    stage: Stage,
) -> None:
    books = stage.books
    owed, burned, deposits = books.owed(stage.requester), books.burned(), books.deposits()
    task = stage.post(Rogue.NO_BRIEF)
    stage.driver.until(task, "DRAWN")
    view = stage.let_deadline_pass(task)
    assert (view["state"], view["cause"]) == ("FAILED", NO_ACCEPT)
    fate, executor = books.fate(task), stage.executor(task)
    assert fate.slashed == {}
    assert books.deposits() == deposits
    ((node, cause, before, after),) = fate.reputation
    assert (node, cause) == (bytes.fromhex(executor.account[2:]), NO_ACCEPT)
    assert 0 < before - after < 1_000
    assert books.owed(stage.requester) - owed == FEES + Rogue.NO_BRIEF
    assert books.burned() - burned == stage.network.deployment.parameters["posting_fee"]
