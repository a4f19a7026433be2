"""A boot over a real cable (veth), with real DHCP, HTTP, rules and Agent; only the PC is small."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import docker
import pytest

from agent.formats.bootimage import EFI, MANIFEST, ROOT
from agent.formats.cable import COUNTERS, CableReport
from agent.formats.netboot import HTTP_PORT, LINK_PORT, PI_ADDRESS
from agent.formats.outcome import Ending
from nodeclient.core import claims
from nodeclient.core.images import ImageKind
from nodeclient.core.incidents import Incident
from nodeclient.errors import MachineError
from nodeclient.images.build import BuiltImage
from nodeclient.machine.link import LinkKeys
from nodeclient.machine.netboot import firewall, newest
from nodeclient.machine.netboot.firewall import Phase
from nodeclient.machine.netboot.newest import NewestBoot
from nodeclient.machine.power import forget_machine
from nodeclient.machine.resume import ResumeRecord
from tests.machine.boots import CABLE, FakePower, make_image, netboot
from tests.machine.support import Pi
from tests.machine.wire import STRANGER, Wire

DOCKER = Path("/var/run/docker.sock")


@dataclass
class Bench:
    """A Pi, an image on it, and the switch of its PC."""

    pi: Pi
    wire: Wire
    image: bytes

    def power(self, times: int = 1) -> FakePower:
        return FakePower(self.wire, self.folder, times)

    @property
    def folder(self) -> Path:
        return self.pi.folder / "boot-images" / self.image.hex()


@dataclass
class Switch:
    """A power switch with nothing behind it."""

    simulated = ()
    lit: bool = True
    log: list[str] = field(default_factory=list)

    async def on(self) -> None:
        self.log.append("on")

    async def off(self) -> None:
        self.log.append("off")

    async def reset(self) -> None:
        self.log.append("reset")

    def is_on(self) -> bool:
        return self.lit


@pytest.fixture
def bench(
    wire: Wire, tmp_path: Path, runtime: BuiltImage, engine: docker.DockerClient
) -> Iterator[Bench]:
    pi = Pi(tmp_path / "machine", runtime.image_id, runtime.path)
    image = make_image(pi.folder / "boot-images")
    yield Bench(pi, wire, image)
    wire.kill_pc()
    forget_machine(pi.folder / "scratch", DOCKER, image.hex()[:24])


async def test_boot__approved_image__agent_answers_and_nothing_else_listens(bench: Bench) -> None:
    """And the same again for the AFTER phase: the boot services come back, and go again."""
    power = bench.power()
    machine = netboot(bench.pi, bench.image, power)
    for count in (1, 2):
        session = await machine.boot(count)
        assert session.image == bench.image
        assert bench.wire.listening() == {("tcp", LINK_PORT)}
        assert not bench.wire.reaches(PI_ADDRESS, HTTP_PORT)
        bench.pi.machine = machine
        job = bench.pi.job("pass")
        await bench.pi.prepare(job)
        boot = claims.boot(await bench.pi.ask(job))
        assert (boot.image, boot.count) == (bench.image, count)
    await machine.power_off()
    assert bench.wire.listening() == set()
    assert power.log == ["off", "on", "off", "on", "off"]
    assert (await machine.dropped())["stranger"] == 0


async def test_power_off__firewall_cannot_be_set__power_is_cut_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def refuse(*_: object) -> None:
        raise MachineError("nft is gone", "install it")

    monkeypatch.setattr("nodeclient.machine.netboot.machine.firewall.apply", refuse)
    power = Switch()
    machine = netboot(Pi(tmp_path / "machine", bytes(32), tmp_path), bytes(32), power)
    with pytest.raises(MachineError, match="nft is gone"):
        await machine.power_off()
    assert power.log == ["off"]


async def test_ask__machine_sends_past_its_pi__stands_in_the_evidence_and_is_reported(
    bench: Bench,
) -> None:
    """Also once another daemon took the boot over: the rules counted meanwhile."""
    incidents: list[Incident] = []
    machine = netboot(bench.pi, bench.image, bench.power(), report=incidents.append)
    session = await machine.boot(1)
    job = bench.pi.job("pass")
    bench.pi.machine = machine
    await bench.pi.prepare(job)
    assert not bench.wire.reaches(PI_ADDRESS, 22)
    seen = claims.cable(await bench.pi.ask(job))
    assert seen is not None
    assert [each.destination_port for each in seen.seen if each.protocol == "tcp"] == [22]
    assert any("10.77.0.1:22" in each.text for each in incidents)
    await machine.let_go()
    assert not bench.wire.reaches(PI_ADDRESS, 23)
    later = bench.pi.machine = netboot(bench.pi, bench.image, bench.power())
    await later.resume(session.resume)
    after = claims.cable(await bench.pi.ask(job))
    assert after is not None
    assert after.began == seen.began
    assert after.strays > seen.strays
    await later.power_off()


CLIENT = r"""
import os, socket
out = socket.socket(socket.AF_UNIX)
out.connect(os.environ["SEALRUN_PROXY"])
out.sendall(b"CONNECT TARGET HTTP/1.1\r\n\r\n")
head = b""
while b"\r\n\r\n" not in head: head += out.recv(1)
out.sendall(b"hello")
open("/capsule/out/first/f", "wb").write(head.split()[1] + b" " + out.recv(100))
"""


async def test_run__task_defines_a_connection__its_pi_makes_it(bench: Bench) -> None:
    """The PC reaches nobody: the server listens on the Pi's loopback, for the Pi alone."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read(100)).upper())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert not bench.wire.reaches("127.0.0.1", port)
    machine = bench.pi.machine = netboot(bench.pi, bench.image, bench.power())
    job = bench.pi.job(
        CLIENT.replace("TARGET", f"127.0.0.1:{port}"), connections=(f"127.0.0.1:{port}",)
    )
    outcome = await bench.pi.run(job)
    assert (outcome.status, outcome.exit_code) == (Ending.RAN, 0)
    assert bench.pi.open_result(job, "first", outcome.results["first"]) == {"f": b"200 HELLO"}
    assert bench.wire.listening() == {("tcp", LINK_PORT), ("tcp", port)}
    await machine.power_off()
    server.close()


