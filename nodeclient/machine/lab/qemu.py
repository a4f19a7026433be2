"""A PC in QEMU, and its power switch: UEFI, TPM 2.0, a disk without a system, one Ethernet cable.

It outlives the daemon that switched it on, as a PC does, and is found again by a note in its
folder. No acceleration: the figures and the timing are the same wherever the lab runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from nodeclient.errors import MachineError
from nodeclient.machine.lab.plugging import sockets
from nodeclient.machine.lab.qmp import command
from nodeclient.machine.lab.tpm import SoftwareTpm
from nodeclient.machine.pidfile import NotedProcess

SIMULATED = ("machine", "cable", "power", "tpm")
_FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
_DISK_BYTES = 64 << 20
_START_SECONDS = 30.0
_MAX_SOCKET = 107  # bytes of a socket's path (sun_path of unix(7), with its NUL)
_FW_CFG = "name=opt/org.tianocore/{},string=no"


@dataclass(frozen=True, slots=True)
class QemuSettings:
    """folder: private to this PC. tap: the Pi's end of its cable, in this network namespace.

    memory_file: where the PC's RAM lies as a file, for those who alter it; None: nowhere. maker:
    see `SoftwareTpm`. tpm: another TPM's folder than the PC's own.
    """

    folder: Path
    tap: str
    mac: str
    memory_mib: int = 1536
    cpus: int = 2
    memory_file: Path | None = None
    maker: Path | None = None
    tpm: Path | None = None


class Qemu:
    """A ``Power``: `on` starts the PC with its TPM, `off` ends both."""

    def __init__(self, settings: QemuSettings) -> None:
        self._settings = settings
        self._folder = settings.folder.absolute()
        self._process = NotedProcess(self._folder / "qemu.pid")
        self.tpm = SoftwareTpm(settings.tpm or self._folder / "tpm", settings.maker)

    @property
    def simulated(self) -> tuple[str, ...]:
        """What is not real about this PC."""
        return SIMULATED

    @property
    def console(self) -> Path:
        """What came out of its serial port in this boot."""
        return self._folder / "console.log"

    @property
    def monitor(self) -> Path:
        """QEMU's own socket (QMP)."""
        return self._folder / "qmp.sock"

    def is_on(self) -> bool:
        """Whether QEMU runs."""
        return self._process.runs

    async def on(self) -> None:
        """Switch on. Raises MachineError."""
        if not self.is_on():
            await asyncio.to_thread(self._start)

    async def off(self) -> None:
        """Cut the power. Raises MachineError."""
        await asyncio.to_thread(self._cut)

    async def reset(self) -> None:
        """Press the reset button. Raises MachineError."""
        await asyncio.to_thread(command, self.monitor, "system_reset")

    def prepare(self) -> None:
        """What a PC has before its first boot: a TPM and an empty disk. Raises MachineError."""
        longest = max(len(os.fsencode(path)) for path in (self.monitor, self.tpm.socket))
        if longest > _MAX_SOCKET:
            raise MachineError(f"{self._folder} is too long for a socket", "use a shorter path")
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.tpm.made:
            self.tpm.make()
        disk = self._folder / "disk.raw"
        if not disk.exists():
            with disk.open("wb") as empty:
                empty.truncate(_DISK_BYTES)

    def _start(self) -> None:
        self.prepare()
        self.monitor.unlink(missing_ok=True)
        self.tpm.start()
        try:
            # Fresh variables: what an earlier boot left in them is no part of this one.
            shutil.copyfile(_VARIABLES, self._folder / "variables.fd")
            self._await_monitor(self._process.start(self.arguments(), self._folder / "qemu.log"))
        except OSError as error:
            self.tpm.stop()
            raise MachineError(
                f"QEMU does not start ({error.strerror})", "install qemu-system-x86 and ovmf"
            ) from error

    def _await_monitor(self, child: subprocess.Popen[bytes]) -> None:
        """QEMU has taken its settings, and runs. Raises MachineError."""
        deadline = time.monotonic() + _START_SECONDS
        while child.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(MachineError):  # its socket is there before its devices
                command(self.monitor, "query-status")
                return
            time.sleep(0.02)
        self._cut()
        words = (self._folder / "qemu.log").read_text(errors="replace").strip()
        raise MachineError(f"QEMU does not start ({words[:200]})", "correct its settings")

    def _cut(self) -> None:
        self._process.end()
        self.tpm.stop()
        self.monitor.unlink(missing_ok=True)

    def arguments(self) -> list[str]:
        """QEMU's command line."""
        return [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(self._settings.cpus)),
            *self._board(),
            *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={_FIRMWARE}"),
            *("-drive", f"if=pflash,format=raw,unit=1,file={self._folder / 'variables.fd'}"),
            *("-drive", f"if=none,id=disk,format=raw,file={self._folder / 'disk.raw'}"),
            *("-device", "virtio-blk-pci,drive=disk"),
            *("-device", "virtio-rng-pci"),
            *sockets(),
            *("-netdev", f"tap,id=cable,ifname={self._settings.tap},script=no,downscript=no"),
            # romfile: no iPXE, which would fetch without measuring.
            *(
                "-device",
                f"virtio-net-pci,netdev=cable,mac={self._settings.mac},romfile=,bootindex=1",
            ),
            *("-fw_cfg", _FW_CFG.format("IPv4PXESupport")),
            *("-fw_cfg", _FW_CFG.format("IPv6PXESupport")),
            *("-chardev", f"socket,id=tpm,path={self.tpm.socket}"),
            *("-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"),
            *("-serial", f"file:{self.console}", "-monitor", "none"),
            *("-qmp", f"unix:{self.monitor},server=on,wait=off"),
        ]

    def _board(self) -> list[str]:
        memory = f"{self._settings.memory_mib}M"
        if self._settings.memory_file is None:
            return ["-machine", "q35", "-m", memory]
        where = f"mem-path={self._settings.memory_file},share=on"
        ram = f"memory-backend-file,id=ram,size={memory},{where}"
        return ["-object", ram, "-machine", "q35,memory-backend=ram", "-m", memory]
