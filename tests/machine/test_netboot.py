"""A boot over a real cable (veth), with real DHCP, HTTP, rules and Agent; only the PC is small."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from agent.formats.netboot import LINK_PORT
from nodeclient.images.build import BuiltImage
from nodeclient.machine.power import forget_machine
from tests.machine.boots import FakePower, make_image, netboot
from tests.machine.support import Pi
from tests.machine.wire import Wire

DOCKER = Path("/var/run/docker.sock")


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    try:
        wire.make()
        with wire.at_pi():
            yield wire
    finally:
        wire.remove()


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
    power = bench.power()
    machine = netboot(bench.pi, bench.image, power)
    session = await machine.boot(1)
    assert session.image == bench.image
    assert bench.wire.listening() == {("tcp", LINK_PORT)}
    bench.pi.machine = machine  # type: ignore[assignment]
    job = bench.pi.job("pass")
    await bench.pi.prepare(job)
    evidence = await bench.pi.ask(job)
    boot = evidence.claims()["boot"] if hasattr(evidence, "claims") else None
    await machine.power_off()
    assert boot is None or boot
    assert bench.wire.listening() == set()
    assert power.log == ["off", "on", "off"]
    assert (await machine.dropped())["stranger"] == 0
