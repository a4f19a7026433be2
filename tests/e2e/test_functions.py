"""Functions that behave badly: the task ends, everybody is paid for the attested slot, and how the
run ended is told to requester and receivers alone.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nodeclient import cli
from nodeclient.p2p.errors import PeerDeclined, PeerError
from nodeclient.p2p.messages import ResultQuestion
from scripts.embedded.job import order
from scripts.embedded.network import Network
from scripts.embedded.node import NodeProcess
from tests.e2e import quick
from tests.e2e.books import Books
from tests.e2e.conftest import Driver
from tests.e2e.rogues.peer import ask
from tests.e2e.supervise import until

WRITE = """
from pathlib import Path
for receiver in Path("/capsule/out").iterdir():
    (receiver / "answer.txt").write_text("done")
"""
FUNCTIONS = {
    "exits non-zero": """
import sys
from pathlib import Path
Path("/capsule/out/owner-b/answer.txt").write_text("half")
sys.exit(3)
""",
    "writes nothing": "",
    "writes for a stranger": WRITE
    + """
Path("/capsule/out/stranger").mkdir()
Path("/capsule/out/stranger/answer.txt").write_text("secret")
""",
    "forks without end": """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
""",
    "fills the disk": """
import sys
from pathlib import Path
for folder in ("/tmp", "/dev/shm", "/capsule/out", "/capsule/out/owner-b"):
    try:
        for number in range(64):
            Path(folder, f"fill-{number}").write_bytes(bytes(1 << 20))
    except OSError:
        pass
    else:
        sys.exit(1)
for file in Path("/capsule/out").rglob("fill-*"):
    file.unlink()
Path("/capsule/out/owner-b/answer.txt").write_text("full")
sys.exit(28)
""",
    "runs past its limit": WRITE + "import time\ntime.sleep(600)\n",
    "takes all memory": "held = []\nwhile True:\n    held.append(bytearray(1 << 20))\n",
    "opens a socket": """
import socket, sys
from pathlib import Path
words = []
for family, where in (
    (socket.AF_INET, ("127.0.0.1", int(sys.argv[1]))),
    (socket.AF_INET, ("192.0.2.1", 80)),
    (socket.AF_INET6, ("::1", int(sys.argv[1]))),
    (socket.AF_PACKET, None),
):
    try:
        with socket.socket(family, socket.SOCK_STREAM if where else socket.SOCK_RAW) as out:
            out.settimeout(3)
            out.connect(where)
            words.append("connected")
    except OSError as error:
        words.append("refused")
for receiver in Path("/capsule/out").iterdir():
    (receiver / "answer.txt").write_text(" ".join(words))
""",
}
ENDS: Mapping[str, tuple[str, int | None, list[str]]] = {
    "exits non-zero": ("RAN", 3, []),
    "writes nothing": ("RAN", 0, []),
    "writes for a stranger": ("RAN", 0, ["UNNAMED_RECEIVER"]),
    "forks without end": ("TIMEOUT", None, []),
    "fills the disk": ("RAN", 28, []),
    "runs past its limit": ("TIMEOUT", None, []),
    "takes all memory": ("OUT_OF_MEMORY", None, []),
    "opens a socket": ("RAN", 0, []),
}
ANSWERS = {
    "exits non-zero": ("half", None),
    "writes for a stranger": ("done", "done"),
    "fills the disk": ("full", None),
    "opens a socket": ("refused refused refused refused",) * 2,
}


class Listener:
    """A TCP server that counts who comes."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.came = 0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.came += 1
            connection.close()

    def close(self) -> None:
        self._server.close()


@contextmanager
def listening() -> Iterator[Listener]:
    listener = Listener()
    try:
        yield listener
    finally:
        listener.close()


