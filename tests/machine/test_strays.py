"""Every frame that the Machine sends past its Pi: dropped, counted, listed at once, reported."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.formats.cable import MAX_SIGHTINGS, CableReport
from agent.formats.netboot import LINK_PORT, MACHINE_ADDRESS, PI_ADDRESS
from nodeclient.core.incidents import Incident, Kind
from nodeclient.errors import MachineError
from nodeclient.machine.netboot import firewall, nflog
from nodeclient.machine.netboot.firewall import Phase
from nodeclient.machine.netboot.strays import LINES, NAME
from nodeclient.machine.netboot.watch import CableWatch
from tests.machine.boots import CABLE
from tests.machine.wire import MAC, STRANGER, Wire

OUTSIDE, OUTSIDE6 = "192.0.2.1", "2001:db8::1"
BROADCAST = b"\xff" * 6
Frames = tuple[bytes, ...]


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def frame(ether_type: int, payload: bytes, source: str = MAC) -> bytes:
    return BROADCAST + raw(source) + struct.pack(">H", ether_type) + payload


def ipv4(protocol: int, rest: bytes, destination: str = OUTSIDE) -> bytes:
    ends = socket.inet_aton(MACHINE_ADDRESS) + socket.inet_aton(destination)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(rest), 0, 0, 64, protocol, 0)
    return frame(0x0800, head + ends + rest)


def ipv6(protocol: int, rest: bytes) -> bytes:
    ends = socket.inet_pton(socket.AF_INET6, "fe80::1") + socket.inet_pton(
        socket.AF_INET6, OUTSIDE6
    )
    return frame(0x86DD, struct.pack(">IHBB", 6 << 28, len(rest), protocol, 255) + ends + rest)


def arp(operation: int, sender: str, sender_mac: str, asked: str) -> bytes:
    body = b"\0\1\x08\0\6\4" + struct.pack(">H", operation) + raw(sender_mac)
    body += socket.inet_aton(sender) + bytes(6) + socket.inet_aton(asked)
    return frame(0x0806, body)


def ports(source: int, destination: int) -> bytes:
    return struct.pack(">HH", source, destination) + bytes(16)


ICMP = bytes([8, 0]) + bytes(6)
ATTEMPTS: dict[str, tuple[bytes, dict[str, object]]] = {
    "DNS": (
        ipv4(17, ports(40000, 53)),
        {
            "protocol": "udp",
            "source": MACHINE_ADDRESS,
            "source_port": 40000,
            "destination": OUTSIDE,
            "destination_port": 53,
        },
    ),
    "TCP": (
        ipv4(6, ports(40001, 443)),
        {"protocol": "tcp", "destination": OUTSIDE, "destination_port": 443},
    ),
    "TCP to another port of the Pi": (
        ipv4(6, ports(40001, 22), PI_ADDRESS),
        {"protocol": "tcp", "destination": PI_ADDRESS, "destination_port": 22},
    ),
    "the Pi's port from another address": (
        frame(
            0x0800,
            ipv4(6, ports(4, LINK_PORT), PI_ADDRESS)[14:26]
            + b"\x0a\x4d\0\7"
            + ipv4(6, ports(4, LINK_PORT), PI_ADDRESS)[30:],
        ),
        {"protocol": "tcp", "source": "10.77.0.7", "destination_port": LINK_PORT},
    ),
    "UDP": (ipv4(17, ports(5, 9)), {"protocol": "udp", "destination_port": 9}),
    "ICMP": (ipv4(1, ICMP), {"protocol": "icmp", "destination": OUTSIDE}),
    "GRE": (ipv4(47, bytes(8)), {"protocol": "ip-47", "destination": OUTSIDE}),
    "IPv6 neighbour": (
        ipv6(58, bytes([135]) + bytes(23)),
        {"protocol": "icmpv6", "source": "fe80::1", "destination": OUTSIDE6},
    ),
    "IPv6 TCP": (
        ipv6(6, ports(7, 443)),
        {"protocol": "tcp", "destination": OUTSIDE6, "destination_port": 443},
    ),
    "IPv6 TCP behind a header": (
        ipv6(0, bytes([6, 0]) + bytes(6) + ports(7, 443)),
        {"protocol": "tcp", "destination": OUTSIDE6, "destination_port": 443},
    ),
    "ARP for another": (
        arp(1, MACHINE_ADDRESS, MAC, "10.77.0.9"),
        {"protocol": "arp-request", "source": MACHINE_ADDRESS, "destination": "10.77.0.9"},
    ),
    "ARP spoof": (
        arp(2, "10.77.0.9", MAC, PI_ADDRESS),
        {"protocol": "arp-reply", "source": "10.77.0.9", "destination": PI_ADDRESS},
    ),
    "ARP spoof with another card": (
        arp(2, MACHINE_ADDRESS, STRANGER, PI_ADDRESS),
        {"protocol": "arp-reply", "source": MACHINE_ADDRESS},
    ),
    "VLAN to the Pi's port": (
        frame(0x8100, b"\0\5\x08\0" + ipv4(6, ports(4, LINK_PORT), PI_ADDRESS)[14:]),
        {"protocol": "tcp", "vlan": 5, "destination": PI_ADDRESS, "destination_port": LINK_PORT},
    ),
    "two VLAN tags": (
        frame(0x88A8, b"\0\5\x81\0\0\6\x08\0" + ipv4(17, ports(1, 2))[14:]),
        {"protocol": "udp", "vlan": 5, "destination": OUTSIDE},
    ),
    "raw EtherType": (
        frame(0x88B5, b"secret"),
        {"protocol": "0x88b5", "source": MAC, "destination": "ff:ff:ff:ff:ff:ff"},
    ),
    "a length instead of a type": (frame(4, b"\x42\x42\3\0"), {"protocol": "802.3"}),
    "cut off": (frame(0x0800, b"\x45"), {"protocol": "0x0800", "source": MAC}),
}


@dataclass
class Scene:
    """A cable whose Machine runs, and what the Pi noticed."""

    wire: Wire
    watch: CableWatch
    folder: Path
    incidents: list[Incident] = field(default_factory=list)

    def send(self, *frames: bytes) -> None:
        with self.wire.at_pc(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as plain:
            plain.bind(("eth0", 0))
            for each in frames:
                plain.send(each)

    def lines(self) -> list[dict[str, object]]:
        path = self.folder / NAME
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def until(self, held: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not held():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def report(self) -> CableReport:
        return CableReport.decode(await self.watch.report())


@pytest.fixture
async def scene(wire: Wire, tmp_path: Path) -> AsyncIterator[Scene]:
    incidents: list[Incident] = []
    wire.hush()
    watch = CableWatch(CABLE, tmp_path / "machine", incidents.append)
    await firewall.apply(CABLE, Phase.OFF)
    await CABLE.attach()
    await watch.begin()
    await firewall.apply(CABLE, Phase.RUNNING)
    yield Scene(wire, watch, tmp_path / "machine", incidents)
    watch.stop()
    await firewall.remove(CABLE)


@pytest.mark.parametrize("name", list(ATTEMPTS))
async def test_stray__each_kind__dropped_counted_listed_and_reported(
    scene: Scene, name: str
) -> None:
    sent, told = ATTEMPTS[name]
    scene.send(sent)
    await scene.until(lambda: bool(scene.incidents))
    (line,) = scene.lines()
    assert {key: line[key] for key in told} == told
    assert (line["phase"], line["kind"], line["count"]) == ("running", "stray", 1)
    assert line["source_mac"] == MAC
    report = await scene.report()
    assert (report.strays, len(report.seen)) == (1, 1)
    assert report.seen[0].protocol == told["protocol"]
    (incident,) = scene.incidents
    assert incident.kind is Kind.STRAY
    assert str(told["protocol"]) in incident.text
    assert incident.text.isprintable()


async def test_stray__another_mac__counted_as_a_stranger_and_held_against_the_machine(
    scene: Scene,
) -> None:
    scene.send(frame(0x0800, ipv4(17, ports(1, 53))[14:], STRANGER))
    await scene.until(lambda: bool(scene.incidents))
    (line,) = scene.lines()
    assert (line["kind"], line["source_mac"]) == ("stranger", STRANGER)
    report = await scene.report()
    assert (report.now["stranger_running"], report.now["stray_running"]) == (1, 0)
    assert report.strays == 1


async def test_stray__same_frame_again_and_again__one_line_at_once_then_their_number(
    scene: Scene,
) -> None:
    scene.send(*[ATTEMPTS["DNS"][0]] * 50)
    await scene.until(lambda: len(scene.lines()) >= 2)
    assert [line["count"] for line in scene.lines()] == [1, 49]
    report = await scene.report()
    assert (report.strays, report.seen[0].count) == (50, 50)


async def test_stray__flood_of_different_frames__bounded_lists_and_a_full_count(
    scene: Scene,
) -> None:
    flood = [ipv4(17, ports(port, 53)) for port in range(1, 3001)]
    scene.send(*flood)
    await scene.until(lambda: any("not_listed" in line for line in scene.lines()))
    lines = scene.lines()
    assert sum("protocol" in line for line in lines) <= 4 * LINES
    handed = sum(int(str(line.get("count", line.get("not_listed")))) for line in lines)
    assert handed < len(flood)  # the kernel did not even hand all of them over
    report = await scene.report()
    assert report.strays == len(flood)
    assert len(report.seen) == MAX_SIGHTINGS


async def test_stray__while_it_boots__listed_and_neither_reported_nor_held_against_it(
    scene: Scene,
) -> None:
    await firewall.apply(CABLE, Phase.BOOTING)
    scene.send(ATTEMPTS["IPv6 neighbour"][0])
    await scene.until(lambda: bool(scene.lines()))
    assert scene.lines()[0]["phase"] == "booting"
    report = await scene.report()
    assert (report.strays, report.seen, scene.incidents) == (0, (), [])
    assert report.now["stray_booting"] == report.began["stray_booting"] + 1


async def test_what_it_may__leaves_no_trace(scene: Scene) -> None:
    """The control: its ARP for the Pi and its TCP to the Agent's port."""
    scene.wire.address(f"{MACHINE_ADDRESS}/24")
    with socket.socket() as server:
        server.bind((PI_ADDRESS, LINK_PORT))
        server.listen()
        assert scene.wire.reaches(PI_ADDRESS, LINK_PORT)
    assert (await scene.report()).strays == 0
    assert scene.lines() == []


