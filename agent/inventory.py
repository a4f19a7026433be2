"""The devices of PCI, USB, block and network, as the kernel lists them: one claim.

Each row begins with the device's place, and holds nothing that changes by itself: the same PC gives
the same rows after every boot. Vendor and product stand second and third, as a TaskSpec names them.
"""

from __future__ import annotations

import re
from pathlib import Path

from agent.disks import Present
from agent.host import bounded

_SYS = Path("/sys")
_MAX_FIELD = 128  # characters: serial numbers and names are the device's own words
_PCI_SLOT = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def inventory(own: Present, sys: Path = _SYS) -> dict[str, object]:
    """Rows by bus: `pci`, `usb`, `block`, `net`.

    Of the Agent's `own` block devices as it would be without them: what the Machine *is* stays the
    same from boot to boot. They stand in the claim `scratch`.
    """
    return {"pci": _pci(sys), "usb": _usb(sys), "block": _block(own, sys), "net": _net(sys)}


def device_at(folder: Path) -> str:
    """`usb:vvvv:pppp` or `pci:vvvv:pppp` of the device in this folder of /sys, or nothing."""
    if _PCI_SLOT.fullmatch(folder.name):
        bus, names = "pci", ("vendor", "device")
    else:
        bus, names = "usb", ("idVendor", "idProduct")
    ids = [_read(folder / name).removeprefix("0x") for name in names]
    return ":".join((bus, *ids)) if all(re.fullmatch("[0-9a-f]{4}", each) for each in ids) else ""


def devices_by_path(sys: Path = _SYS) -> dict[str, str]:
    """Path below /sys (as a kernel event names it) → `device_at` of all USB and PCI devices."""
    found: dict[str, str] = {}
    for bus in ("pci", "usb"):
        for entry in _entries(sys / "bus" / bus / "devices"):
            if device := device_at(entry):
                found[f"/{entry.resolve().relative_to(sys.resolve())}"] = device
    return found


def _pci(sys: Path) -> list[object]:
    """[slot, vendor, device, class, vendor and device of the card, revision, driver]"""
    return bounded(
        [
            each.name,
            *(_read(each / name) for name in ("vendor", "device", "class")),
            " ".join(_read(each / f"subsystem_{name}") for name in ("vendor", "device")),
            _read(each / "revision"),
            _link(each / "driver"),
        ]
        for each in _entries(sys / "bus/pci/devices")
    )


def _usb(sys: Path) -> list[object]:
    """[port, vendor, product, serial number, release, interfaces, driver]

    interfaces: number, class, subclass and protocol of each, such as `0:080650`: a stick that is a
    keyboard, too, says so here.
    """
    return bounded(
        [
            each.name,
            *(_read(each / name) for name in ("idVendor", "idProduct", "serial", "bcdDevice")),
            _interfaces(each),
            _link(each / "driver"),
        ]
        for each in _entries(sys / "bus/usb/devices")
        if (each / "idVendor").exists()
    )


def _interfaces(device: Path) -> str:
    folders = {
        int(_read(each / "bInterfaceNumber") or "0", 16): each
        for each in _entries(device)
        if (each / "bInterfaceNumber").exists()
    }
    kinds = ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")
    return " ".join(
        f"{number}:" + "".join(_read(folders[number] / kind) for kind in kinds)
        for number in sorted(folders)
    )[:_MAX_FIELD]


def _block(own: Present, sys: Path) -> list[object]:
    """[name, size in 512-byte sectors, removable, read-only, device, model, serial number]

    device: the USB or PCI device that it belongs to, as a TaskSpec names it; empty if none.
    """
    return bounded(
        [
            each.name,
            *(_number(each / name) for name in ("size", "removable", "ro")),
            _owner(each),
            _first(each, "device/model"),
            _first(each, "device/serial", "serial", "device/wwid"),
        ]
        if each.name not in own.backing
        else [each.name, 0, 0, 0, "", "", ""]
        for each in _entries(sys / "class/block")
        if each.name not in own.mapped
    )


def _net(sys: Path) -> list[object]:
    """[name, hardware address, type, device]; those of a network namespace of its own excluded."""
    return bounded(
        [each.name, _read(each / "address"), _number(each / "type"), _owner(each)]
        for each in _entries(sys / "class/net")
    )


def _owner(entry: Path) -> str:
    """The nearest USB or PCI device above an entry of a class."""
    try:
        place = entry.resolve(strict=True)
    except OSError:  # it went meanwhile
        return ""
    return next((found for each in place.parents if (found := device_at(each))), "")


def _first(folder: Path, *names: str) -> str:
    return next((text for name in names if (text := _read(folder / name))), "")


def _link(file: Path) -> str:
    try:
        return file.readlink().name
    except OSError:
        return ""


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # a kernel without that bus
        return []


def _read(file: Path) -> str:
    """A device's own word, printable and bounded."""
    try:
        text = file.read_bytes()[:_MAX_FIELD].decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return "".join(char if char.isprintable() else "?" for char in text)


def _number(file: Path) -> int:
    text = _read(file)
    return int(text) if text.isdecimal() else 0
