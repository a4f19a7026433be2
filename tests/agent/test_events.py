"""Kernel events: parsed, judged, kept whole or visibly not, and told to the Pi one by one.

Where a kernel is needed it is this host's, in network namespaces of their own: a virtual network
card that comes and goes is announced there as a plugged one is. Other programs of this host may
make loop devices meanwhile, which every namespace hears of: tests look at their own names.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.events import EventLog, tell
from agent.formats.cbor import FormatError
from agent.formats.events import CUT, LOST, MAX_EVENTS, Event
from agent.formats.rpc import RpcError
from agent.uevents import parse

ROOT_PORT = "/devices/pci0000:00/0000:00:02.0/0000:01:00.0"
STICK = "/devices/pci0000:00/0000:00:05.0/usb2/2-1"


def message(action: str, path: str, subsystem: str, **fields: str) -> bytes:
    lines = [f"{action}@{path}", f"ACTION={action}", f"DEVPATH={path}", f"SUBSYSTEM={subsystem}"]
    lines += [f"{key}={value}" for key, value in fields.items()]
    return "".join(line + "\0" for line in (*lines, "SEQNUM=7")).encode()


USB = message("add", STICK, "usb", DEVTYPE="usb_device", PRODUCT="46f4/1/0", DEVNAME="bus/usb/002")
PCI = message("add", ROOT_PORT, "pci", PCI_ID="1AF4:1041", PCI_CLASS="20000")


class Queue:
    """The kernel's end of the socket: messages, and errors in between."""

    def __init__(self, *entries: bytes | OSError | tuple[bytes, int, int]) -> None:
        self.entries = list(entries)

    def recvmsg(self, limit: int) -> tuple[bytes, list[object], int, tuple[int, int]]:
        if not self.entries:
            raise BlockingIOError
        entry = self.entries.pop(0)
        if isinstance(entry, OSError):
            raise entry
        data, flags, port = entry if isinstance(entry, tuple) else (entry, 0, 0)
        return data[:limit], [], flags, (port, 1)


def log_of(
    *entries: Any, sys_folder: Path = Path("/nowhere"), own: tuple[str, ...] = ()
) -> EventLog:
    source: Any = Queue(*entries)
    return EventLog(frozenset(own), sys_folder, source)


def told(log: EventLog) -> list[tuple[str, str, str, str]]:
    rows: Any = log.rows()
    return [tuple(row[2:]) for row in rows]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"add@/devices/x",
        b"\0",
        b"add\0",
        b"add@devices/x\0ACTION=add\0DEVPATH=devices/x\0",
        b"ADD@/x\0ACTION=ADD\0DEVPATH=/x\0",
        b"add@/devices/x\0ACTION=remove\0DEVPATH=/devices/x\0",
        b"add@/devices/x\0ACTION=add\0DEVPATH=/devices/y\0",
        b"add@/devices/x\0ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM\0",
        b"add@/devices/x\0ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM=a\0SUBSYSTEM=b\0",
        b"add@/devices/../x\0ACTION=add\0DEVPATH=/devices/../x\0",
        USB + b"\0" * (16 << 10),
        b"libudev\0" + USB,
    ],
)
def test_parse__not_as_the_kernel_writes_it__refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse(data)


@pytest.mark.parametrize(
    ("data", "device"),
    [
        (USB, "usb:46f4:0001"),
        (PCI, "pci:1af4:1041"),
        (message("add", "/devices/x/input1", "input", PRODUCT="3/627/1/1"), ""),
        (message("add", "/devices/x/input1", "input", PRODUCT="3/627/1"), ""),
        (message("add", "/devices/x", "usb", PRODUCT="nothing"), ""),
    ],
)
def test_parse__which_device__as_a_task_names_it(data: bytes, device: str) -> None:
    assert parse(data).device == device


@pytest.mark.parametrize(
    ("action", "path", "subsystem", "is_hardware"),
    [
        ("add", "/devices/pci0000:00/0000:00:02.0", "pci", True),
        ("remove", "/devices/virtual/net/tun0", "net", True),
        ("move", "/devices/virtual/net/eth1", "net", True),
        ("bind", STICK, "usb", True),
        ("change", "/devices/pci0000:00/0000:00:03.0/virtio1/block/vda", "block", True),
        ("add", "/devices/pci0000:00/domain0/0-1", "thunderbolt", True),
        ("add", "/devices/system/memory/memory40", "memory", True),
        ("add", "/devices/virtual/misc/uinput", "misc", True),
        ("add", "/devices/of/a/kind/that/nobody/knows", "", True),
        ("change", "/devices/platform/battery", "power_supply", False),
        ("add", "/devices/platform/battery", "power_supply", True),
        ("add", "/devices/virtual/bdi/0:45", "bdi", False),
        ("add", "/devices/virtual/net/eth0/queues/rx-0", "queues", False),
        ("add", "/module/overlay", "module", False),
        ("add", "/bus/usb/drivers/uas", "drivers", False),
    ],
)
def test_uevent__is_hardware(action: str, path: str, subsystem: str, is_hardware: bool) -> None:
    assert parse(message(action, path, subsystem)).is_hardware is is_hardware


