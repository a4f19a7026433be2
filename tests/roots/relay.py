"""Somebody on the bus between CPU and TPM: sees all that passes, and may alter an answer."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import TracebackType

from scripts.embedded.swtpm import ServedTpm


class Relay:
    """Passes on every byte. ``spoil``: a command code whose answers it alters from now on."""

    def __init__(self, chip: ServedTpm, folder: Path) -> None:
        self._target = chip.tcti.partition("path=")[2]
        folder.mkdir()
        self._path = str(folder / "s")
        self.passed = b""
        self.spoil = self.spoiled = 0
        self._over = threading.Event()
        self._servers: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    @property
    def tcti(self) -> str:
        return f"swtpm:path={self._path}"

    def __enter__(self) -> Relay:
        for end, noted in (("", True), (".ctrl", False)):
            server = socket.socket(socket.AF_UNIX)
            server.bind(self._path + end)
            server.listen(8)
            server.settimeout(0.1)
            self._servers.append(server)
            self._start(self._accept, server, self._target + end, noted)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._over.set()
        for thread in list(self._threads):
            thread.join()
        for server in self._servers:
            server.close()

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, server: socket.socket, target: str, noted: bool) -> None:
        while not self._over.is_set():
            try:
                near, _ = server.accept()
            except TimeoutError:
                continue
            self._start(self._serve, near, target, noted)

    def _serve(self, near: socket.socket, target: str, noted: bool) -> None:
        with near, socket.socket(socket.AF_UNIX) as far:
            far.connect(target)
            for each in (near, far):
                each.settimeout(0.1)
            while not self._over.is_set():
                sent = self._part(near)
                if sent == b"":
                    return
                if sent is None:
                    continue
                far.sendall(sent)
                answer = None
                while answer is None and not self._over.is_set():
                    answer = self._part(far)
                if not answer:
                    return
                if noted:
                    self.passed += sent + answer
                    answer = self._altered(int.from_bytes(sent[6:10], "big"), answer)
                near.sendall(answer)

    @staticmethod
    def _part(end: socket.socket) -> bytes | None:
        """A whole command or response, which are small; None: nothing yet."""
        try:
            return end.recv(8192)
        except TimeoutError:
            return None

    def _altered(self, command: int, answer: bytes) -> bytes:
        if command != self.spoil or len(answer) < 24:
            return answer
        self.spoiled = command
        return answer[:18] + bytes([answer[18] ^ 1]) + answer[19:]
