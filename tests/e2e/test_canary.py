"""Nothing of a task is where it must not be: random markers in all that a TaskSpec and its data
say are looked for, as bytes, in everything that the task left behind.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docker
import pytest

from agent.engine import LABEL
from agent.formats.cid import digest_of
from nodeclient.errors import DaemonRefused
from nodeclient.images.engine import DEFAULT_SOCKET
from nodeclient.machine.process import AgentProcess
from scripts.embedded.job import order
from scripts.embedded.network import Network
from scripts.embedded.node import NodeProcess
from tests.e2e import quick
from tests.e2e.conftest import Driver
from tests.e2e.supervise import UNTIL_TOLD, tell, until

FUNCTION = """
# {function}
import os, socket, sys
from pathlib import Path
out = socket.socket(socket.AF_UNIX)
out.connect(os.environ["SEALRUN_PROXY"])
out.sendall(b"CONNECT {host} HTTP/1.1\\r\\n\\r\\n")
out.recv(100)
{waits}
for receiver in Path("/capsule/out").iterdir():
    (receiver / "{result}.txt").write_text(sys.argv[1] + "{answer}")
print("{printed}", file=sys.stderr)
"""
Needles = Mapping[str, bytes]


class Canary:
    """One task full of markers, watched while it ran."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.marks = {
            name: f"{name}-{secrets.token_hex(8)}"
            for name in ("input", "receiver", "path", "argument", "function", "data", "device")
        } | {name: secrets.token_hex(8) for name in ("result", "answer", "printed")}
        self.host = f"host-{secrets.token_hex(8)}.invalid:4433"
        self.asked: dict[str, Any] = {}
        self.task = 0
        self.first_block = 0
        self.inspected = b""
        self.command_lines = b""
        self.inside = b""

    @property
    def texts(self) -> dict[str, bytes]:
        """Marker by what it marks, as it would stand in clear."""
        plain = {name: mark.encode() for name, mark in self.marks.items()}
        return {**plain, "connection": self.host.partition(":")[0].encode()}

    @property
    def cids(self) -> dict[str, str]:
        """CIDs of the task, by whose they are."""
        results = {
            f"result of {node.name}": node.get(f"/v1/tasks/{self.task}/results")["results"][0][
                "cid"
            ]
            for node in (self.driver.b, self.driver.c)
        }
        inputs = {
            f"input of {node.name}": entry["cid"]
            for node, entry in zip(
                (self.driver.b, self.driver.c), self.asked["inputs"], strict=True
            )
        }
        return {"function": self.asked["function"]["cid"], **inputs, **results}

    @property
    def needles(self) -> dict[str, bytes]:
        """Everything that nobody else may find, as text and as raw bytes."""
        found = dict(self.texts)
        for name, cid in self.cids.items():
            found[f"CID, {name}"] = cid.encode()
            found[f"digest in CID, {name}"] = digest_of(cid)
        found["function digest"] = bytes.fromhex(self.asked["function"]["digest"][2:])
        return found