def test_log__plugged_in_and_pulled__both_told_with_the_device() -> None:
    """What is gone has no files that say what it was; what belonged to it goes first."""
    interface, host = f"{STICK}/2-1:1.0", f"{STICK}/2-1:1.0/host6"
    log = log_of(
        USB,
        message("add", host, "scsi"),
        message("remove", host, "scsi"),
        message("remove", interface, "usb", PRODUCT="46f4/1/0"),
        message("remove", STICK, "usb"),
        message("add", STICK, "usb"),
    )
    stick = "usb:46f4:0001"
    assert told(log) == [
        ("add", "usb", "2-1", stick),
        ("add", "scsi", "host6", stick),
        ("remove", "scsi", "host6", stick),
        ("remove", "usb", "2-1:1.0", stick),
        ("remove", "usb", "2-1", stick),
        ("add", "usb", "2-1", ""),  # another one may be there now, and nobody says which
    ]


def test_log__device_of_the_boot__named_by_its_files(tmp_path: Path) -> None:
    """A disk comes behind a controller that was there before the Agent listened."""
    controller = tmp_path / "devices/pci0000:00/0000:00:07.0"
    controller.mkdir(parents=True)
    (controller / "vendor").write_text("0x1b36\n")
    (controller / "device").write_text("0x0010\n")
    disk = "/devices/pci0000:00/0000:00:07.0/nvme/nvme0/nvme0n1"
    log = log_of(message("add", disk, "block"), sys_folder=tmp_path)
    assert told(log) == [("add", "block", "nvme0n1", "pci:1b36:0010")]


def test_log__device_of_the_boot_goes__what_hung_on_it_goes_under_its_name(tmp_path: Path) -> None:
    """When the Agent reads of it, nothing of the device is there any more but the hub above."""
    hub, stick = tmp_path / "devices/usb2", tmp_path / "devices/usb2/2-1"
    for folder, product in ((hub, "0003"), (stick, "0001")):
        folder.mkdir(parents=True)
        (folder / "idVendor").write_text("46f4\n")
        (folder / "idProduct").write_text(f"{product}\n")
    (tmp_path / "bus/usb/devices").mkdir(parents=True)
    (tmp_path / "bus/usb/devices/2-1").symlink_to(stick)
    source: Any = Queue()
    log = EventLog(frozenset(), tmp_path, source)
    log.begin()
    for each in stick.iterdir():
        each.unlink()
    stick.rmdir()
    source.entries += [
        message("remove", "/devices/usb2/2-1/2-1:1.0/0003:0627:0001.0001", "hid"),
        message("remove", "/devices/usb2/2-1", "usb"),
    ]
    assert [row[3] for row in told(log)] == ["usb:46f4:0001"] * 2


def test_log__own_disks__left_out_and_nobody_elses() -> None:
    base = "/devices/virtual/block"
    log = log_of(
        message("add", f"{base}/dm-0", "block"),
        message("change", f"{base}/loop7", "block"),
        message("add", f"{base}/dm-2", "block"),
        message("add", "/devices/virtual/net/dm-0", "net"),
        own=("dm-0", "loop7"),
    )
    assert told(log) == [("add", "block", "dm-2", ""), ("add", "net", "dm-0", "")]


def test_log__kernel_dropped_some__said_where_they_are_missing() -> None:
    full = OSError(105, "No buffer space available")
    log = log_of(PCI, full, full, USB, full)
    assert [row[0] for row in told(log)] == ["add", LOST, "add", LOST]


@pytest.mark.parametrize("entry", [b"rubbish", (USB, 0x20, 0)], ids=["rubbish", "cut"])
def test_log__message_that_says_nothing__counts_as_lost(entry: Any) -> None:
    assert [row[0] for row in told(log_of(entry))] == [LOST]


def test_log__message_of_another_program__no_event() -> None:
    assert told(log_of((USB, 0, 4711))) == []


def test_log__more_than_it_keeps__ends_with_a_word_about_it() -> None:
    log = log_of(*[USB] * (MAX_EVENTS + 50))
    rows: Any = log.rows()
    assert [row[0] for row in rows] == list(range(1, MAX_EVENTS + 1))
    assert [row[2] for row in rows] == ["add"] * (MAX_EVENTS - 1) + [CUT]
    assert all(Event.from_body(row).to_body() == row for row in rows)


