"""What a task defines it gets, and nothing else: connections through the proxy, devices by name."""

from __future__ import annotations

import os
import secrets
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodeclient.errors import DaemonRefused
from scripts.embedded.job import order
from tests.e2e import quick
from tests.e2e.conftest import Driver
from tests.e2e.supervise import until

FUNCTION = """
import os, socket, sys
from pathlib import Path

permitted, other, device, unnamed = sys.argv[1:]

def connect(target):
    out = socket.socket(socket.AF_UNIX)
    out.connect(os.environ["SEALRUN_PROXY"])
    out.sendall(f"CONNECT {target} HTTP/1.1\\r\\nHost: {target}\\r\\n\\r\\n".encode())
    head = b""
    while not head.endswith(b"\\r\\n\\r\\n"):
        head += out.recv(1)
    return out, head.split()[1].decode()

words = [connect(other)[1]]
out, status = connect(permitted)
words.append(status)
out.sendall(b"ping\\n")
words.append(out.recv(100).decode().strip())  # comes when the test has seen the refusal counted
with open(device, "rb") as source:
    words.append(str(source.read(4) == bytes(4)))
words.append(str(os.path.exists(unnamed)))
words.append(str(os.path.exists("/dev/fuse")))
for receiver in Path("/capsule/out").iterdir():
    (receiver / "words.txt").write_text(" ".join(words))
"""


class Server:
    """Takes one line from whoever connects, and answers when the test lets it."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.name = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.lines: list[bytes] = []
        self.release = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                self.lines.append(stream.readline())
                self.release.wait(300)
                stream.write(b"pong\n")

    def close(self) -> None:
        self.release.set()
        self._server.close()


@contextmanager
def serving() -> Iterator[tuple[Server, Server]]:
    servers = Server(), Server()
    try:
        yield servers
    finally:
        for server in servers:
            server.close()


@pytest.fixture
def devices() -> Iterator[tuple[str, str]]:
    """Two harmless character devices (zeroes) under names of this test's own."""
    names = [f"/dev/sealrun-{secrets.token_hex(6)}" for _ in range(2)]
    for name in names:
        os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(1, 5))
        os.chmod(name, 0o666)
    yield names[0], names[1]
    for name in names:
        os.unlink(name)


def test_task_with_connection_and_device__gets_these_and_no_other(
    driver: Driver,
    lists: tuple[Path, Path],
    make_function: Callable[[str], Path],
    devices: tuple[str, str],
) -> None:
    function = make_function(FUNCTION)
    with serving() as (permitted, other):
        asked = quick.request(
            driver,
            function,
            lists,
            arguments=[permitted.name, other.name, *devices],
            permitted={"connections": [permitted.name], "devices": [devices[0]]},
            connections=[permitted.name],
            devices=[devices[0]],
        )
        task = order(driver.requester, asked)
        driver.until(task, "ADMITTED")
        members = [driver.by_account(each) for each in driver.view(task)["committee"]]
        until(
            lambda: any(driver.noted(m, task, "DURING: connections refused: 1") for m in members),
            "a member sees the refused connection",
        )
        permitted.release.set()
        driver.until(task, "SETTLED")
        assert (permitted.lines, other.lines) == ([b"ping\n"], [])
    told = quick.outcome(driver, task, driver.b)
    assert (told["status"], told["exit_code"]) == ("RAN", 0)
    assert told["errors"] == ["CONNECTION_REFUSED"]
    words = (driver.results(task, driver.b) / "words.txt").read_text()
    assert words == "403 200 pong True False False"


@pytest.mark.parametrize(
    ("asked_for", "code"),
    [
        ({"connections": ["192.0.2.7:443"]}, "connection-not-permitted"),
        ({"devices": ["/dev/full"]}, "device-not-permitted"),
    ],
)
def test_what_the_owners_do_not_permit__is_not_even_posted(
    driver: Driver,
    lists: tuple[Path, Path],
    make_function: Callable[[str], Path],
    asked_for: dict[str, list[str]],
    code: str,
) -> None:
    asked = quick.request(driver, make_function("print()"), lists, **asked_for)
    with pytest.raises(DaemonRefused, match=code) as refused:
        order(driver.requester, asked)
    assert refused.value.exit_code == 2