@pytest.mark.parametrize("approved", [None, ImageKind.RUNTIME, ImageKind.SERVICE])
async def test_boot__image_revoked_or_approved_as_another_kind__refused_without_power(
    bench: Bench, approved: ImageKind | None
) -> None:
    power = bench.power()
    machine = netboot(bench.pi, bench.image, power, approved=approved)
    with pytest.raises(MachineError, match=r"boot image .* is not approved on chain; name"):
        await machine.boot(1)
    assert power.log == ["off"]


@pytest.mark.parametrize("name", [EFI, ROOT, MANIFEST])
async def test_boot__image_changed_on_the_pi__refused_without_power(
    bench: Bench, name: str
) -> None:
    path = bench.folder / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    power = bench.power()
    with pytest.raises(MachineError, match="build it: sealrun image build boot"):
        await netboot(bench.pi, bench.image, power).boot(1)
    assert "on" not in power.log
    assert bench.wire.listening() == set()


async def test_boot__parameters_asked_for_twice__given_up(bench: Bench) -> None:
    power = bench.power(times=2)
    machine = netboot(bench.pi, bench.image, power)
    with pytest.raises(MachineError, match="two machines share the cable"):
        await machine.boot(1)
    assert power.log == ["off", "on", "off"]
    assert bench.wire.listening() == set()
    with pytest.raises(MachineError, match="the Machine is off"):
        await machine.call("status", {})


async def test_boot__another_mac__gets_no_address_and_is_counted(bench: Bench) -> None:
    bench.wire.become(STRANGER)
    power = bench.power()
    machine = netboot(bench.pi, bench.image, power)
    with pytest.raises(MachineError, match="the Machine went off"):
        await machine.boot(1)
    assert power.said().endswith("no address\n")
    assert (await machine.dropped())["stranger"] > 0