async def test_watch__another_daemon__goes_on_with_the_same_beginning(scene: Scene) -> None:
    scene.send(ATTEMPTS["UDP"][0])
    await scene.until(lambda: bool(scene.lines()))
    scene.watch.stop()
    scene.send(ATTEMPTS["ICMP"][0])  # nobody reads: the rules count it
    later = CableWatch(CABLE, scene.folder, scene.incidents.append)
    await later.go_on()
    report = CableReport.decode(await later.report())
    later.stop()
    assert (report.strays, report.seen) == (2, ())


async def test_watch__pi_started_anew__refused(scene: Scene) -> None:
    scene.send(ATTEMPTS["UDP"][0])
    await scene.until(lambda: bool(scene.lines()))
    scene.watch.stop()
    await scene.watch.begin()
    scene.watch.stop()
    await firewall.remove(CABLE)  # what a restart of the Pi leaves of rules and counters
    await firewall.apply(CABLE, Phase.RUNNING)
    with pytest.raises(MachineError, match="had no rules meanwhile; boot it"):
        await CableWatch(CABLE, scene.folder, scene.incidents.append).go_on()
    (scene.folder / "cable-began").unlink()
    with pytest.raises(MachineError, match="how the cable's counters began"):
        await CableWatch(CABLE, scene.folder, scene.incidents.append).go_on()


async def test_watch__somebody_else_reads_the_log__refused(scene: Scene) -> None:
    with pytest.raises(MachineError, match="end what else reads NFLOG"):
        nflog.listen(firewall.log_group(CABLE))
