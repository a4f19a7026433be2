"""Hardware that is plugged into the lab's PC while it runs, and pulled again, as a hand would.

The PC has free PCIe slots and a USB 3 controller for it. What is plugged in is emulated by QEMU, so
the operating system sees what it would see of the real thing; electricity is not simulated.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Final

from nodeclient.errors import MachineError
from nodeclient.machine.lab.qmp import command

SLOTS: Final = ("slot1", "slot2", "slot3")
USB: Final = "usb"
_PULL_SECONDS = 30.0  # a busy system without acceleration; it must agree to give up a PCIe card
_MEDIUM_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Model:
    driver: str
    ids: str  # as a TaskSpec would name it
    options: MappingProxyType[str, object] = field(default_factory=lambda: MappingProxyType({}))
    medium: bool = False


class Gadget(Enum):
    """What can be plugged in. A medium is empty and holds 1 MiB."""

    # romfile: a card's own program would run in the firmware if it were there at power-on
    USB_STICK = _Model("usb-storage", "usb:46f4:0001", medium=True)
    USB_TABLET = _Model("usb-tablet", "usb:0627:0001")
    NETWORK_CARD = _Model("virtio-net-pci", "pci:1af4:1041", MappingProxyType({"romfile": ""}))
    DISK = _Model("virtio-blk-pci", "pci:1af4:1042", medium=True)
    NVME = _Model("nvme", "pci:1b36:0010", MappingProxyType({"serial": "plugged"}), medium=True)
    PCI_CARD = _Model("pci-testdev", "pci:1b36:0005")

    @property
    def ids(self) -> str:
        """Bus, vendor and product, as a TaskSpec names a device."""
        return self.value.ids

    @property
    def is_usb(self) -> bool:
        """Whether it goes into a USB port, not into a slot."""
        return self.value.driver.startswith("usb-")


def sockets() -> list[str]:
    """QEMU's options for the slots and the USB controller of a PC."""
    slots = (
        ("-device", f"pcie-root-port,id={name},chassis={number},slot={number}")
        for number, name in enumerate(SLOTS, 1)
    )
    return [*(word for pair in slots for word in pair), "-device", f"qemu-xhci,id={USB}"]


def plug_in(monitor: Path, gadget: Gadget, name: str, slot: str = SLOTS[0]) -> None:
    """Plug a device in under a name of the caller's. `monitor` is `Qemu.monitor`.

    Raises MachineError, also for a slot that is taken.
    """
    model = gadget.value
    options: dict[str, object] = dict(model.options)
    if model.medium:
        medium = {"driver": "null-co", "size": _MEDIUM_BYTES, "read-zeroes": True}
        command(monitor, "blockdev-add", **{**medium, "node-name": _medium(name)})
        options["drive"] = _medium(name)
    if gadget.is_usb:
        place = f"{USB}.0"
    else:
        place = slot
        options["addr"] = "0"  # the only place behind a port; elsewhere no system would look
    try:
        command(monitor, "device_add", driver=model.driver, id=name, bus=place, **options)
    except MachineError:
        _drop_medium(monitor, gadget, name)
        raise


def pull_out(monitor: Path, gadget: Gadget, name: str) -> None:
    """Pull it, and wait until it is out: of a PCIe card the system is asked first.

    Raises MachineError if it is not out after 30 s.
    """
    command(monitor, "device_del", id=name)
    deadline = time.monotonic() + _PULL_SECONDS
    while name in plugged(monitor) or not _drop_medium(monitor, gadget, name):
        if time.monotonic() > deadline:
            raise MachineError(f"{name} is not let go", "look whether the system still runs")
        time.sleep(0.05)


def plugged(monitor: Path) -> frozenset[str]:
    """Names of all devices that have one. Raises MachineError."""
    listed = command(monitor, "qom-list", path="/machine/peripheral")
    assert isinstance(listed, list)
    return frozenset(entry["name"] for entry in listed)


def _medium(name: str) -> str:
    return f"{name}-medium"


def _drop_medium(monitor: Path, gadget: Gadget, name: str) -> bool:
    """Whether it is gone: QEMU uses it for a moment longer than the device."""
    if gadget.value.medium:
        try:
            command(monitor, "blockdev-del", **{"node-name": _medium(name)})
        except MachineError:
            return False
    return True
