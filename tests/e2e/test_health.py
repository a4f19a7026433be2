"""A daemon of the shared network as its operator and Prometheus see it, and a receiver of webhooks.

The node is one of the owners, which run no task; its configuration is put back in the end.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from scripts.embedded.chain import ROOT
from scripts.embedded.node import NodeProcess
from tests.e2e.conftest import Driver
from tests.e2e.supervise import restart, until
from tests.health.prometheus_reader import Family, read
from tests.health.receiver import SECRET, Receiver, receiving

pytestmark = [pytest.mark.chain, pytest.mark.machine]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver in a thread of its own, which outlives restarts of the daemon."""
    ready: Future[Receiver] = Future()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with receiving() as listening:
            ready.set_result(listening)
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    yield ready.result(60)
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def configured(node: NodeProcess, table: str) -> Iterator[None]:
    """The node's daemon with a further table in its configuration."""
    config = node.folder / "config.toml"
    former = config.read_text()
    config.write_text(f"{former}\n[health]\n{table}\n")
    try:
        restart([node])
        yield
    finally:
        config.write_text(former)
        restart([node])


def scrape(port: int) -> dict[str, Family]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return read(answer.read().decode())


def number(families: dict[str, Family], name: str, **labels: str) -> float:
    return families[f"sealrun_{name}"].samples[tuple(labels.items())]


def status(node: NodeProcess, *words: str) -> subprocess.CompletedProcess[str]:
    command = ("-m", "nodeclient.cli", "node", "status", "--node", str(node.folder), *words)
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=ROOT, check=False
    )


def private(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


def test_health__daemon_runs_and_is_stopped__command_metrics_and_webhook_say_the_same(
    driver: Driver, receiver: Receiver
) -> None:
    node, port = driver.b, free_port()
    others = len(driver.network.nodes) - 1
    private(node.folder / "hook.url", receiver.url)
    private(node.folder / "hook.secret", base64.b64encode(SECRET).decode())
    table = (
        f'listen = "127.0.0.1:{port}"\nhead_age_seconds = 3600\nbehind_blocks = 1000\n'
        'webhook_url_file = "hook.url"\nwebhook_secret_file = "hook.secret"'
    )
    with configured(node, table):
        shown = until(lambda: reached(node, others), "every other node gave a sign of life")
        assert (shown["healthy"], shown["faults"]) == (True, [])
        assert shown["account"] == node.account
        assert shown["registry"]["status"] == "PAUSED", "an owner is never drawn, and well so"
        assert (shown["root"]["class"], shown["root"]["usable"]) == ("SOFTWARE", True)
        assert {i["standing"] for i in shown["images"]} == {"approved"}
        assert len(shown["cases"]) == shown["tasks"]["known"] or len(shown["cases"]) == 100

        families = scrape(port)
        assert number(families, "healthy") == 1
        assert number(families, "node_status", status="PAUSED") == 1
        assert number(families, "peers_reachable") == others
        assert number(families, "chain_head_block") >= shown["chain"]["head"]
        assert number(families, "tasks_known") == shown["tasks"]["known"]
        assert number(families, "images", use="runtime", standing="approved") == 1

        told = status(node, "--json")
        assert (told.returncode, told.stderr) == (0, "")
        assert json.loads(told.stdout)["healthy"] is True

        ban = node.folder / "machine" / "banned.json"
        ban.parent.mkdir(exist_ok=True)
        ban.write_text(json.dumps({"reason": "stray: udp to 192.0.2.7", "at": 1}))
        ill = until(lambda: changed(receiver), "the webhook tells of the ban")
        assert [fault["code"] for fault in ill["faults"]] == ["machine-banned"]
        assert "192.0.2.7" not in json.dumps(receiver.taken)
        quiet = status(node, "--quiet")
        assert (quiet.returncode, quiet.stdout) == (1, "")
        assert "the machine is banned" in quiet.stderr
        assert number(scrape(port), "fault", code="machine-banned") == 1
        ban.unlink()
        until(lambda: receiver.taken[-1]["data"]["healthy"], "the webhook tells that it is over")

        node.stop()
        stopped = status(node, "--json")
        assert stopped.returncode == 1
        assert "sealrun node run" in stopped.stderr
        offline: dict[str, Any] = json.loads(stopped.stdout)
        assert [fault["code"] for fault in offline["faults"]] == ["daemon-stopped"]
        assert offline["registry"] == shown["registry"]
        assert offline["tasks"]["known"] >= shown["tasks"]["known"]
    assert node.get("/v1/status")["account"] == node.account


def reached(node: NodeProcess, others: int) -> dict[str, Any] | None:
    shown: dict[str, Any] = node.get("/v1/health")
    return shown if shown["peers"]["reachable"] == others else None


def changed(receiver: Receiver) -> dict[str, Any] | None:
    bodies = [each["data"] for each in receiver.taken if each["type"] == "health.changed"]
    return bodies[-1] if bodies and not bodies[-1]["healthy"] else None
