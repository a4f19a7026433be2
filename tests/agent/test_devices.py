"""Devices: the one that a task permits is there, any other is not, and some never are."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.devices import LENT_GROUP, DeviceMissing, PassedDevice, find_devices, lent
from agent.formats.messages import DURING
from agent.formats.outcome import Ending
from nodeclient.errors import MachineRefused
from tests.machine.support import Pi

NAMES = ("/dev/sealrun-test-one", "/dev/sealrun-test-two")
PROBE = (
    "import os\n"
    f"for name in {NAMES}:\n"
    "    if os.path.exists(name):\n"
    "        device = os.open(name, os.O_RDWR)\n"
    "        open('/capsule/out/first/' + name[-3:], 'wb').write(os.read(device, 4))\n"
)


@pytest.fixture
def devices() -> Iterator[tuple[str, str]]:
    """Two character devices of this host (copies of /dev/zero) that a container has not got."""
    for name in NAMES:
        Path(name).unlink(missing_ok=True)
        os.mknod(name, stat.S_IFCHR | 0o660, os.makedev(1, 5))
        os.chown(name, 0, 4321)  # a group, as a serial port has its own
        os.chmod(name, 0o660)
    yield NAMES
    for name in NAMES:
        Path(name).unlink()


async def test_run__permitted_device__visible_and_another_not(
    pi: Pi, devices: tuple[str, str]
) -> None:
    job = pi.job(PROBE, devices=(devices[0],))
    outcome = await pi.run(job)
    assert (outcome.status, outcome.exit_code) == (Ending.RAN, 0)
    assert pi.open_result(job, "first", outcome.results["first"]) == {"one": bytes(4)}
    evidence = await pi.ask(job, DURING)
    assert evidence.claim("devices") == [[devices[0], devices[0]]]
    containers = evidence.claim("containers")
    assert isinstance(containers, dict)
    assert containers["own"][0]["flags"]["devices"] == [devices[0]]


async def test_prepare__device_is_not_there__refused(pi: Pi) -> None:
    job = pi.job("pass", devices=("/dev/sealrun-nothing",))
    await pi.machine.boot(1)
    with pytest.raises(MachineRefused, match="plug it in") as refused:
        await pi.prepare(job)
    assert refused.value.code == "device_missing"


@pytest.mark.parametrize("number", [(1, 1), (1, 2), (1, 4)])
def test_find__kernel_memory_under_another_name__refused(number: tuple[int, int]) -> None:
    node = "/dev/sealrun-test-memory"
    Path(node).unlink(missing_ok=True)
    os.mknod(node, stat.S_IFCHR | 0o600, os.makedev(*number))
    try:
        with pytest.raises(DeviceMissing, match="never passed in"):
            find_devices([node])
    finally:
        Path(node).unlink()


def test_find__block_device_or_link__refused(tmp_path: Path) -> None:
    disk, link = tmp_path / "disk", tmp_path / "link"
    os.mknod(disk, stat.S_IFBLK | 0o600, os.makedev(7, 0))
    link.symlink_to("/dev/null")
    for node in (disk, link):
        # find_devices takes what the TaskSpec's pattern permits: here only the kind matters
        with pytest.raises(DeviceMissing):
            find_devices(["/dev/../" + str(node)])


def test_find__usb_by_vendor_and_product__its_character_nodes(tmp_path: Path) -> None:
    """A small /sys: one USB stick with a serial port and a disk; only the port's node is found."""
    device = tmp_path / "devices/usb1/1-1"
    for folder, name in (("tty/ttyX", "null"), ("host/block/sdx", "loop0")):
        (device / folder).mkdir(parents=True)
        (device / folder / "dev").write_text("1:3\n")
        (device / folder / "uevent").write_text(f"MAJOR=1\nDEVNAME={name}\n")
    (device / "idVendor").write_text("1a2b\n")
    (device / "idProduct").write_text("3c4d\n")
    (tmp_path / "bus/usb/devices").mkdir(parents=True)
    (tmp_path / "bus/usb/devices/1-1").symlink_to(device)
    [found] = find_devices(["usb:1a2b:3c4d"], tmp_path)
    assert (found.asked, found.node) == ("usb:1a2b:3c4d", "/dev/null")
    with pytest.raises(DeviceMissing, match="plug it in"):
        find_devices(["usb:1a2b:0000"], tmp_path)


