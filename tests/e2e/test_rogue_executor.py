"""Executors that run something else, or withhold what they promised; members that do not look.

Every node of the stage would misbehave as this task's executor, so it does not matter who is drawn.
The tasks of the first group run beside each other.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeclient.images.pack import ImageConfig, write_image
from nodeclient.images.verify import verify_image
from tests.e2e.rogues import Rogue
from tests.e2e.rogues.executor import OTHER_IMAGE
from tests.e2e.stage import FEES, MEMBER_FEE, Stage, wait

REFUSED, UNIT = 6, 10**18
LIES = {
    Rogue.OTHER_FUNCTION: "function: another function",
    Rogue.OTHER_IMAGE | Rogue.SEAT_0_SAYS_YES: "runtime-image: the task's",
    Rogue.OTHER_AGENT: "agent: ",
    Rogue.OLD_NONCE: "nonce: does not answer",
}


@pytest.fixture(scope="module")
def other_image(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[bytes]:
    """A second runtime image on every worker: well-formed, loadable, approved by nobody."""
    folder = tmp_path_factory.mktemp("image")
    layer, tar = folder / "layer.tar", folder / "image.tar"
    digest = empty_layer(layer)
    image = write_image(layer, digest, tar, ImageConfig("amd64", 0, ("PATH=/bin",)))
    assert verify_image(tar) == image
    made = []
    for node in stage.workers:
        made += [node.folder / "images" / f"{image.hex()}.tar", node.folder / OTHER_IMAGE]
        made[-2].write_bytes(tar.read_bytes())
        made[-1].write_text(image.hex())
    yield image
    for path in made:
        path.unlink()


def empty_layer(path: Path) -> str:
    """The SHA-256 of a tar with nothing in it."""
    tarfile.open(path, "w").close()
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Lies:
    """The tasks of the first group, ended, and the money before and after all of them."""

    def __init__(self, stage: Stage) -> None:
        books = stage.books
        self.deposits, self.owed = books.deposits(), books.owed(stage.requester)
        self.tasks = {rogue: stage.post(rogue) for rogue in LIES}
        self.views = {rogue: stage.driver.until(task) for rogue, task in self.tasks.items()}
        self.deposits_after = books.deposits()
        self.refunded = books.owed(stage.requester) - self.owed


@pytest.fixture(scope="module")
def lies(stage: Stage, other_image: bytes) -> Lies:
    """Posted once for all tests of the group."""
    return Lies(stage)


@pytest.mark.parametrize("rogue", LIES, ids=lambda rogue: rogue.name)
def test_lying_evidence__quorum_contraindicates__refused_before_any_key(
    stage: Stage, lies: Lies, rogue: Rogue
) -> None:
    task, view = lies.tasks[rogue], lies.views[rogue]
    assert (view["state"], view["cause"]) == ("FAILED", REFUSED), stage.driver.journals(view)
    honest = [
        node
        for node in stage.members(task)
        if stage.driver.noted(node, task, f"BEFORE contraindicated: {LIES[rogue]}")
    ]
    assert len(honest) >= 2
    fate = stage.books.fate(task)
    assert fate.slashed == {}
    assert fate.lost(view["executor"]) == [REFUSED]
    assert len(fate.reputation) == 1, "dissent is not punished"
    for owner in (stage.driver.b, stage.driver.c):
        assert not stage.driver.noted(owner, task, "key released")


def test_yes_sayer__with_a_lying_executor__changes_nothing(stage: Stage, lies: Lies) -> None:
    rogue = Rogue.OTHER_IMAGE | Rogue.SEAT_0_SAYS_YES
    task = lies.tasks[rogue]
    yes, *others = stage.members(task)
    wait(lambda: stage.driver.noted(yes, task, "rogue: AFFIRMING without a look"))
    assert all(stage.driver.noted(node, task, "BEFORE contraindicated") for node in others)
    assert lies.views[rogue]["state"] == "FAILED"


def test_lying_evidence__no_deposit_is_touched_and_all_fees_come_back(lies: Lies) -> None:
    assert lies.deposits_after == lies.deposits
    assert lies.refunded == sum(FEES + rogue for rogue in LIES)


class Later:
    """Two tasks that get as far as their AFTER Evidence."""

    def __init__(self, stage: Stage) -> None:
        books = stage.books
        self.deposits = books.deposits()
        self.withheld = stage.post(Rogue.WITHHOLD_RESULT)
        self.dissented = stage.post(Rogue.SEAT_0_SAYS_NO)
        self.refused = stage.driver.until(self.withheld)
        self.settled = stage.driver.until(self.dissented)


@pytest.fixture(scope="module")
def later(stage: Stage) -> Later:
    """Posted once for the tests of the group."""
    return Later(stage)


def test_withheld_result__members_do_not_affirm__slashed_and_refunded(
    stage: Stage, later: Later
) -> None:
    task, view = later.withheld, later.refused
    assert (view["state"], view["cause"]) == ("FAILED", REFUSED), stage.driver.journals(view)
    fate = stage.books.fate(task)
    executor = stage.executor(task)
    assert fate.slashed == {bytes.fromhex(executor.account[2:]): UNIT}
    assert stage.books.deposit(executor) == later.deposits[executor.name] - UNIT
    assert fate.lost(executor.account) == [REFUSED]
    owners = (stage.driver.b, stage.driver.c)
    wait(lambda: all(stage.driver.noted(node, task, "EXPOSED") for node in owners))
    assert all(stage.driver.view(task, node)["roles"]["receiver"] == "closed" for node in owners)


def test_no_sayer__in_an_honest_task__settles_with_two_of_three(stage: Stage, later: Later) -> None:
    task, view = later.dissented, later.settled
    assert view["state"] == "SETTLED", stage.driver.journals(view)
    wait(lambda: stage.driver.noted(stage.members(task)[0], task, "rogue: CONTRAINDICATED"))
    voters = [
        log["voters"]
        for name in ("TaskAdmitted", "TaskSettled")
        for log in stage.books.logs("TaskMarket", name)
        if log["task"] == task
    ]
    assert voters == [0b110, 0b110]
    for node in (stage.driver.b, stage.driver.c):
        assert (stage.driver.results(task, node) / "common.txt").read_text() == "Ada\nHedy\n"
    assert stage.books.fate(task).slashed == {}


def test_requester__is_owed_fees_of_refused_tasks_and_of_silent_seats__and_gets_them_out(
    stage: Stage, lies: Lies, later: Later
) -> None:
    owed = stage.books.owed(stage.requester)
    refused = FEES + Rogue.WITHHOLD_RESULT
    assert owed >= lies.owed + lies.refunded + refused + MEMBER_FEE
    assert owed * 0.9 < stage.books.withdraw(stage.requester) <= owed
    assert stage.books.owed(stage.requester) == 0
