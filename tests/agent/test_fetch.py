"""How the boot parameters reach the Agent, and that they are nowhere else."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from agent.boot import MAX_BOOT
from agent.fetch import FetchFailed, fetch, read_date
from agent.formats.netboot import PARAMETERS_PATH

HOST = "127.0.0.1"
DATE = "Sun, 22 Nov 2026 16:09:00 GMT"


class Page(BaseHTTPRequestHandler):
    """Answers as the class is told to."""

    status, body, length = 200, b"parameters", -1

    def do_GET(self) -> None:
        self.send_response_only(self.status if self.path == PARAMETERS_PATH else 404)
        self.send_header("Date", DATE)
        self.send_header("Content-Length", str(self.length if self.length >= 0 else len(self.body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def pi(**answer: object) -> Iterator[int]:
    server = HTTPServer((HOST, 0), type("Answer", (Page,), answer))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_fetch__the_pi_answers__its_bytes_and_its_clock() -> None:
    with pi() as port:
        assert fetch(HOST, port) == (b"parameters", DATE)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"status": 403}, "answered 403"),
        ({"status": 302}, "answered 302"),
        ({"body": b""}, "empty"),
        ({"body": bytes(MAX_BOOT + 1)}, "too large"),
        ({"length": 11}, "ends early"),
    ],
)
def test_fetch__anything_else__refused(answer: dict[str, object], why: str) -> None:
    with pi(**answer) as port, pytest.raises(FetchFailed, match=why):
        fetch(HOST, port)


def test_fetch__nobody_there__refused() -> None:
    with pi() as port:
        pass
    with pytest.raises(FetchFailed, match="ConnectionRefused"):
        fetch(HOST, port)


def test_read_date__the_pi_s__seconds_since_1970() -> None:
    assert read_date(DATE) == 1_795_363_740


@pytest.mark.parametrize(
    "date",
    [
        "",
        "now",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Thu, 01 Jan 2200 00:00:00 GMT",
        "Sun, 22 Nov 2026",
    ],
)
def test_read_date__none_or_absurd__refused(date: str) -> None:
    with pytest.raises(FetchFailed, match=r"date|clock"):
        read_date(date)


def test_become_agent__full_parameters__on_standard_input_and_nowhere_else(tmp_path: Path) -> None:
    """The process stays, its program changes; what it had in memory, open or in argv is gone."""
    program = tmp_path / "python3"
    program.write_text(
        f"#!{sys.executable}\n"
        + textwrap.dedent(
            """
            import os, sys
            open(sys.argv[0] + ".pid", "w").write(str(os.getpid()))
            open(sys.argv[0] + ".input", "wb").write(sys.stdin.buffer.read())
            open(sys.argv[0] + ".rest", "wb").write(
                open("/proc/self/cmdline", "rb").read() + open("/proc/self/environ", "rb").read()
            )
            open(sys.argv[0] + ".open", "w").write(" ".join(os.listdir("/proc/self/fd")))
            """
        )
    )
    program.chmod(0o755)
    parameters = b"boot secret " * (MAX_BOOT // 12)
    caller = f"""
import sys
from agent.fetch import become_agent
sys.executable = {str(program)!r}
become_agent(b"boot secret " * {MAX_BOOT // 12})
"""
    child = subprocess.Popen([sys.executable, "-c", caller])
    assert child.wait(timeout=60) == 0
    assert (tmp_path / "python3.pid").read_text() == str(child.pid)
    assert (tmp_path / "python3.input").read_bytes() == parameters
    rest = (tmp_path / "python3.rest").read_bytes()
    assert b"-I\0-B\0-m\0agent\0" in rest
    assert b"boot secret" not in rest.replace(caller.encode(), b"")
    # Standard input, output, error, the file being written and the folder being listed.
    assert len((tmp_path / "python3.open").read_text().split()) == 5