def test_find__hub_or_controller__lends_nothing_that_hangs_on_it(tmp_path: Path) -> None:
    """Permitted is one device, not the tree behind it."""
    hub = tmp_path / "devices/pci0000:00/0000:00:06.0/usb1"
    for folder, ids, node in ((hub, "1d6b:0002", "zero"), (hub / "1-1", "1a2b:3c4d", "null")):
        folder.mkdir(parents=True)
        for name, value in zip(("idVendor", "idProduct"), ids.split(":"), strict=True):
            (folder / name).write_text(value)
        (folder / "dev").write_text("189:0")
        (folder / "uevent").write_text(f"DEVNAME={node}")
    (hub / "bDeviceClass").write_text("09\n")
    controller = hub.parent
    (controller / "vendor").write_text("0x1b36\n")
    (controller / "device").write_text("0x000d\n")
    for bus, device in (("usb", hub), ("usb", hub / "1-1"), ("pci", controller)):
        folder = tmp_path / "bus" / bus / "devices"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / device.name).symlink_to(device)
    [found] = find_devices(["usb:1a2b:3c4d"], tmp_path)
    assert found.node == "/dev/null"
    for name in ("usb:1d6b:0002", "pci:1b36:000d"):
        with pytest.raises(DeviceMissing):
            find_devices([name], tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *("sg0", "bsg/0", "nvme0", "ng0n1", "mapper/control", "tty0"),
        *("bus/usb/099/001", "uhid", "mtd0", "ipmi0"),
    ],
)
def test_find__disk_by_its_other_door_or_a_part_of_the_machine__refused(name: str) -> None:
    node = Path("/dev") / name
    if not node.exists():
        node.parent.mkdir(exist_ok=True, parents=True)
        os.mknod(node, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        made = True
    else:
        made = False
    try:
        with pytest.raises(DeviceMissing, match="never passed in"):
            find_devices([str(node)])
    finally:
        if made:
            node.unlink()


@pytest.fixture
def nodes(tmp_path: Path) -> list[PassedDevice]:
    """Two nodes as a kernel makes them without udev, and one that is everybody's."""
    found = []
    for name, mode in (("one", 0o600), ("two", 0o640), ("null", 0o666)):
        node = tmp_path / name
        os.mknod(node, stat.S_IFCHR | mode, os.makedev(1, 5))
        os.chmod(node, mode)
        found.append(PassedDevice("usb:1a2b:3c4d", str(node), 0))
    return found


def test_lent__while_it_runs__the_containers_group_only_and_then_as_before(
    nodes: list[PassedDevice],
) -> None:
    def modes() -> list[tuple[int, int]]:
        stats = [os.stat(each.node) for each in nodes]
        return [(each.st_mode & 0o777, each.st_gid) for each in stats]

    before = modes()
    with lent(nodes) as usable:
        assert modes() == [(0o660, LENT_GROUP), (0o660, LENT_GROUP), (0o666, 0)]
        assert [each.group for each in usable] == [LENT_GROUP, LENT_GROUP, 0]
    assert modes() == before


def test_lent__the_second_went__typed_error_and_the_first_as_before(
    nodes: list[PassedDevice],
) -> None:
    Path(nodes[1].node).unlink()
    with pytest.raises(DeviceMissing, match="plug it in"), lent(nodes):
        pytest.fail("a device is missing")
    assert os.stat(nodes[0].node).st_mode & 0o777 == 0o600


def test_lent__pulled_while_it_runs__the_others_come_back(nodes: list[PassedDevice]) -> None:
    with lent(nodes):
        Path(nodes[0].node).unlink()
    assert os.stat(nodes[1].node).st_mode & 0o777 == 0o640
