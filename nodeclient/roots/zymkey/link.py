"""A Zymkey as seen from the Node: one question, one answer, in bounded time, or a clear error.

The device is spoken to in a process of its own (`worker`). It is started with the first
question, ended when it does not answer in time, and begun anew after so many questions.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from nodeclient.roots.base import RootAbsent, RootBusy, RootError, RootLocked, UnsealError
from nodeclient.roots.zymkey import worker

PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)  # seconds between tries of a busy device: 1.6 in all
RENEW_AFTER = 10_000  # questions: the binding leaks about 100 bytes each
END_SECONDS = 2.0
_GONE = {errno.ENODEV, errno.ENXIO, errno.EIO, errno.ENOENT, errno.ECONNREFUSED, errno.EPIPE}
_GONE |= {errno.ENOTCONN, errno.ECONNRESET, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ESHUTDOWN}
_NOT_GENUINE = {errno.EBADMSG, errno.EINVAL}  # of bytes that are to be unlocked
_NOT_OFFERED = {errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_BUSY = {errno.EBUSY, errno.EAGAIN}
_LOCKED = {errno.EPERM, errno.EACCES, errno.ENOKEY, errno.EKEYREVOKED, errno.EKEYREJECTED}
_PLUG = "see that it is plugged in and that its service zkifc runs"
_ANSWER = struct.Struct("!iI")


class ZymkeyLink:
    """Questions to one device. Threads take turns."""

    def __init__(
        self,
        library: Path,
        patience: float,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._library = library
        self._patience = patience
        self._pause = pause
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._asked = 0
        self._closed = False

    def ask(self, operation: bytes, data: bytes = b"") -> bytes:
        """Its answer. A busy device is asked again for a bounded time.

        Raises RootAbsent, RootBusy, RootLocked; UnsealError for what does not unlock; RootError.
        """
        status, answer = self._settle(operation, data)
        if operation == b"U" and -status in _NOT_GENUINE:
            status = worker.NOT_GENUINE
        if status != worker.OK:
            raise _error(status, self._library)
        return answer

    def ask_if_offered(self, operation: bytes) -> bytes | None:
        """Its answer; None where this model or its library has no such thing. Raises as `ask`."""
        status, answer = self._settle(operation, b"")
        if status == worker.NOT_OFFERED or -status in _NOT_OFFERED:
            return None
        if status != worker.OK:
            raise _error(status, self._library)
        return answer

    def close(self) -> None:
        """End the device's process. Nothing is asked any more."""
        with self._turn:
            self._closed = True
            self._end()

    def _settle(self, operation: bytes, data: bytes) -> tuple[int, bytes]:
        with self._turn:
            for pause in (*PAUSES, None):
                if self._closed:
                    raise RootError("root: it was closed", "start the node again")
                status, answer = self._exchange(operation, data)
                if -status not in _BUSY:
                    break
                if pause is None:
                    raise RootBusy("root: the Zymkey stays busy", "end what else uses it")
                self._pause(pause)
            if -status in _GONE or status in (worker.NO_LIBRARY, worker.BROKEN):
                self._end()  # what failed so is opened anew by the next question
        return status, answer

    def _exchange(self, operation: bytes, data: bytes) -> tuple[int, bytes]:
        if self._asked >= RENEW_AFTER:
            self._end()
        channel = self._channel or self._begin()
        self._asked += 1
        try:
            deadline = time.monotonic() + self._patience
            channel.settimeout(self._patience)
            channel.sendall(operation + len(data).to_bytes(4, "big") + data)
            status, size = _ANSWER.unpack(_receive(channel, _ANSWER.size, deadline))
            if size > worker.MOST_BYTES:
                raise EOFError
            return status, _receive(channel, size, deadline)
        except TimeoutError:
            self._end()
            raise RootBusy(
                f"root: the Zymkey did not answer within {self._patience:g} s", _PLUG
            ) from None
        except (EOFError, OSError):
            self._end()
            raise RootAbsent("root: the Zymkey's library ended its process", _PLUG) from None

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", worker.__file__, str(self._library)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={"PATH": os.defpath},
                    start_new_session=True,  # Ctrl-C is for the Node, which needs its root to end
                )
            except OSError as error:
                ours.close()
                raise RootError(f"root: {error.strerror}", "free some memory") from error
        self._channel, self._asked = ours, 0
        return ours

    def _end(self) -> None:
        channel, self._channel = self._channel, None
        process, self._process = self._process, None
        if channel is not None:
            channel.close()
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()  # it may stand in a call that never comes back
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)  # a driver that hangs keeps even the dead

    def __del__(self) -> None:
        self._end()


def _receive(channel: socket.socket, size: int, deadline: float) -> bytes:
    """Exactly ``size`` bytes. Raises TimeoutError at the deadline, EOFError when it ended."""
    data = b""
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        channel.settimeout(left)
        part = channel.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _error(status: int, library: Path) -> RootError:
    """What a status other than OK means to a person."""
    if status == worker.NOT_GENUINE:
        return UnsealError("root: the Zymkey does not unlock this", "restore it from a backup")
    if status == worker.NO_LIBRARY:
        return RootAbsent(
            f"root: {library} is not Zymbit's library", "install Zymbit's software or set library"
        )
    if -status in _GONE:
        return RootAbsent(f"root: no Zymkey ({errno.errorcode[-status]})", _PLUG)
    if -status in _LOCKED:
        return RootLocked(
            f"root: the Zymkey refuses its key ({errno.errorcode[-status]})",
            "see whether it is bound to this Pi, or has destroyed its keys",
        )
    reason = errno.errorcode.get(-status, f"status {status}")
    return RootError(
        f"root: the Zymkey failed ({reason})", "restart the Pi; if it stays, replace it"
    )
