"""SIGKILL right after every committed transition: the task ends as it should, nothing goes twice.

Each daemon dies once at every new transition and is started again. The transitions that must have
been hit are generated from the tables (``transitions``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import docker
import pytest

from nodeclient.chain.presets import PRESETS
from nodeclient.core import actions as do
from nodeclient.core.case import Role
from nodeclient.errors import DaemonRefused, DaemonUnreachable
from nodeclient.images.engine import DEFAULT_SOCKET
from nodeclient.machine.power import LABEL
from nodeclient.machine.process import AgentProcess
from scripts.embedded.chain import ROOT
from scripts.embedded.job import PATIENT, order
from scripts.embedded.node import NodeProcess
from tests.e2e import quick
from tests.e2e.books import Books
from tests.e2e.conftest import Driver
from tests.e2e.rogues.crashing import KEYS_SEEN, cut_machine, entries
from tests.e2e.supervise import UNTIL_TOLD, tell
from tests.e2e.supervisor import (
    crashed,
    crashing,
    mounts,
    orders,
    performed_twice,
    sealed_keys,
    sent_for,
    spec_hash,
    until,
)
from tests.e2e.transitions import Kind, hit_one_of_each, performed, rows

FUNCTION = ROOT / "examples" / "common-names" / "function"
WAITING = UNTIL_TOLD + (FUNCTION / "main.py").read_text()
CAPSULES = 3  # the function and two inputs
FEES = 10**16 + 3 * 10**15  # of `quick.request`
NOT_FINISHED = 7
ANSWER = b"Ada\nGrace\nHedy\n"


@pytest.fixture
def first_block(driver: Driver) -> int:
    """Transactions of earlier tests lie below."""
    return driver.network.chain.height()


def assert_every_transition_was_hit(nodes: Sequence[NodeProcess], *roles: Role) -> None:
    wanted = set().union(*(rows(role, Kind.PATH) for role in roles))
    races = set().union(*(rows(role, Kind.RACE) for role in roles))
    until(lambda: wanted <= crashed(nodes), f"killed at {sorted(wanted - crashed(nodes))}")
    assert crashed(nodes) - wanted - races == set()
    assert Role.EXECUTOR not in roles or hit_one_of_each(crashed(nodes))


def assert_settled_once(driver: Driver, task: int, first: int) -> None:
    """SETTLED, the right answer for both, one transaction per order, one key per capsule."""
    view = until(lambda: over(driver, task), "the task is over")
    assert view["state"] == "SETTLED", driver.journals(view)
    for owner in (driver.b, driver.c):
        [path] = until(lambda node=owner: results(node, task), f"{owner.name} has its result")
        assert (Path(path) / "common.txt").read_bytes() == ANSWER
    assert_sent_once(driver, view, first)
    assert_one_key_each(driver, view)


def over(driver: Driver, task: int) -> dict[str, object] | None:
    view = driver.view(task)
    return view if view["state"] in ("SETTLED", "FAILED", "EXPIRED") else None


def results(node: NodeProcess, task: int) -> list[str]:
    return [each["path"] for each in node.get(f"/v1/tasks/{task}/results")["results"]]


def assert_sent_once(driver: Driver, view: dict[str, object], first: int) -> None:
    posted = spec_hash(driver.requester, str(view["commitment"]))
    sent = sent_for(driver.network, first, int(str(view["task"])), posted)
    executor = str(view["executor"]).lower()
    assert set(sent.values()) == {1}, sent
    functions = sorted(name for _, name in sent if name != "claim")
    # A leader that had the TaskSpec too late, over all the deaths, accepts apart.
    assert [name for name in functions if name != "accept"] == ["admit", "draw", "finish", "post"]
    assert {who for who, name in sent if name not in ("post", "claim")} == {executor}


def assert_one_key_each(driver: Driver, view: dict[str, object]) -> None:
    """What each owner journalled is what it sent, every time, and the Agent was given it once."""
    commitment = str(view["commitment"])
    executor = driver.by_account(str(view["executor"]))
    released: set[tuple[str, bytes]] = set()
    for owner in (driver.requester, driver.b, driver.c):
        assert orders(owner, do.SealKeys, commitment) == 1
        assert orders(owner, do.SendKeys, commitment) == 1
        released |= sealed_keys(owner, commitment)
    assert len(released) == len({cid for cid, _ in released}) == CAPSULES
    assert orders(executor, do.DeliverKey, commitment) == CAPSULES
    seen = {(e["cid"], bytes.fromhex(e["sealed"])) for e in entries(executor.folder / KEYS_SEEN)}
    assert seen in (set(), released)  # the tap is on crashing executors only


def post_while_crashing(driver: Driver, inputs: Sequence[Path]) -> int:
    """Order a task and find its number, also when the requester dies over the answer."""
    request = quick.request(driver, FUNCTION, inputs)
    before = known_tasks(driver)
    with contextlib.suppress(DaemonUnreachable, DaemonRefused):  # dead, or long at it
        driver.requester.submit(request)
    [task] = until(lambda: known_tasks(driver) - before, "the task is on chain")
    return task


def known_tasks(driver: Driver) -> set[int]:
    tasks = driver.requester.get("/v1/status")["tasks"]
    return {each["task"] for each in tasks if each["task"] is not None}


def test_everybody_killed_at_every_transition__settles_and_nothing_goes_twice(
    driver: Driver, lists: tuple[Path, Path], first_block: int
) -> None:
    """The executor's, every member's, both owners' and the requester's daemon, in one task."""
    workers, people = list(driver.network.workers.values()), list(driver.network.people.values())
    work, own = (Role.EXECUTOR, Role.MEMBER), (Role.BROKER, Role.RECEIVER, Role.REQUESTER)
    with crashing(workers, *work), crashing(people, *own):
        task = post_while_crashing(driver, lists)
        assert_settled_once(driver, task, first_block)
        assert_every_transition_was_hit(workers, *work)
        assert_every_transition_was_hit(people, *own)


def test_everybody_killed_between_every_effect_and_its_outcome__settles_and_nothing_goes_twice(
    driver: Driver, lists: tuple[Path, Path], first_block: int
) -> None:
    """Every kind of order is carried out twice; "harmless twice" is what its effect promises."""
    nodes = list(driver.network.nodes.values())
    with crashing(nodes, "--effects"):
        task = post_while_crashing(driver, lists)
        assert_settled_once(driver, task, first_block)
        missing = performed() - performed_twice(nodes)
        until(lambda: performed() <= performed_twice(nodes), f"twice: {missing}")


def test_executor_killed_while_the_function_runs__machine_goes_on_and_is_found_again(
    driver: Driver,
    lists: tuple[Path, Path],
    make_function: Callable[[str], Path],
    first_block: int,
) -> None:
    task = order(driver.requester, quick.request(driver, make_function(WAITING), lists))
    running = until(lambda: containers(driver), "the function runs")
    executor = driver.by_account(driver.view(task)["executor"])
    executor.kill()
    assert containers(driver) == running
    executor.start()
    executor.wait()
    assert containers(driver) == running
    tell(running)
    assert_settled_once(driver, task, first_block)
    assert booted(driver, executor, task) == ["BEFORE", "AFTER"]


def test_executor_and_machine_killed_before_the_record__boots_again_and_settles(
    driver: Driver, lists: tuple[Path, Path], first_block: int
) -> None:
    workers = list(driver.network.workers.values())
    moment = ("--only", "PREPARING:TaskPrepared", "--with-machine")
    with crashing(workers, Role.EXECUTOR, *moment):
        task = order(driver.requester, quick.request(driver, FUNCTION, lists))
        assert_settled_once(driver, task, first_block)
        assert {event for _, _, event, _ in crashed(workers)} == {"TaskPrepared"}
        executor = driver.by_account(driver.view(task)["executor"])
        assert booted(driver, executor, task) == ["BEFORE", "BEFORE", "AFTER"]


def test_executor_and_machine_killed_while_the_function_runs__fails_and_owners_are_warned(
    driver: Driver, lists: tuple[Path, Path], make_function: Callable[[str], Path]
) -> None:
    """No owner releases a second key, so nothing can save the task: it must end for everybody."""
    books, requester = Books(driver.network), driver.requester
    owed = books.owed(requester)
    task = order(driver.requester, quick.request(driver, make_function(WAITING), lists))
    until(lambda: containers(driver), "the function runs")
    executor = driver.by_account(driver.view(task)["executor"])
    deposit = books.deposit(executor)
    executor.kill()
    cut_machine(executor.folder)
    assert containers(driver)  # the engine is the host's: until somebody finds the Machine off
    executor.start()
    executor.wait()
    until(lambda: not containers(driver) and not mounts(executor), "the lost Machine is cleaned")
    until(lambda: "went off" in " ".join(driver.view(task, executor)["reasons"]), "it says why")
    driver.network.chain.mine(PRESETS["anvil"].classes[PATIENT][2])
    assert driver.until(task, "FAILED")["cause"] == NOT_FINISHED
    for owner in (driver.b, driver.c):
        until(lambda node=owner: driver.noted(node, task, "EXPOSED"), f"{owner.name} is warned")
        assert orders(owner, do.SendKeys, driver.view(task)["commitment"]) == 1
    assert books.deposit(executor) < deposit
    assert books.owed(requester) - owed >= FEES


def containers(driver: Driver) -> list[str]:
    """Ids of this network's functions that run."""
    machines = {
        AgentProcess(node.folder / "machine", DEFAULT_SOCKET).label
        for node in driver.network.workers.values()
    }
    engine = docker.from_env()
    try:
        found = engine.containers.list(filters={"label": LABEL}, ignore_removed=True)
        return [each.id for each in found if each.labels[LABEL] in machines]
    finally:
        engine.close()


def booted(driver: Driver, node: NodeProcess, task: int) -> list[str]:
    """Phases for which a node booted its Machine, in order."""
    commitment = driver.view(task)["commitment"]
    return [
        line["what"].rpartition(" ")[2]
        for line in reversed(node.get("/v1/journal")["journal"])
        if line["commitment"] == commitment and line["what"].startswith("machine booted")
    ]
