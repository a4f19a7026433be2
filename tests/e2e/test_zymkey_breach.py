"""A running node whose Zymkey is opened or pulled out: it leaves the draw, and ends by itself."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nodeclient.chain.registry import NodeRegistry
from nodeclient.chain.rpc import Rpc
from nodeclient.config.node import load_config
from nodeclient.core.types import Address, NodeStatus
from nodeclient.files import write_new
from nodeclient.roots.base import BREACH_FILE
from nodeclient.roots.choose import breach_of
from scripts.embedded.chain import ROOT
from scripts.embedded.network import Network
from scripts.embedded.node import NodeProcess
from scripts.embedded.roots import ZymkeyRoots

FOLDER = ROOT / "var" / "e2e-zymkey"
OPENED, PULLED, UNTOUCHED = "opened", "pulled", "untouched"
OFF, AWAY = "off", "away"  # opened while the daemon is stopped; not there at its start
NODES = (OPENED, PULLED, UNTOUCHED, OFF, AWAY)
ENDED_SECONDS = 180.0  # a patience, not a figure


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network(FOLDER, (), NODES, block_seconds=0.35, root="zymkey") as running:
        yield running


def devices(network: Network) -> ZymkeyRoots:
    assert isinstance(network.roots, ZymkeyRoots)
    return network.roots


def status(network: Network, node: NodeProcess) -> NodeStatus:
    async def ask() -> NodeStatus:
        rpc = Rpc(network.chain.url)
        try:
            registry = NodeRegistry(rpc, network.deployment)
            record = await registry.node(Address(bytes.fromhex(node.account[2:])))
            assert record is not None
            return record.status
        finally:
            await rpc.close()

    return asyncio.run(ask())


def wait_until_ended(node: NodeProcess) -> None:
    end = time.monotonic() + ENDED_SECONDS
    while node.running:
        assert time.monotonic() < end, node.log()[-2000:]
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("name", "said"), [(OPENED, "perimeter was breached"), (PULLED, "no Zymkey")]
)
def test_root__lost_while_running__node_leaves_the_draw_and_ends(
    network: Network, name: str, said: str
) -> None:
    node, device = network.workers[name], devices(network).devices[name]
    assert status(network, node) is NodeStatus.ACTIVE
    device.breach(1) if name == OPENED else device.fault(absent=True)
    wait_until_ended(node)
    assert status(network, node) is NodeStatus.PAUSED
    words = (node.folder / "stderr.log").read_text()
    lines = [line for line in words.splitlines() if said in line]
    assert lines, words
    assert "out of the draw" in lines[-1]
    assert "Traceback" not in words


def words_of_start(node: NodeProcess) -> str:
    """What a daemon says that starts and ends by itself: one line."""
    errors = node.folder / "stderr.log"
    told = errors.stat().st_size
    node.start()
    wait_until_ended(node)
    assert node.exit_code == 1
    (line,) = errors.read_text()[told:].splitlines()
    return line


@contextmanager
def hook(folder: Path) -> Iterator[list[dict[str, Any]]]:
    """Point a node's webhook at this process; what it is told."""
    told: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    config = folder / "config.toml"
    before = config.read_text()
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        url = f"http://127.0.0.1:{server.server_port}/"
        write_new(folder / "hook.url", url.encode())
        write_new(folder / "hook.secret", base64.b64encode(bytes(32)))
        table = '[health]\nwebhook_url_file = "hook.url"\nwebhook_secret_file = "hook.secret"\n'
        config.write_text(f"{before}\n{table}")
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield told
        finally:
            config.write_text(before)
            server.shutdown()
            serving.join()


def test_root__opened_while_the_node_is_off__it_leaves_the_draw_at_its_start(
    network: Network,
) -> None:
    node, device = network.workers[OFF], devices(network).devices[OFF]
    node.stop()
    device.breach(0)
    assert status(network, node) is NodeStatus.ACTIVE
    began = node.log().count(" runs")
    assert began
    with hook(node.folder) as told:
        line = words_of_start(node)
    assert node.log().count(" runs") == began, "it talked to peers before it left"
    incidents = [each["data"]["kind"] for each in told if each["type"] == "incident"]
    assert incidents == ["root"], told
    assert "perimeter was breached" in line
    assert "out of the draw" in line
    assert status(network, node) is NodeStatus.PAUSED
    last = (node.folder / "machine" / "incidents.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["kind"] == "root"
    device.clear()  # whoever was at the case clears the device's record, too
    assert "perimeter was breached" in words_of_start(node)
    assert breach_of(load_config(node.folder)).lift() is not None  # the operator's word
    node.start()
    node.wait()


def test_root__not_there_at_the_start__operator_is_told_that_the_node_is_still_drawn(
    network: Network,
) -> None:
    node, device = network.workers[AWAY], devices(network).devices[AWAY]
    node.stop()
    device.fault(absent=True)
    line = words_of_start(node)
    assert "no Zymkey" in line
    assert "STILL IN THE DRAW" in line
    assert "propose a bar of hardware id 0x" in line
    assert status(network, node) is NodeStatus.ACTIVE
    device.heal()
    node.start()
    node.wait()


def test_others__go_on(network: Network) -> None:
    node = network.workers[UNTOUCHED]
    assert node.running
    assert status(network, node) is NodeStatus.ACTIVE


def test_folder__of_a_lost_root__holds_no_key_of_the_device(network: Network) -> None:
    """What the stand-in's process held is nowhere on disk: the folder names the device only."""
    folder = network.workers[OPENED].folder / "root"
    assert [path.name for path in sorted(Path(folder).iterdir())] == [BREACH_FILE, "zymkey.pub"]