class Bad:
    """All bad functions have run: task by name, how many came to the test's server, what
    everybody and the requester got (wei), and the deposits before.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.tasks: dict[str, int] = {}
        self.came = 0
        self.owed: tuple[int, int] = (0, 0)
        self.deposits: dict[str, int] = {}


@pytest.fixture(scope="module")
def bad(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Bad:
    driver, books = Driver(network), Books(network)
    data = tmp_path_factory.mktemp("data") / "list.txt"
    data.write_text("Ada\n")
    everybody = list(network.nodes.values())
    ran = Bad(driver)
    ran.deposits = books.deposits()
    before, mine = sum(map(books.owed, everybody)), books.owed(driver.requester)
    with listening() as listener:
        for name, source in FUNCTIONS.items():
            folder = tmp_path_factory.mktemp("function")
            (folder / "main.py").write_text(source)
            asked = quick.request(driver, folder, (data, data), arguments=[str(listener.port)])
            if ENDS[name][0] == "TIMEOUT":
                asked["limits"]["seconds"] = 2
            quick.wait_for_room(driver, ran.tasks.values())
            ran.tasks[name] = order(driver.requester, asked)
        for task in ran.tasks.values():
            driver.until(task, "SETTLED")
        ran.came = listener.came
    ran.owed = (sum(map(books.owed, everybody)) - before, books.owed(driver.requester) - mine)
    return ran


@pytest.mark.parametrize("name", FUNCTIONS)
def test_bad_function__ends_settled__with_its_outcome_told(bad: Bad, name: str) -> None:
    status, code, errors = ENDS[name]
    driver, task = bad.driver, bad.tasks[name]
    for node in (driver.requester, driver.b, driver.c):
        told = quick.outcome(driver, task, node)
        assert (told["status"], told["exit_code"], told["errors"]) == (status, code, errors)
    answers = ANSWERS.get(name, (None, None))
    if status != "RAN":
        assert driver.view(task, driver.b)["roles"]["receiver"] == "done"
        assert driver.b.get(f"/v1/tasks/{task}/results")["results"] == []
        return
    for node, answer in zip((driver.b, driver.c), answers, strict=True):
        files = [file.name for file in driver.results(task, node).iterdir()]
        assert files == ([] if answer is None else ["answer.txt"])
        if answer is not None:
            assert (driver.results(task, node) / "answer.txt").read_text() == answer


def test_nothing_written__is_told_to_that_receiver_alone(bad: Bad) -> None:
    driver, task = bad.driver, bad.tasks["exits non-zero"]
    assert quick.outcome(driver, task, driver.b)["nothing_written_for"] == []
    assert quick.outcome(driver, task, driver.c)["nothing_written_for"] == ["owner-c"]
    assert quick.outcome(driver, task, driver.requester)["nothing_written_for"] == []


def test_socket_of_a_function__reaches_nobody(bad: Bad) -> None:
    assert bad.tasks["opens a socket"]
    assert bad.came == 0


def test_bad_functions__all_slots_are_paid(bad: Bad) -> None:
    """What is paid is the attested slot: the escrow went to executors and voting members, and
    only what silent members left came back."""
    everybody, requester = bad.owed
    executor, members = 10**16 * len(FUNCTIONS), 3 * 10**15 * len(FUNCTIONS)
    assert everybody == executor + members
    assert requester <= members // 3
    assert bad.deposits == Books(bad.driver.network).deposits()


@pytest.mark.parametrize("name", ["exits non-zero", "runs past its limit"])
def test_command_line__says_how_the_run_ended(
    bad: Bad, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, code, _ = ENDS[name]
    task, node = str(bad.tasks[name]), str(bad.driver.b.folder)
    for knowing in (bad.driver.b, bad.driver.requester):
        quick.outcome(bad.driver, bad.tasks[name], knowing)
    shown = said(capsys, "task", "status", task, "--node", node, "--json")
    assert (shown["outcome"]["status"], shown["outcome"]["exit_code"]) == (status, code)
    shown = said(capsys, "task", "results", task, "--node", node, "--json")
    assert (shown["outcome"]["status"], shown["outcome"]["exit_code"]) == (status, code)
    requester = str(bad.driver.requester.folder)
    assert cli.run(["task", "watch", task, "--node", requester]) == 0
    assert f"the function ended {status}" in capsys.readouterr().err


def said(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert cli.run(list(words)) == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    return shown


def test_outcome__asked_for_by_an_outsider__is_refused(bad: Bad) -> None:
    """How a run ended is for requester and receivers; members keep it from everybody else."""
    driver, task = bad.driver, bad.tasks["exits non-zero"]
    view = driver.view(task)
    seated = (view["executor"], *view["committee"])
    outsider = next(n for n in driver.network.workers.values() if n.account not in seated)
    question = ResultQuestion(bytes.fromhex(view["commitment"][2:]))
    members = [driver.by_account(account) for account in view["committee"]]

    def answers(who: NodeProcess) -> list[bytes | PeerError]:
        asked = (ask(driver.network, who, member, ("result", question)) for member in members)
        return [answer for (answer,) in asked]

    def told(who: NodeProcess) -> list[bytes]:
        return [answer for answer in answers(who) if isinstance(answer, bytes)]

    found = until(lambda: told(driver.c), "a member tells a receiver")
    assert all(b"owner-b" not in answer for answer in found)
    assert all(isinstance(refusal, PeerDeclined) for refusal in answers(outsider))
