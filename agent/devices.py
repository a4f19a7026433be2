"""Host devices that a task permits, and nothing else, as the engine wants them.

A TaskSpec names a device as `/dev/…`, `usb:vvvv:pppp` or `pci:vvvv:pppp`. Only character devices
are ever passed in: a disk, the kernel's memory or the TPM would give the function the Machine
itself, whatever the task says.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_SYS = Path("/sys")
_MEMORY = {(1, 1), (1, 2), (1, 4), (1, 11)}  # mem, kmem, port, kmsg (Linux devices.txt)
_REFUSED_PREFIXES = ("tpm", "loop-control", "kvm", "vfio", "uinput", "fuse", "userfaultfd", "net/")


class DeviceMissing(Exception):
    """A device that the task needs is not there, or is of a kind that is never passed in."""


@dataclass(frozen=True, slots=True)
class PassedDevice:
    """One device node: what asked for it, its path, and the group that may use it."""

    asked: str
    node: str
    group: int


def find_devices(asked: Sequence[str], sys: Path = _SYS) -> list[PassedDevice]:
    """The nodes behind the devices that a TaskSpec permits. Raises DeviceMissing."""
    found: list[PassedDevice] = []
    for name in asked:
        nodes = [name] if name.startswith("/dev/") else sorted(_nodes_of(name, sys))
        if not nodes:
            raise DeviceMissing(f"{name} is not on this Machine; plug it in")
        found += [_checked(name, node) for node in nodes]
    return found


def _checked(asked: str, node: str) -> PassedDevice:
    """Refuse everything but a plain character device, links included."""
    try:
        status = os.lstat(node)
    except OSError as error:
        raise DeviceMissing(f"{node} is not on this Machine; plug it in") from error
    number = (os.major(status.st_rdev), os.minor(status.st_rdev))
    refused = node.removeprefix("/dev/").startswith(_REFUSED_PREFIXES)
    if not stat.S_ISCHR(status.st_mode) or number in _MEMORY or refused:
        raise DeviceMissing(f"{node} is never passed in: only harmless character devices are")
    return PassedDevice(asked, node, status.st_gid)


def _nodes_of(name: str, sys: Path) -> Iterator[str]:
    """Character device nodes at or below a USB or PCI device, by vendor and product."""
    bus, vendor, product = name.split(":")
    files = {"usb": ("idVendor", "idProduct"), "pci": ("vendor", "device")}[bus]
    for device in sorted((sys / "bus" / bus / "devices").glob("*")):
        ids = [_read(device / file).removeprefix("0x") for file in files]
        if ids != [vendor, product]:
            continue
        for folder, _, names in os.walk(device.resolve()):
            if "dev" in names and "/block/" not in folder:
                for line in _read(Path(folder) / "uevent").splitlines():
                    if line.startswith("DEVNAME="):
                        yield "/dev/" + line.removeprefix("DEVNAME=")


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""
