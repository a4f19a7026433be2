"""The initramfs' script, as far as a host can run it: how the root is fetched and hashed."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeclient.images.boot import build

SCRIPT = Path(build.__file__).with_name("init.sh").read_text()
CONTENT = bytes(range(256)) * 2048
HEAD = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n"


class Server:
    """Answers one request with `content`, after promising `promised` bytes."""

    def __init__(self, content: bytes, promised: int) -> None:
        self._answer = HEAD % promised + content
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            caller, _ = self._socket.accept()
        except OSError:
            return
        with caller:
            caller.recv(4096)
            with contextlib.suppress(OSError):  # it hung up, which is its right
                caller.sendall(self._answer)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


def fetch(folder: Path, content: bytes, *, promised: int | None = None) -> str:
    """What the script says of this root; CONTENT is the one that was measured."""
    start, end = SCRIPT.index("set -o pipefail"), SCRIPT.index("$B mount -t squashfs")
    server = Server(content, len(content) if promised is None else promised)
    part = SCRIPT[start:end].replace("@HOST@", "127.0.0.1").replace("@PORT@", str(server.port))
    part = part.replace("@PATH@", "/root.squashfs").replace("/fetched", str(folder))
    wanted = hashlib.sha256(CONTENT).hexdigest()
    begin = f'B=busybox\noff() {{ echo "$1"; exit 1; }}\nroot={wanted}'
    try:
        done = subprocess.run(
            ["busybox", "sh", "-c", f"{begin}\n{part}\necho mounted"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        server.close()
    return done.stdout.strip()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A RAM disk with less room than the root takes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "sealrun-test", str(folder)]
    subprocess.run(mount, check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_fetch__root_that_was_measured__kept_whole(tmp_path: Path) -> None:
    assert fetch(tmp_path, CONTENT) == "mounted"
    assert (tmp_path / "root.squashfs").read_bytes() == CONTENT


def test_fetch__one_byte_differs__refused(tmp_path: Path) -> None:
    assert fetch(tmp_path, CONTENT[:-1] + b"x") == "not the root that was measured"


def test_fetch__ends_early__refused(tmp_path: Path) -> None:
    assert fetch(tmp_path, CONTENT[:-9], promised=len(CONTENT)) in (
        "no root",
        "not the root that was measured",
    )


def test_fetch__right_bytes_that_do_not_fit__refused(small: Path) -> None:
    """What arrived hashes right, and what lies there to be mounted is something else."""
    assert fetch(small, CONTENT) == "no root"
    assert (small / "root.squashfs").stat().st_size < len(CONTENT)
