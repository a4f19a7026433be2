"""A PC whose whole RAM is poisoned, the eraser booted on it, and its RAM searched from outside.

Every byte holds a canary before the reset, firmware's places included: what is found afterwards was
not erased, whoever says what.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.formats.netboot import ERASE_PORT, PI_ADDRESS
from nodeclient.images.boot.keep import BuiltBoot
from nodeclient.machine.lab import Qemu, QemuSettings
from nodeclient.machine.lab.qmp import command
from nodeclient.machine.netboot import Cable
from nodeclient.machine.netboot.order import BootOrder
from nodeclient.machine.netboot.server import CONFINED, BootServer
from scripts.lab.namespaces import CABLE, SOCKET, Namespaces, plug_in
from scripts.lab.network import MAC
from scripts.lab.pc import memory_file
from scripts.lab.station import Station

PI: Final = "pi"
CANARY: Final = bytes(byte ^ 0x13 for byte in b"QzS7vLkXn3Rw9TbY")
BOOT_SECONDS: Final = 420.0  # a busy computer without acceleration
_PART: Final = 16 << 20
_FIRMWARE_SECONDS: Final = 2.0  # to come so far that the reset is a warm one
_MOST_BELOW_4G: Final = 0xB0000000  # bytes of RAM that a q35 has below 4 GiB
_NO_PARAMETERS: Final = b"\0"

Ranges = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Found:
    """Canaries (16 bytes each, counted where they do not overlap) by where they lie."""

    covered: int
    elsewhere: int


class HighPc(Qemu):
    """A PC with the rest of its RAM above 4 GiB, as one with much more has it."""

    def __init__(self, settings: QemuSettings, below_mib: int) -> None:
        super().__init__(settings)
        self._below_mib = below_mib

    def arguments(self) -> list[str]:
        """As a PC's."""
        board, split = "q35,memory-backend=ram", f",max-ram-below-4g={self._below_mib}M"
        return [word + split if word == board else word for word in super().arguments()]


class ErasureRig:
    """Made by `erasure_rig`. `settle` first, then `boot`; `search` at any time."""

    def __init__(self, folder: Path, memory_mib: int, below_mib: int) -> None:
        if min(memory_mib, below_mib) << 20 > _MOST_BELOW_4G:
            raise ValueError("a q35 has 2816 MiB below 4 GiB at most")
        label = secrets.token_hex(3)
        self.memory_mib, self._below_mib = memory_mib, min(memory_mib, below_mib)
        self.memory = memory_file(label)
        self.spaces = Namespaces(label, (PI,))
        self.station = Station(self.spaces.site(PI).namespace)
        self.cable = Cable(CABLE, MAC)
        settings = QemuSettings(folder / "pc", SOCKET, MAC, memory_mib, memory_file=self.memory)
        self.pc = HighPc(settings, self._below_mib)
        self._server: BootServer | None = None
        self._undo = contextlib.ExitStack()

    def set_up(self) -> None:
        """A Pi, a cable, a PC that is off."""
        self._undo.callback(lambda: self.memory.unlink(missing_ok=True))
        self._undo.callback(self.spaces.remove)
        self.spaces.make()
        plug_in(self.spaces.site(PI).namespace, SOCKET)
        self._undo.callback(self.station.stop)
        self.station.start()
        self.station.run(self.cable.attach())
        self._undo.callback(self.power_off)

    def tear_down(self) -> None:
        """Nothing is left, whatever happened."""
        self._undo.close()

    def power_off(self) -> None:
        """Cut the power; what was in RAM is gone."""
        if self._server is not None:
            server, self._server = self._server, None
            self.station.run(server.stop())
        self.station.run(self.pc.off())

    def settle(self) -> None:
        """Switch on, and fill all RAM with canaries while the processor stands still."""
        self.station.run(self.pc.on())
        time.sleep(_FIRMWARE_SECONDS)
        command(self.pc.monitor, "stop")
        with self.memory.open("r+b") as ram:
            for _ in range(0, self.memory_mib << 20, _PART):
                ram.write(CANARY * (_PART // len(CANARY)))

    def boot(self, image: BuiltBoot) -> socket.socket:
        """Press the reset button, serve `image`; the connection of the eraser. OSError: none."""
        order = BootOrder(self.cable, image.path, image.image_id, _NO_PARAMETERS)
        server = self._server = BootServer(
            (*CONFINED, sys.executable, "-B", "-m", "nodeclient.machine.netboot.serve")
        )
        self.station.run(server.start(order))
        with self.station.run(_listen()) as listener:
            command(self.pc.monitor, "system_reset")
            command(self.pc.monitor, "cont")
            listener.settimeout(BOOT_SECONDS)
            connection, _ = listener.accept()
        return connection

    def search(self, ranges: Ranges) -> Found:
        """What is in RAM now."""
        with self.memory.open("rb") as ram:
            everything = os.fstat(ram.fileno()).st_size
            with mmap.mmap(ram.fileno(), 0, prot=mmap.PROT_READ) as view:
                covered = sum(
                    _count(view, offset, offset + length)
                    for offset, length in (self._placed(each) for each in ranges)
                )
                return Found(covered, _count(view, 0, everything) - covered)

    def _placed(self, span: tuple[int, int]) -> tuple[int, int]:
        """Where a physical range lies in the file: RAM above 4 GiB follows what is below."""
        start, length = span
        return (start - (1 << 32) + (self._below_mib << 20) if start >> 32 else start), length


def _count(view: mmap.mmap, start: int, end: int) -> int:
    # Canaries begin on multiples of their size, and so do parts: none is cut in two.
    return sum(view[at : min(end, at + _PART)].count(CANARY) for at in range(start, end, _PART))


async def _listen() -> socket.socket:
    return socket.create_server((PI_ADDRESS, ERASE_PORT))


@contextlib.contextmanager
def erasure_rig(folder: Path, memory_mib: int, below_mib: int = 2048) -> Iterator[ErasureRig]:
    """A rig in `folder`, which is emptied; nothing of it is left afterwards.

    below_mib: how much of its RAM lies below 4 GiB at most.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    made = ErasureRig(folder, memory_mib, below_mib)
    try:
        made.set_up()
        yield made
    finally:
        made.tear_down()
        shutil.rmtree(folder, ignore_errors=True)
