"""A deployment, a node folder and the command line, as a person has them."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest

from nodeclient import cli
from nodeclient.chain.deployment import CONTRACTS, FORMAT

REGISTRY = "0x" + "11" * 19 + "01"


@dataclass(frozen=True)
class Outcome:
    """What one command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Sealrun = Callable[..., Outcome]


@pytest.fixture
def sealrun(capsys: pytest.CaptureFixture[str]) -> Sealrun:
    def run(*words: object) -> Outcome:
        code = cli.run([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    path = tmp_path / "deployment.json"
    contracts = {
        name: {
            "address": "0x" + "11" * 19 + f"{index:02x}",
            "tx": "0x" + "22" * 32,
            "block": 1,
            "gas_used": 1,
            "arguments": [],
            "abi": [],
        }
        for index, name in enumerate(CONTRACTS)
    }
    path.write_text(
        json.dumps(
            {
                "format": FORMAT,
                "network": "anvil",
                "chain_id": 31337,
                "deploy_block": 1,
                "parameters": {},
                "contracts": contracts,
            }
        )
    )
    return path


@pytest.fixture
def node(tmp_path: Path, deployment: Path, sealrun: Sealrun) -> Path:
    folder = tmp_path / "node"
    made = sealrun(
        *("node", "init", folder, "--deployment", deployment, "--endpoint", "127.0.0.1:7001")
    )
    assert made.code == 0, made.err
    return folder


class Daemon(ThreadingMixIn, UnixStreamServer):
    """Simulated control interface: answers by path, the last one of a list for ever."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, list[tuple[int, bytes]]] = {}
        self.received: list[Any] = []
        super().__init__(str(path), Handler)

    def answer(self, path: str, *bodies: object, status: int = 200) -> None:
        self.answers[path] = [(status, json.dumps(body).encode()) for body in bodies]


class Handler(BaseHTTPRequestHandler):
    server: Daemon

    def do_GET(self) -> None:
        queue = self.server.answers[self.path]
        status, body = queue.pop(0) if len(queue) > 1 else queue[0]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        self.server.received.append(json.loads(self.rfile.read(size)))
        self.do_GET()

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_: object) -> None:
        """Nothing: the test's output is the command's alone."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    server = Daemon(tmp_path / "control.sock")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
