"""A TPM in the attacker's hands: no PC is behind it, and it is told whatever he likes."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from agent.tpm import Tpm
from agent.tpm_wire import execute, u16
from nodeclient.machine.lab import SoftwareTpm
from scripts.lab.attacks.tpm_wire import SET_DATA_DESCRIPTOR, read_message

STATE: Final = Path("state", "tpm2-00.permall")
_INIT = (0x02).to_bytes(4, "big") + bytes(4)  # swtpm_ioctls(3): CMD_INIT, no flags
_STARTUP, _SHUTDOWN, _CLEAR = 0x144, 0x145, 0


class Bus:
    """Commands to one TPM, as the Agent's `Transport`."""

    def __init__(self, data: socket.socket) -> None:
        self._data = data

    def transmit(self, command: bytes) -> bytes:
        self._data.sendall(command)
        return read_message(self._data)

    def close(self) -> None:
        self._data.close()


@contextlib.contextmanager
def powered(chip: SoftwareTpm) -> Iterator[Bus]:
    """Switch it on and start it up; off at the end, in good order."""
    chip.start()
    try:
        ours, theirs = socket.socketpair()
        with socket.socket(socket.AF_UNIX) as control, theirs:
            control.connect(str(chip.socket))
            socket.send_fds(control, [SET_DATA_DESCRIPTOR], [theirs.fileno()])
            _check(control.recv(4))
            control.sendall(_INIT)
            _check(control.recv(4))
            bus = Bus(ours)
            execute(bus, _STARTUP, (), u16(_CLEAR))
            yield bus
            execute(bus, _SHUTDOWN, (), u16(_CLEAR))
            bus.close()
    finally:
        chip.stop()


@contextlib.contextmanager
def fed(chip: SoftwareTpm, extends: Iterable[bytes]) -> Iterator[Tpm]:
    """A TPM that was told the measurements of another machine's boot."""
    with powered(chip) as bus:
        for command in extends:
            bus.transmit(command)
        tpm = Tpm(bus)
        yield tpm


def copy_state(source: Path, target: Path) -> SoftwareTpm:
    """What a TPM (by its folder) holds now, in another: the same seeds, hence the same keys."""
    (target / STATE).parent.mkdir(parents=True)
    shutil.copyfile(source / STATE, target / STATE)
    return SoftwareTpm(target)


def _check(result: bytes) -> None:
    if result != bytes(4):
        raise RuntimeError(f"swtpm refused a control command with {result.hex()}; read its log")