def test_log__begin__what_the_boot_brought_is_no_event_but_its_names_are_known() -> None:
    source: Any = Queue(USB)
    log = EventLog(frozenset(), Path("/nowhere"), source)
    assert log.begin()
    assert not log.begin()
    source.entries.append(message("remove", STICK, "usb"))
    rows: Any = log.rows()
    assert rows == [[1, rows[0][1], "remove", "usb", "2-1", "usb:46f4:0001"]]


def in_namespace(script: str) -> Any:
    """What a script prints as JSON, run as root of a network namespace of its own."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", PREPARED + script],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


PREPARED = """
import asyncio, json, socket, subprocess
from agent.events import EventLog, tell
from agent.uevents import listen
def ip(*words):
    subprocess.run(["ip", *words], check=True)
def own(rows):
    return [row[2:5] for row in rows if row[4].startswith("sr")]
"""


def test_kernel__network_card_comes_is_renamed_and_goes__each_an_event() -> None:
    rows = in_namespace("""
log = EventLog()
ip("tuntap", "add", "sr0", "mode", "tap")
ip("link", "set", "sr0", "name", "sr1")
ip("tuntap", "del", "sr1", "mode", "tap")
print(json.dumps(own(log.rows())))
""")
    assert rows == [["add", "net", "sr0"], ["move", "net", "sr1"], ["remove", "net", "sr1"]]


def test_listen__without_the_right_to__typed_error() -> None:
    """As another account: it could not enlarge the queue, and would lose events sooner."""
    said = in_namespace("""
import os
from agent.system import StartFailed
os.setuid(65534)
try:
    listen()
except StartFailed as error:
    print(json.dumps(str(error)))
""")
    assert "no kernel events" in said


def test_kernel__queue_overflows__lost_is_an_event() -> None:
    """A reader that is held up while devices storm in: silence would be the attacker's aim."""
    rows = in_namespace("""
source = listen()
source.setsockopt(socket.SOL_SOCKET, 33, 1)  # the least that the kernel gives
log = EventLog(source=source)
for number in range(40):
    ip("tuntap", "add", f"sr{number}", "mode", "tap")
print(json.dumps([row[2] for row in log.rows()]))
""")
    assert LOST in rows


def test_kernel__forged_message__is_not_the_kernels() -> None:
    """Whoever may write to the socket still cannot write as the kernel."""
    rows = in_namespace("""
source = listen()
log = EventLog(source=source)
liar = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)
fields = b"add@/devices/sr0\\0ACTION=add\\0DEVPATH=/devices/sr0\\0SUBSYSTEM=net\\0"
liar.sendto(fields, (source.getsockname()[0], 0))
print(json.dumps([row for row in log.rows() if row[4] == "sr0"]))
""")
    assert rows == []


def test_tell__card_comes_while_evidence_is_taken__the_pi_hears_of_it_all_the_same() -> None:
    """Evidence reads the queue to its end; what it took must not be lost to the Pi."""
    rows = in_namespace("""
async def main():
    log, heard = EventLog(), asyncio.Queue()
    telling = asyncio.create_task(tell(log, lambda method, body: heard.put((method, body))))
    await asyncio.sleep(0)
    ip("tuntap", "add", "sr0", "mode", "tap")
    stated = await asyncio.to_thread(log.rows)
    while True:
        method, body = await asyncio.wait_for(heard.get(), 30)
        if body[4] == "sr0":
            break
    telling.cancel()
    await asyncio.wait([telling])
    print(json.dumps([method, own(stated), own([body])]))
asyncio.run(main())
""")
    assert rows == ["event", [["add", "net", "sr0"]], [["add", "net", "sr0"]]]


@pytest.mark.parametrize("code", ["busy", "bad_request"])
async def test_tell__pi_says_no__told_again_if_busy_and_the_next_ones_in_any_case(
    code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.events._BUSY_SECONDS", 0)
    heard: list[int] = []
    ready = asyncio.Event()

    async def call(_method: str, body: object) -> None:
        heard.append(Event.from_body(body).number)
        if len(heard) == 1:
            raise RpcError(code, "no")
        if heard[-1] == 2:
            ready.set()

    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        log = log_of(USB, PCI)
        log.fileno = near.fileno  # type: ignore[method-assign]
        log.drain()
        telling = asyncio.create_task(tell(log, call))
        async with asyncio.timeout(20):
            await ready.wait()
        telling.cancel()
        await asyncio.wait([telling])
    assert heard == ([1, 1, 2] if code == "busy" else [1, 2])
