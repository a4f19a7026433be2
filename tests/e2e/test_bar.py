"""The drill on a whole network: operators bar the chip that a task runs on, and do nothing else.

A network of its own: a barred node never comes back. Whole makers, and what nobody's daemon does,
stand in ``tests/chain/test_bar_drill.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nodeclient.core.types import NodeStatus, TaskState
from scripts.embedded.chain import ROOT
from scripts.embedded.network import Network
from scripts.embedded.node import NodeProcess
from tests.e2e.books import address
from tests.e2e.conftest import BLOCK_SECONDS, PEOPLE, SILENCE_SECONDS, WORKERS, Driver
from tests.e2e.rogues import Rogue
from tests.e2e.stage import FEES, Stage, wait

BARRED_CAUSE = 11


@pytest.fixture(scope="module")
def barring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Workers that stop at a step where a task says so."""
    machine = {"question_rate": 1.0, "silence_seconds": SILENCE_SECONDS}
    with Network(
        ROOT / "var" / "e2e-bar",
        PEOPLE,
        WORKERS,
        block_seconds=BLOCK_SECONDS,
        machine=machine,
    ) as network:
        stage = Stage(Driver(network), tmp_path_factory.mktemp("barring"))
        with stage.swapped():
            yield stage


def motion(node: NodeProcess, *words: str) -> Any:
    """What its operator types."""
    return node.cli("node", "motion", *words, "--node", str(node.folder))


def test_executor__chip_barred_while_it_runs_a_task__refund_out_of_the_draw_nothing_lost(
    barring: Stage,
) -> None:
    books, requester = barring.books, barring.requester
    task = barring.post(Rogue.HALT_ADMITTED)
    wait(lambda: len(barring.halted()) == 1)
    executor = barring.executor(task)
    others = [worker for worker in barring.workers if worker is not executor]
    deposits, owed = books.deposits(), books.owed(requester)
    record = books.ask(lambda reader: reader.node(address(executor)))
    assert record is not None
    chip = f"0x{record.hardware_id.hex()}"

    for worker in others[1:]:
        motion(worker, "decide", "--chip", chip, "--yes")
    worker = others[0]
    moved = motion(worker, "open", "--chip", chip)

    view = barring.driver.until(task, "FAILED")
    assert "barred" in view["why"]
    fate = books.fate(task)
    assert (books.state(task), fate.cause) == (TaskState.FAILED, BARRED_CAUSE)
    assert (fate.slashed, fate.reputation) == ({}, ())
    assert books.deposits() == deposits
    assert books.owed(requester) - owed == FEES + Rogue.HALT_ADMITTED
    record = books.ask(lambda reader: reader.node(address(executor)))
    assert record is not None
    assert (record.status, record.engaged) == (NodeStatus.BARRED, False)
    assert not books.ask(lambda reader: reader.registry.is_drawable(address(executor)))
    listed = motion(worker, "list")["motions"]
    assert [(each["motion"], each["state"]) for each in listed] == [(moved["motion"], "CARRIED")]

    barring.wake()  # it learns it, and wipes what it held
    wait(lambda: barring.driver.view(task, executor)["state"] == "FAILED")
    assert barring.driver.view(task, executor)["roles"]["executor"] == "closed"