async def test_boot__cannot_be_noted__given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A boot that no later daemon could find again must not run on."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(newest, "replace_file", full)
    power = bench.power()
    with pytest.raises(MachineError, match="No space left on device; make room"):
        await netboot(bench.pi, bench.image, power).boot(1)
    assert power.log == ["off", "on", "off"]
    assert bench.wire.listening() == set()


def test_newest_boot__noted_again__the_old_file_is_replaced_not_overwritten(
    tmp_path: Path,
) -> None:
    """Half a file would make the Machine that runs one that nobody knows."""
    boots = NewestBoot(tmp_path)
    boots.note(b"first")
    [file] = tmp_path.iterdir()
    (tmp_path / "old").hardlink_to(file)
    boots.note(b"second")
    assert (tmp_path / "old").read_bytes() != file.read_bytes()
    assert boots.is_it(b"second")
    assert not boots.is_it(b"first")


async def test_resume__daemon_restarted__machine_found_again(bench: Bench) -> None:
    power = bench.power()
    first = netboot(bench.pi, bench.image, power)
    session = await first.boot(1)
    await first.let_go()
    second = netboot(bench.pi, bench.image, power)
    assert await second.resume(session.resume) == session
    status = await second.call("status", {})
    assert status is not None
    assert power.log == ["off", "on"]
    await second.power_off()


async def test_resume__record_of_an_older_boot__newer_machine_untouched(bench: Bench) -> None:
    power = bench.power()
    machine = netboot(bench.pi, bench.image, power)
    old = await machine.boot(1)
    await machine.boot(2)
    for each in (machine, netboot(bench.pi, bench.image, power)):
        with pytest.raises(MachineError, match="that boot is over"):
            await each.resume(old.resume)
    assert await machine.call("status", {}) is not None
    await machine.power_off()


async def test_resume__machine_went_off__its_power_is_cut(bench: Bench) -> None:
    power = bench.power()
    first = netboot(bench.pi, bench.image, power)
    session = await first.boot(1)
    await first.let_go()
    bench.wire.kill_pc()
    with pytest.raises(MachineError, match="the Machine went off"):
        await netboot(bench.pi, bench.image, power).resume(session.resume)
    assert power.log == ["off", "on", "off"]
    assert bench.wire.listening() == set()


async def test_resume__asker_gave_up__the_next_one_still_cuts_a_dead_machine(
    wire: Wire, tmp_path: Path
) -> None:
    """A peer's question is cut off long before a PC is given up: no link may be left half open."""
    assert wire.listening() == set()
    pi, image = Pi(tmp_path / "machine", bytes(32), tmp_path), bytes(32)
    hpke, signing = bytes(32), bytes(64)
    keys = replace(LinkKeys.fresh(bytes(32)), agent=bytes(32))
    pi.slot.put(pi.slot.seal((hpke, signing), keys))
    NewestBoot(pi.folder).note(hpke + signing)
    zeros = dict.fromkeys(COUNTERS, 0)
    (pi.folder / "cable-began").write_bytes(CableReport(zeros, zeros).encode())
    await firewall.apply(CABLE, Phase.RUNNING)  # as the daemon before left them
    power = Switch()
    machine = netboot(pi, image, power)
    record = ResumeRecord(None, LINK_PORT, image, hpke, signing).encode()
    await firewall.apply(CABLE, Phase.RUNNING)  # by the daemon before this one
    asking = asyncio.create_task(machine.resume(record))
    while ("tcp", LINK_PORT) not in wire.listening():
        await asyncio.sleep(0.05)
        assert not asking.done()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert wire.listening() == set()
    assert power.log == []
    power.lit = False
    with pytest.raises(MachineError, match="the Machine went off"):
        await machine.resume(record)
    assert power.log == ["off"]
