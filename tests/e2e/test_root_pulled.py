"""The root is pulled out at each step of a task: the task ends, the money leaves, nothing is lost.

A network of its own, whose nodes have a TPM each (swtpm): the shared one has keys in files, which
nobody can pull out. The executor is stopped at a step, its TPM loses power, and it goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeclient.chain import registry
from nodeclient.core.types import NodeStatus, TaskState
from nodeclient.identity.folder import open_folder
from scripts.embedded.chain import ROOT
from scripts.embedded.network import Network
from scripts.embedded.node import NodeProcess
from scripts.embedded.swtpm import ServedTpm
from tests.e2e.books import address
from tests.e2e.conftest import BLOCK_SECONDS, PEOPLE, SILENCE_SECONDS, WORKERS, Driver
from tests.e2e.rogues import Rogue
from tests.e2e.stage import FEES, Stage, wait
from tests.e2e.supervise import restart

UNIT = 10**18
# Why a task fails that stands still in a state, and what that costs the executor, in wei.
ENDS = {
    TaskState.DRAWN: (4, 0),
    TaskState.ACCEPTED: (5, 0),
    TaskState.ADMITTED: (7, UNIT // 4),
}


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Nodes with a TPM each, and workers that stop at a step where a task says so."""
    machine = {"question_rate": 1.0, "silence_seconds": SILENCE_SECONDS}
    with Network(
        ROOT / "var" / "e2e-roots",
        PEOPLE,
        WORKERS,
        block_seconds=BLOCK_SECONDS,
        machine=machine,
        root="tpm2",
    ) as network:
        stage = Stage(Driver(network), tmp_path_factory.mktemp("pulled"))
        with stage.swapped():
            yield stage


def device(stage: Stage, node: NodeProcess) -> ServedTpm:
    found = stage.network.roots.devices[node.name]  # type: ignore[attr-defined]
    assert isinstance(found, ServedTpm)
    return found


def status(stage: Stage, node: NodeProcess) -> NodeStatus:
    record = stage.books.ask(lambda reader: reader.node(address(node)))
    assert record is not None
    return record.status


def pull(stage: Stage, node: NodeProcess) -> None:
    """Cut the power of a node's TPM, and wait until its daemon has ended."""
    device(stage, node).stop()
    stage.wake()
    wait(lambda: not node.running)


def plug_in(stage: Stage, node: NodeProcess) -> None:
    """Give it back, start the daemon, and put the node into the draw again."""
    device(stage, node).start()
    node.start()
    node.wait()
    stage.books.send(node, registry.resume(f"back/{stage.network.chain.height()}"))
    wait(lambda: status(stage, node) is NodeStatus.ACTIVE)


@pytest.mark.parametrize(
    "rogue", [Rogue.HALT_DRAWN, Rogue.HALT_ACCEPTED, Rogue.HALT_ADMITTED], ids=lambda r: r.name
)
def test_executor__root_pulled_at_a_step__task_fails_with_a_refund(
    pulled: Stage, rogue: Rogue
) -> None:
    books, requester = pulled.books, pulled.requester
    task = pulled.post(rogue)
    wait(lambda: len(pulled.halted()) == 1)
    executor = pulled.executor(task)
    before = {path: path.read_bytes() for path in sealed_files(executor)}
    deposit, owed = books.deposit(executor), books.owed(requester)

    pull(pulled, executor)

    assert status(pulled, executor) is NodeStatus.PAUSED
    lines = (executor.folder / "machine" / "incidents.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["kind"] == "root"
    assert {path: path.read_bytes() for path in before} == before, "nothing half written"
    stands = books.state(task)
    assert stands is not None
    cause, slash = ENDS[stands]
    pulled.let_deadline_pass(task)
    assert books.state(task) is TaskState.FAILED
    fate = books.fate(task)
    assert fate.cause == cause
    assert deposit - books.deposit(executor) == slash
    reward = books.owed(requester) - owed - (FEES + rogue)
    assert 0 <= reward <= slash // 10  # all of it came back; more is what ending the task earns

    plug_in(pulled, executor)  # as an honest daemon: the other would stop at the same step again
    wait(lambda: pulled.driver.view(task, executor)["state"] == "FAILED")
    assert pulled.driver.view(task, executor)["roles"]["executor"] == "closed"
    restart([executor], ("-m", "tests.e2e.rogues"))


def test_member__root_pulled_while_a_task_runs__the_others_settle_it(pulled: Stage) -> None:
    task = pulled.post(Rogue.SEAT_0_HALTS)
    wait(lambda: len(pulled.halted()) == 1)
    (member,) = (node for node in pulled.workers if node.name in pulled.halted())
    device(pulled, member).stop()
    pulled.wake()
    pulled.driver.until(task, "SETTLED")
    wait(lambda: not member.running)
    assert status(pulled, member) is NodeStatus.PAUSED
    plug_in(pulled, member)
    open_folder(member.folder).load_keys()


def test_daemon__root_pulled__ends_with_one_line_and_starts_only_with_it(pulled: Stage) -> None:
    owner = pulled.driver.b  # honest, and never in the draw: there is nothing to pause
    errors = owner.folder / "stderr.log"
    told = errors.stat().st_size
    device(pulled, owner).stop()
    wait(lambda: not owner.running)
    assert owner.exit_code == 1
    (line,) = errors.read_text()[told:].splitlines()
    assert line.startswith("sealrun: the root of trust is lost")
    told = errors.stat().st_size
    owner.start()
    wait(lambda: not owner.running)
    (line,) = errors.read_text()[told:].splitlines()
    assert "no TPM answers" in line
    device(pulled, owner).start()
    owner.start()
    owner.wait()


def sealed_files(node: NodeProcess) -> tuple[Path, ...]:
    """What a node cannot do without after it has its root again."""
    return tuple(
        node.folder / name for name in ("keys.sealed", "store.key", "root/root.tpm2", "config.toml")
    )
