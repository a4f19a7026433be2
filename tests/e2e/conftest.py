"""One real network for a whole test session: a chain, three people and five workers as processes.

Every test orders tasks of its own on it. A test that spoils a node (a lying daemon, a policy, a
configuration) puts it back before it ends: use ``swapped``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from scripts.embedded.chain import ROOT
from scripts.embedded.job import Job, ask_for_common, order
from scripts.embedded.network import Network
from scripts.embedded.node import NodeProcess
from tests.e2e.stage import Stage

PEOPLE = ("requester", "owner-b", "owner-c")
WORKERS = ("worker-1", "worker-2", "worker-3", "worker-4", "worker-5")
BLOCK_SECONDS = 0.35
# Longer than any start of a daemon or of its Machine: no test is about silence without a deadline.
SILENCE_SECONDS = 300.0
OVER = ("SETTLED", "FAILED", "EXPIRED")


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """Shared by all end-to-end tests; every node answers when the first test begins."""
    folder = ROOT / "var" / "e2e"
    with Network(
        folder,
        PEOPLE,
        WORKERS,
        block_seconds=BLOCK_SECONDS,
        machine={
            "question_rate": 1.0,
            "monitor_rate": 1.0,
            "silence_seconds": SILENCE_SECONDS,
            "proxy_networks": ["127.0.0.0/8"],  # where test_connections has its servers
        },
    ) as running:
        yield running


@pytest.fixture
def lists(tmp_path: Path) -> tuple[Path, Path]:
    """Two small lists with three lines in common."""
    first, second = tmp_path / "b.txt", tmp_path / "c.txt"
    first.write_text("Ada\nBarbara\nGrace\nHedy\nRadia\n")
    second.write_text("Ada\nGrace\nHedy\nJoan\nMary\n")
    return first, second


@pytest.fixture
def make_function(tmp_path: Path) -> Callable[[str], Path]:
    """A function's folder from the text of its main.py."""

    def make(source: str) -> Path:
        folder = tmp_path / f"function-{time.monotonic_ns()}"
        folder.mkdir()
        (folder / "main.py").write_text(source)
        return folder

    return make


class Driver:
    """What tests do on the network, in the words of the issue."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.requester, self.b, self.c = (network.people[name] for name in PEOPLE)

    def post(self, function: Path, inputs: Sequence[Path]) -> int:
        """Seal, permit and order by the command line; the task's number."""
        job, owners = Job(function, tuple(inputs)), (self.b, self.c)
        return order(self.requester, ask_for_common(self.network, self.requester, owners, job))

    def view(self, task: int, node: NodeProcess | None = None) -> dict[str, Any]:
        """A node's view of a task."""
        found: dict[str, Any] = (node or self.requester).get(f"/v1/tasks/{task}")
        return found

    def until(
        self, task: int, *states: str, seconds: float = 300, node: NodeProcess | None = None
    ) -> dict[str, Any]:
        """Wait until the task is in one of the states (default: over)."""
        wanted = states or OVER
        end = time.monotonic() + seconds
        while True:
            view = self.view(task, node)
            if view["state"] in wanted:
                return view
            if view["state"] in OVER or time.monotonic() > end:
                raise AssertionError(f"task {task}: {view}, not {wanted}\n{self.journals(view)}")
            time.sleep(0.15)

    def journals(self, view: dict[str, Any]) -> str:
        """What the nodes noted about a task, for a failing test's message."""
        lines = []
        for node in self.network.nodes.values():
            with contextlib.suppress(Exception):
                for line in reversed(node.get("/v1/journal")["journal"]):
                    if line["commitment"] == view["commitment"]:
                        lines.append(f"{line['at']:.1f} {node.name}: {line['what']}")
        return "\n".join(sorted(lines))

    def noted(self, node: NodeProcess, task: int, text: str) -> bool:
        """Whether a node's journal about a task holds a line with this text."""
        commitment = self.view(task)["commitment"]
        return any(
            text in line["what"] and line["commitment"] == commitment
            for line in node.get("/v1/journal")["journal"]
        )

    def results(self, task: int, node: NodeProcess, seconds: float = 180) -> Path:
        """A receiver's folder, as soon as it is there."""
        end = time.monotonic() + seconds
        while True:
            found = node.get(f"/v1/tasks/{task}/results")["results"]
            if found:
                return Path(found[0]["path"])
            if time.monotonic() > end:
                raise AssertionError(f"{node.name} has no result of task {task}")
            time.sleep(0.15)

    def by_account(self, account: str) -> NodeProcess:
        """The node of an account."""
        return next(node for node in self.network.nodes.values() if node.account == account)


@pytest.fixture(scope="session")
def honest_stage(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """An order that many tests post, sealed once."""
    return Stage(Driver(network), tmp_path_factory.mktemp("stage"))


@pytest.fixture(scope="module")
def stage(honest_stage: Stage) -> Iterator[Stage]:
    """The network with workers and a requester that misbehave where a task says so."""
    with honest_stage.swapped():
        yield honest_stage


@pytest.fixture
def driver(network: Network) -> Driver:
    """The network with verbs."""
    return Driver(network)
