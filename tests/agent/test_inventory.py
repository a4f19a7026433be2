"""The inventory: what a reviewer can tell two devices apart by, from a small /sys."""

from __future__ import annotations

from pathlib import Path

from agent.disks import Present
from agent.inventory import device_at, inventory

CONTROLLER = "devices/pci0000:00/0000:00:06.0"


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text + "\n")
    return folder


def enter(sys: Path, place: str, target: Path) -> None:
    """An entry of a bus or class, which is a link as in the real one."""
    (sys / place).mkdir(parents=True, exist_ok=True)
    (sys / place / target.name).symlink_to(target)


def small_pc(sys: Path) -> Path:
    """A USB controller with a stick that is also a keyboard, its disk, and a network card."""
    card = {"vendor": "0x1b36", "device": "0x000d", "class": "0x0c0330", "revision": "0x01"}
    controller = write(
        sys / CONTROLLER, subsystem_vendor="0x1af4", subsystem_device="0x1100", **card
    )
    write(sys / "drivers/xhci_hcd")
    (controller / "driver").symlink_to(sys / "drivers/xhci_hcd")
    enter(sys, "bus/pci/devices", controller)
    stick = write(
        controller / "usb2/2-1",
        **{"idVendor": "46f4", "idProduct": "0001", "serial": "A\x1b[1m", "bcdDevice": "0100"},
    )
    for number, kind in (("01", "030101"), ("00", "080650")):
        write(
            stick / f"2-1:1.{int(number)}",
            bInterfaceNumber=number,
            bInterfaceClass=kind[:2],
            bInterfaceSubClass=kind[2:4],
            bInterfaceProtocol=kind[4:],
        )
        enter(sys, "bus/usb/devices", stick / f"2-1:1.{int(number)}")
    enter(sys, "bus/usb/devices", stick)
    disk = write(stick / "2-1:1.0/host6/block/sda", size="2048", removable="1", ro="0")
    write(disk / "device", model="QEMU HARDDISK   ", wwid="naa.5")
    enter(sys, "class/block", disk)
    enter(sys, "class/block", write(sys / "devices/virtual/block/loop0", size="8", ro="1"))
    net = write(controller / "net/eth0", address="52:54:00:00:00:01", type="1")
    enter(sys, "class/net", net)
    return stick


def test_inventory__small_pc__every_row_tells_what_it_is(tmp_path: Path) -> None:
    small_pc(tmp_path)
    card, stick = "pci:1b36:000d", "usb:46f4:0001"
    assert inventory(Present(), tmp_path) == {
        "pci": [
            [
                *("0000:00:06.0", "0x1b36", "0x000d", "0x0c0330"),
                *("0x1af4 0x1100", "0x01", "xhci_hcd"),
            ]
        ],
        "usb": [["2-1", "46f4", "0001", "A?[1m", "0100", "0:080650 1:030101", ""]],
        "block": [
            ["loop0", 8, 0, 1, "", "", ""],
            ["sda", 2048, 1, 0, stick, "QEMU HARDDISK", "naa.5"],
        ],
        "net": [["eth0", "52:54:00:00:00:01", 1, card]],
    }


def test_inventory__no_such_bus__empty_lists(tmp_path: Path) -> None:
    assert inventory(Present(), tmp_path) == {"pci": [], "usb": [], "block": [], "net": []}


def test_inventory__device_with_long_words__cut(tmp_path: Path) -> None:
    stick = small_pc(tmp_path)
    (stick / "serial").write_text("x" * 4000)
    found = inventory(Present(), tmp_path)["usb"]
    assert isinstance(found, list)
    assert len(found[0][3]) == 128


def test_device_at__a_device_that_says_nonsense__is_none(tmp_path: Path) -> None:
    assert device_at(write(tmp_path / "2-1", idVendor="46f4\nx", idProduct="0001")) == ""
    assert device_at(write(tmp_path / "virtio0", vendor="0x1af4", device="0x0001")) == ""
    assert device_at(write(tmp_path / "0000:00:01.0", vendor="0x1af4", device="0x1000")) == (
        "pci:1af4:1000"
    )
