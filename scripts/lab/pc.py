"""The rig's PC: QEMU whose TPM bus is tapped, and whose RAM lies in a file."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Final

from nodeclient.machine.lab import Qemu, QemuSettings
from nodeclient.machine.lab.plugging import SLOTS, Gadget, plug_in
from scripts.lab.attacks.tpm_wire import TappedTpm
from scripts.lab.namespaces import SOCKET
from scripts.lab.network import MAC
from scripts.lab.state import LabError

MEMORY_MIB: Final = 1536  # issue 4: the machine of its figures
RAM: Final = Path("/dev/shm")  # noqa: S108  (a RAM disk; the file in it has a name of its own)


class Pc(Qemu):
    """A PC that notes when it was switched on. Call `remove` at the end.

    gadgets: what is plugged into it by then, under the names that they have in `Gadget`.
    """

    def __init__(self, folder: Path, label: str) -> None:
        self.memory = memory_file(label)
        self.folder = folder
        settings = QemuSettings(folder, SOCKET, MAC, MEMORY_MIB, memory_file=self.memory)
        super().__init__(settings)
        self.bus = TappedTpm(folder / "tpm")
        self.tpm = self.bus
        self.gadgets: tuple[Gadget, ...] = ()
        self.switched_on = 0.0  # seconds of the monotonic clock

    async def on(self) -> None:
        """As a PC."""
        self.switched_on = time.monotonic()
        await super().on()
        for gadget, slot in zip(self.gadgets, SLOTS, strict=False):
            await asyncio.to_thread(plug_in, self.monitor, gadget, gadget.name, slot)

    def prepare(self) -> None:
        """As a PC; and its RAM must have room, or QEMU would die of it in the middle of a boot."""
        if shutil.disk_usage(RAM).free < MEMORY_MIB << 20:
            raise LabError(f"{RAM} has no room for {MEMORY_MIB} MiB; make it larger or free memory")
        super().prepare()

    @property
    def door(self) -> Path:
        """The other end of the PC's second serial port, which no honest image uses."""
        return self.folder / "door.sock"

    def arguments(self) -> list[str]:
        """As a PC, and a second serial port (ttyS1)."""
        port = f"unix:{self.door.absolute()},server=on,wait=off"
        return [*super().arguments(), "-serial", port]

    def remove(self) -> None:
        """Nothing of it is left; it must be off."""
        self.memory.unlink(missing_ok=True)


def memory_file(label: str) -> Path:
    """Where the RAM of the rig `label` lies."""
    return RAM / f"sealrun-{label}"