@pytest.fixture(scope="module")
def canary(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Canary:
    driver = Driver(network)
    made = Canary(driver)
    marks, folder = made.marks, tmp_path_factory.mktemp("canary")
    lists = [folder / f"{marks['path']}-{letter}.txt" for letter in "bc"]
    for file in lists:
        file.write_text(marks["data"])
    function = folder / "function"
    function.mkdir()
    words = {k: marks[k] for k in ("function", "result", "answer", "printed")}
    (function / "main.py").write_text(FUNCTION.format(host=made.host, waits=UNTIL_TOLD, **words))
    device = f"/dev/{marks['device']}"
    os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    what = {"connections": [made.host], "devices": [device]}
    try:
        with pytest.raises(DaemonRefused):  # a refusal speaks of the task too: to its asker alone
            order(driver.requester, quick.request(driver, function, lists, **what))
        made.asked = quick.request(
            driver,
            function,
            lists,
            arguments=[marks["argument"]],
            names=[f"{marks['input']}-{letter}" for letter in "bc"],
            receivers=[f"{marks['receiver']}-{letter}" for letter in "bc"],
            permitted={"connections": [made.host], "devices": [device]},
            **what,
        )
        made.first_block = network.chain.height()
        made.task = order(driver.requester, made.asked)
        watch_the_run(made)
        driver.until(made.task, "SETTLED")
        for node in (driver.b, driver.c):
            driver.results(made.task, node)
    finally:
        os.unlink(device)
    return made


def watch_the_run(canary: Canary) -> None:
    """While the container runs: what the engine says of it, and every command line."""
    driver = canary.driver
    executor = driver.by_account(driver.until(canary.task, "ADMITTED")["executor"])
    label = AgentProcess(executor.folder / "machine", DEFAULT_SOCKET).label
    engine = docker.from_env()

    def running() -> list[Any]:
        return engine.containers.list(filters={"label": f"{LABEL}={label}"})

    (container,) = until(running, "the container runs")
    canary.inspected = json.dumps(container.attrs).encode()
    # What the engine starts first in a container is not the function yet.
    until(lambda: look_around(canary, container), "the function's command line is seen")
    tell([container.id])


def look_around(canary: Canary, container: Any) -> bool:
    """Every command line and environment on this host; whether the function's is among them."""
    own = {int(row[1]) for row in container.top()["Processes"]}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if int(process.name) in own:
            canary.inside += line
        else:
            canary.command_lines += line
    return canary.texts["argument"] in canary.inside


def hits(content: bytes, needles: Needles) -> list[str]:
    """Which needles stand in some bytes."""
    return sorted(name for name, needle in needles.items() if needle in content)


def in_files(folder: Path, needles: Needles) -> dict[str, list[str]]:
    """Which needles stand in which file below a folder."""
    found = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # its node writes beside us
            if path.is_file() and not path.is_symlink():
                found[str(path.relative_to(folder))] = hits(path.read_bytes(), needles)
    return {path: names for path, names in found.items() if names}


def chain_forms(needles: Needles) -> dict[str, bytes]:
    """Needles as they stand in JSON: the text itself, and hex of the bytes."""
    hexed = {f"{name}, hex": needle.hex().encode() for name, needle in needles.items()}
    return {**needles, **hexed}


def of_receivers(canary: Canary) -> dict[str, bytes]:
    """The receivers' accounts; from the posting on, nothing on chain may name them."""
    return {
        f"account of {node.name}": bytes.fromhex(node.account[2:])
        for node in (canary.driver.b, canary.driver.c)
    }


def test_transactions_and_logs__hold_nothing_of_the_task(canary: Canary) -> None:
    chain = canary.driver.network.chain
    blocks = [
        chain.rpc("eth_getBlockByNumber", hex(number), True)
        for number in range(canary.first_block, chain.height() + 1)
    ]
    logs = chain.rpc("eth_getLogs", {"fromBlock": hex(canary.first_block), "toBlock": "latest"})
    sent = json.dumps([block["transactions"] for block in blocks]).lower().encode()
    commitment = canary.driver.view(canary.task)["commitment"][2:].encode()
    assert commitment in sent
    assert commitment in json.dumps(logs).encode()
    needles = chain_forms({**canary.needles, **of_receivers(canary)})
    assert hits(sent, needles) == []
    assert hits(json.dumps(logs).lower().encode(), needles) == []


def test_state_of_the_chain__holds_nothing_of_the_task(canary: Canary) -> None:
    dumped = bytes.fromhex(canary.driver.network.chain.rpc("anvil_dumpState")[2:])
    state = gzip.decompress(dumped) if dumped[:2] == b"\x1f\x8b" else dumped
    market = canary.driver.network.deployment["TaskMarket"].address
    assert market.hex().encode() in state.lower()
    assert hits(state.lower(), chain_forms(canary.needles)) == []


def test_folders_of_workers__hold_nothing_of_the_task_in_clear(canary: Canary) -> None:
    """Executor, members and outsiders: databases, logs, block stores, the Machine's folder."""
    for name, node in canary.driver.network.workers.items():
        assert (node.folder / "node.db").stat().st_size > 0
        assert (name, in_files(node.folder, canary.needles)) == (name, {})


def test_folders_of_people__hold_their_own_in_clear_and_nothing_else(canary: Canary) -> None:
    """An owner's folder has its own policy and its own result; the rest is sealed there too."""
    driver = canary.driver
    assert in_files(driver.requester.folder, canary.needles) == {}
    for node in (driver.b, driver.c):
        found = in_files(node.folder, canary.needles)
        policies = {path: names for path, names in found.items() if path.startswith("policies/")}
        results = {path: names for path, names in found.items() if path.startswith("results/")}
        # The scan finds what is there: without this the other tests would pass on nothing.
        assert list(policies.values()) == [["argument", "connection", "device"]]
        assert list(results.values()) == [["answer", "argument"]]
        own = {f"CID, input of {node.name}"}
        rest = {p: set(n) - own for p, n in found.items() if p not in {**policies, **results}}
        assert {path: names for path, names in rest.items() if names} == {}


def test_logs_of_all_nodes__hold_nothing_of_the_task(canary: Canary) -> None:
    view = canary.driver.view(canary.task)
    for name, node in canary.driver.network.nodes.items():
        assert (name, hits(logs_of(node), canary.needles)) == (name, [])
    for account in (view["executor"], *view["committee"], canary.driver.b.account):
        node = canary.driver.by_account(account)
        until(lambda node=node: view["commitment"][2:14] in node.log(), "the task is in its log")  # type: ignore[misc]


def logs_of(node: NodeProcess) -> bytes:
    """Every log in a node's folder."""
    return b"".join(path.read_bytes() for path in node.folder.rglob("*.log"))


def test_running_container__tells_the_engine_no_more_than_it_needs(canary: Canary) -> None:
    """The command and the devices are how a container is started; nothing else is said."""
    assert hits(canary.inspected, canary.needles) == ["argument", "device"]


def test_command_lines_and_environments__hold_nothing_of_the_task(canary: Canary) -> None:
    """But the function's own: its arguments are what it is given."""
    assert hits(canary.inside, canary.needles) == ["argument"]
    assert hits(canary.command_lines, canary.needles) == []
