"""Host devices that a task permits, and nothing else, as the engine wants them.

A TaskSpec names a device as `/dev/…`, `usb:vvvv:pppp` or `pci:vvvv:pppp`. Only character devices
are ever passed in: a disk, the kernel's memory or the TPM would give the function the Machine
itself, whatever the task says.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agent.inventory import device_at

_SYS = Path("/sys")
_MEMORY = {(1, 1), (1, 2), (1, 4), (1, 11)}  # mem, kmem, port, kmsg (Linux devices.txt)
LENT_GROUP = 65533  # nobody else is in it; containers are 65534
# What the Machine itself is made of, and disks by their second, unblocked door (sg, bsg, nvme, ng).
_REFUSED_PREFIXES = (
    *("tpm", "loop-control", "mapper/", "kvm", "vfio", "vhost", "uinput", "fuse", "userfaultfd"),
    *("net/", "sg", "bsg/", "nvme", "ng", "nvram", "snapshot", "watchdog", "cpu/", "console"),
    *("hpet", "rtc", "mcelog", "tty0", "ptmx", "pts/"),
)
_HUB = "09"  # bDeviceClass: whoever has it has what is plugged into it
_EVERYBODY = 0o006


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


@contextmanager
def lent(devices: Sequence[PassedDevice]) -> Iterator[list[PassedDevice]]:
    """The same devices, usable by the container's group while it runs, then root's alone again.

    On a Machine of its own nobody sets up device nodes: the kernel makes them, for root only. The
    engine gives the container's node the owner, group and mode of the Machine's.
    Raises DeviceMissing.
    """
    changed: list[tuple[str, os.stat_result]] = []
    try:
        for device in devices:
            try:
                status = os.lstat(device.node)
                if status.st_mode & _EVERYBODY == _EVERYBODY:
                    continue  # /dev/null and the like: others need them as they are
                changed.append((device.node, status))
                os.chown(device.node, 0, LENT_GROUP, follow_symlinks=False)
                os.chmod(device.node, 0o660)
            except OSError as error:
                raise DeviceMissing(f"{device.node} went; plug it in") from error
        nodes = {node for node, _ in changed}
        yield [
            replace(device, group=LENT_GROUP) if device.node in nodes else device
            for device in devices
        ]
    finally:
        for node, status in changed:
            with contextlib.suppress(OSError):  # pulled meanwhile, and its node with it
                os.chown(node, status.st_uid, status.st_gid, follow_symlinks=False)
                os.chmod(node, stat.S_IMODE(status.st_mode))


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
    """Character device nodes of a USB or PCI device, by vendor and product.

    Not those of another device below it: a permitted controller or hub would lend all that hangs
    on it.
    """
    bus, vendor, product = name.split(":")
    files = {"usb": ("idVendor", "idProduct"), "pci": ("vendor", "device")}[bus]
    for device in sorted((sys / "bus" / bus / "devices").glob("*")):
        ids = [_read(device / file).removeprefix("0x") for file in files]
        if ids != [vendor, product] or _read(device / "bDeviceClass") == _HUB:
            continue
        top = str(device.resolve())
        for folder, below, names in os.walk(top):
            if folder != top and device_at(Path(folder)):
                below.clear()
                continue
            if "dev" in names and "/block/" not in folder:
                for line in _read(Path(folder) / "uevent").splitlines():
                    if line.startswith("DEVNAME="):
                        yield "/dev/" + line.removeprefix("DEVNAME=")


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""
