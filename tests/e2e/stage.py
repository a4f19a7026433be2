"""The shared network with misbehaving daemons on it, and what tests do there."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodeclient.capsules.policies import save_policy
from nodeclient.core.case import Case
from nodeclient.core.policy_file import policy_from_dict
from nodeclient.core.types import TaskId
from nodeclient.identity.folder import open_folder
from nodeclient.store.database import Store
from scripts.embedded.chain import ROOT
from scripts.embedded.job import Job, ask_for_common, order, policy
from scripts.embedded.node import NodeProcess, Sealed
from tests.e2e.books import Books
from tests.e2e.rogues import FEE, Rogue
from tests.e2e.supervise import restart

if TYPE_CHECKING:
    from tests.e2e.conftest import Driver

FUNCTION = ROOT / "examples" / "common-names" / "function"
MEMBER_FEE = 10**15
FEES = FEE + 3 * MEMBER_FEE
"""What an honest task of the stage locks up, in wei, besides the posting fee."""


class Stage:
    """One order, sealed once, posted again and again with the misbehaviour that a test wants."""

    def __init__(self, driver: Driver, folder: Path) -> None:
        """Seals a function and two lists, written to ``folder``."""
        self.driver = driver
        self.network = driver.network
        self.books = Books(driver.network)
        self.requester = driver.requester
        self.workers = tuple(driver.network.workers.values())
        lists = (folder / "b.txt", folder / "c.txt")
        for path, lines in zip(lists, ("Ada\nGrace\nHedy\n", "Ada\nHedy\nJoan\n"), strict=True):
            path.write_text(lines)
        job, owners = Job(FUNCTION, lists), (driver.b, driver.c)
        self.request: dict[str, Any] = {}
        self.request.update(ask_for_common(self.network, self.requester, owners, job))
        function = self.request["function"]
        sealed = Sealed(function["cid"], bytes.fromhex(function["digest"][2:]))
        self._store_keys: dict[str, bytes] = {}
        self._policy = {**policy(self.network, sealed, owners, job), "uses": 1000}
        self.permit()

    # ------------------------------------------------------------------------ up and down

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """Workers and the requester as rogues; honest daemons again afterwards."""
        nodes = (self.requester, *self.workers)
        restart(nodes, ("-m", "tests.e2e.rogues"))
        try:
            yield
        finally:
            self.wake()
            restart(nodes)

    def permit(self, **changes: Mapping[str, object]) -> None:
        """Set the owners' policies: by name of the owner what differs from the stage's."""
        for entry in self.request["inputs"]:
            owner = self.driver.by_account(entry["owner"])
            values = {**self._policy, **changes.get(owner.name.replace("-", "_"), {})}
            save_policy(owner.folder, entry["cid"], policy_from_dict(values))

    # ------------------------------------------------------------------------------ verbs

    def post(self, rogue: Rogue = Rogue.NOTHING, **changes: object) -> int:
        """Post the order with a misbehaviour; the task's number."""
        fees = {"executor_wei": str(FEE + rogue), "member_wei": str(MEMBER_FEE)}
        return order(self.requester, {**self.request, "fees": fees, **changes})

    def executor(self, task: int) -> NodeProcess:
        """Who was drawn."""
        return self.driver.by_account(self.driver.view(task)["executor"])

    def members(self, task: int) -> list[NodeProcess]:
        """The committee, by seat."""
        return [self.driver.by_account(who) for who in self.driver.view(task)["committee"]]

    def halted(self) -> set[str]:
        """Workers that hang (stopped by a signal)."""
        return {node.name for node in self.workers if node.halted}

    def wake(self) -> None:
        """Let every node go on."""
        for node in (self.requester, *self.workers):
            node.signal(signal.SIGCONT)

    def case(self, node: NodeProcess, task: int) -> Case:
        """What a node's file holds about a task."""
        if node.name not in self._store_keys:
            self._store_keys[node.name] = open_folder(node.folder).load_store_key()
        store = Store(node.folder / "node.db", self._store_keys[node.name])
        try:
            found = store.case_of(TaskId(task))
        finally:
            store.close()
        assert found is not None
        return found

    def ordered(self, node: NodeProcess, task: int) -> Counter[str]:
        """How many actions of each kind a node's file ever held about a task."""
        commitment = self.case(node, task).commitment
        found = rows(node, "SELECT kind FROM outbox WHERE commitment = ?", commitment)
        return Counter(kind for (kind,) in found)

    def noted(self, node: NodeProcess, text: str) -> bool:
        """Whether a node's journal holds a line with this text, whatever it is about."""
        return any(text in line["what"] for line in node.get("/v1/journal")["journal"])

    def let_deadline_pass(self, task: int) -> dict[str, Any]:
        """Mine up to the step's deadline, and wait until somebody ended the task by ``expire``.

        It must have ended long before as much time again is over. A block is made only for a
        transaction that waits for it, so that blocks say who waited, not how busy the computer is.
        """
        # Who halts has seen its own last step; the requester may be a poll behind it.
        wait(lambda: self.case(self.requester, task).state is self.books.state(task))
        chain, case = self.network.chain, self.case(self.requester, task)
        assert case.state is not None
        parameters = self.books.ask(lambda reader: reader.parameters())
        deadline = parameters.deadline(case.on_chain(), case.state)
        with chain.held():
            left = deadline - chain.height()
            assert left >= 0, "the deadline passed and nobody ended the task"
            chain.mine(left + 1)
            while self.books.state(task) is case.state:
                wait(lambda: chain.waiting() > 0)
                chain.mine(1)
        assert self.books.ended_at(task) - deadline <= deadline - case.on_chain().step_at
        return self.driver.until(task, "FAILED", "EXPIRED")


def wait(until: Callable[[], bool], seconds: float = 180) -> None:
    """Poll. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:.0f} s")
        time.sleep(0.1)


def rows(node: NodeProcess, sql: str, *args: object) -> list[tuple[Any, ...]]:
    """Read a node's SQLite file beside its daemon."""
    with closing(sqlite3.connect(f"file:{node.folder}/node.db?mode=ro", uri=True)) as db:
        return db.execute(sql, args).fetchall()
