"""Client of a node's control interface: JSON over HTTP/1.1 on ``<node>/control.sock``.

The socket's file mode (0600) is the access control: whoever may read the node's folder may steer
it. Answers are bounded, because also one's own daemon can be broken.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from nodeclient.errors import DaemonAbsent, DaemonRefused, DaemonSilent, DaemonUnreachable

SOCKET = "control.sock"
MAX_ANSWER = 16 << 20  # bytes; a status of thousands of tasks stays far below
_MAX_PATH = 107  # bytes that sun_path takes on Linux, without the final zero


class _UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Open the socket. Raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class ControlClient:
    """Asks one node's daemon. ``seconds`` bounds each request; construction connects nothing."""

    def __init__(self, folder: Path, seconds: float = 60.0) -> None:
        self._path = folder / SOCKET
        self._folder = folder
        self._seconds = seconds

    def get(self, path: str) -> Any:
        """Answer of ``GET path``. Raises `DaemonUnreachable`, `DaemonRefused`."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        """Answer of ``POST path`` with a JSON body. Raises `DaemonUnreachable`, `DaemonRefused`."""
        return self._ask("POST", path, json.dumps(body).encode())

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        start = f"start it: sealrun node run {self._folder}"
        if len(str(self._path).encode()) > _MAX_PATH:
            raise DaemonUnreachable(
                f"the path of {SOCKET} is longer than a socket's can be",
                "use a node folder with a shorter path",
            )
        connection = _UnixConnection(self._path, self._seconds)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            raw = answer.read(MAX_ANSWER + 1)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise DaemonAbsent(f"no node runs in {self._folder}", start) from error
        except PermissionError as error:
            raise DaemonUnreachable(
                f"{self._path} belongs to somebody else", "run this as the node's user"
            ) from error
        except (OSError, HTTPException) as error:
            # An order may have been taken before the answer was lost: ordering again is a second.
            look = f"sealrun node status --node {self._folder}"
            raise DaemonSilent(
                f"the node in {self._folder} does not answer ({type(error).__name__})",
                f"before you order again, look: {look}" if body else f"see {self._folder}/node.log",
            ) from error
        finally:
            connection.close()
        if len(raw) > MAX_ANSWER:
            raise DaemonUnreachable(
                f"the node's answer exceeds {MAX_ANSWER >> 20} MiB", "ask for one task"
            )
        return self._parse(answer.status, raw)

    def _parse(self, status: int, raw: bytes) -> Any:
        try:
            parsed = json.loads(raw)
        except ValueError as error:
            raise DaemonUnreachable(
                f"{self._path} answers with something that is not JSON",
                "check that nothing but sealrun listens there",
            ) from error
        if 200 <= status < 300:
            return parsed
        fields = parsed if isinstance(parsed, dict) else {}
        raise DaemonRefused(
            str(fields.get("error", f"the node answered {status}")),
            str(fields.get("next_step", f"see {self._folder / 'node.log'}")),
            2 if 400 <= status < 500 else 1,
        )
