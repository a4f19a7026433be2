"""An interposer on the bus between a PC and its TPM: it sees every command and may answer itself.

QEMU speaks to swtpm over a control socket, through which it passes the descriptor that TPM commands
go over (swtpm_ioctls(3), CMD_SET_DATAFD). The wiretap takes the place of the control socket, passes
on what comes, and keeps that descriptor for itself: swtpm gets the end of another pair.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nodeclient.machine.lab import SoftwareTpm

SET_DATA_DESCRIPTOR: Final = (0x10).to_bytes(4, "big")
PCR_EXTEND: Final = 0x182  # TPM_CC, TPM 2.0 Library, Part 2 §6.5.2
MAX_COMMAND: Final = 1 << 16
_HEADER = 10  # bytes: tag, size, code
_DESCRIPTORS = 4

Forward = Callable[[bytes], bytes]
Rewrite = Callable[[bytes, Forward], bytes]


class TappedTpm(SoftwareTpm):
    """A PC's TPM with an interposer on its bus.

    `rewrite(command, forward)` gives the response to a command; None passes all of them on.
    `extends` are the commands of this boot that extended PCRs, in their order.
    """

    def __init__(self, folder: Path, maker: Path | None = None) -> None:
        super().__init__(folder, maker)
        self.rewrite: Rewrite | None = None
        self.extends: list[bytes] = []

    def start(self) -> None:
        """As a TPM; then take the place of its socket."""
        super().start()
        self.extends = []
        behind = self.socket.with_name("behind.sock")
        self.socket.rename(behind)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.socket))
        listener.listen(1)
        threading.Thread(target=self._tap, args=(listener, behind), daemon=True).start()

    def stop(self) -> None:
        """As a TPM; who waits for it at the socket is let go."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as plain:
            plain.connect(str(self.socket))  # wakes a tap that nobody ever came to
        self.socket.unlink(missing_ok=True)
        super().stop()

    def _tap(self, listener: socket.socket, behind: Path) -> None:
        with listener:
            here, _ = listener.accept()
        with here, socket.socket(socket.AF_UNIX) as there, contextlib.suppress(OSError):
            there.connect(str(behind))
            while True:  # each control command has one answer
                message, descriptors, _, _ = socket.recv_fds(here, MAX_COMMAND, _DESCRIPTORS)
                if not message:
                    return
                if message.startswith(SET_DATA_DESCRIPTOR) and descriptors:
                    descriptors = [self._interpose(descriptors[0])]
                socket.send_fds(there, [message], descriptors)
                for each in descriptors:
                    os.close(each)
                here.sendall(there.recv(MAX_COMMAND))

    def _interpose(self, descriptor: int) -> int:
        """Serve the PC's data descriptor; what the TPM gets instead."""
        ours, theirs = socket.socketpair()
        pc = socket.socket(fileno=descriptor)
        threading.Thread(target=self._serve, args=(pc, ours), daemon=True).start()
        return theirs.detach()

    def _serve(self, pc: socket.socket, tpm: socket.socket) -> None:
        def forward(command: bytes) -> bytes:
            tpm.sendall(command)
            return read_message(tpm)

        with pc, tpm, contextlib.suppress(OSError):
            while True:
                command = read_message(pc)
                if code_of(command) == PCR_EXTEND:
                    self.extends.append(command)
                rewrite = self.rewrite
                pc.sendall(forward(command) if rewrite is None else rewrite(command, forward))


def read_message(stream: socket.socket) -> bytes:
    """One command or response, whole. Raises ConnectionError at the end of the stream."""
    data = b""
    while len(data) < _HEADER or len(data) < int.from_bytes(data[2:6], "big"):
        part = stream.recv(MAX_COMMAND)
        if not part:
            raise ConnectionResetError("the TPM's bus is dead")
        data += part
    return data


def code_of(command: bytes) -> int:
    """TPM_CC of a command."""
    return int.from_bytes(command[6:_HEADER], "big")
