"""An erasure over a real cable (veth), with real DHCP, HTTP and rules; only the eraser is small."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.formats.bootimage import EFI, MANIFEST
from agent.formats.erasure import WINDOW, ErasureProof
from agent.formats.netboot import LINK_PORT
from nodeclient.core.claims import Region
from nodeclient.core.erasure import uncovered
from nodeclient.core.evidence_policy import MOST_UNCOVERED
from nodeclient.core.images import ImageKind
from nodeclient.errors import MachineError
from nodeclient.machine.channel_keys import KeySlot
from nodeclient.machine.desk import LABEL, MachineDesk
from nodeclient.machine.netboot import NetbootMachine, NetbootSettings
from nodeclient.machine.netboot.newest import NewestBoot
from nodeclient.machine.resume import ResumeRecord
from nodeclient.machine.supply import Supply
from tests.machine.boots import CABLE, REPOSITORY, make_eraser
from tests.machine.support import some_root
from tests.machine.wire import Wire

MIB = 1 << 20
MEMORY = (Region(0, WINDOW + 3 * MIB, "System RAM"), Region(1 << 32, (1 << 32) + MIB, "System RAM"))
RANGES = ((WINDOW, 3 * MIB), (1 << 32, MIB))
HPKE, SIGNING = bytes(32), bytes(64)
BOOT_IMAGE = bytes(32)


@dataclass
class EraserPower:
    """Each switching on or resetting starts a fake eraser, in the manner that is next."""

    wire: Wire
    efi: str
    manners: list[str]
    log: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None
    said: str = ""
    lit: bool = True
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    simulated = ("machine", "power")

    async def on(self) -> None:
        self.log.append("on")
        self._start()

    async def reset(self) -> None:
        self.log.append("reset")
        await self._end()
        self._start()

    async def off(self) -> None:
        self.log.append("off")
        self.lit = False
        await self._end()

    def is_on(self) -> bool:
        return self.lit and (self.process is None or self.process.poll() is None)

    def _start(self) -> None:
        self.lit = True
        self.begun.set()
        words = [sys.executable, "-B", "-m", "tests.machine.fake_eraser", self.efi]
        self.process = subprocess.Popen(
            self.wire.on_pc(*words, self.manners.pop(0)),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    async def _end(self) -> None:
        self.wire.kill_pc()
        process, self.process = self.process, None
        if process is not None:
            self.said += (await asyncio.to_thread(process.communicate))[0]


@dataclass
class Bench:
    """A Pi whose Machine ran one boot, and an eraser on it."""

    wire: Wire
    folder: Path
    eraser: bytes
    approved: ImageKind | None = ImageKind.BOOT
    record: bytes = ResumeRecord(None, LINK_PORT, bytes(32), HPKE, SIGNING).encode()

    def power(self, *manners: str) -> EraserPower:
        efi = self.folder / "images" / self.eraser.hex() / EFI
        return EraserPower(self.wire, hashlib.sha256(efi.read_bytes()).hexdigest(), [*manners])

    def machine(
        self, power: EraserPower, eraser: bytes | None = None, uncovered: int = MOST_UNCOVERED
    ) -> NetbootMachine:
        async def is_approved(asked: bytes, kind: ImageKind) -> bool:
            return kind is self.approved and asked in (self.eraser, BOOT_IMAGE)

        settings = NetbootSettings(
            folder=self.folder,
            cable=CABLE,
            image=BOOT_IMAGE,
            images=self.folder / "images",
            boot_seconds=60.0,
            eraser=self.eraser if eraser is None else eraser,
            uncovered=uncovered,
        )
        supply = Supply(_nothing, _nothing, _nothing)  # type: ignore[arg-type]
        slot = KeySlot(self.folder / "channel.sealed", some_root())
        return NetbootMachine(settings, supply, slot, power, is_approved)


async def _nothing(*_: object) -> None:
    raise AssertionError("no Agent asks")


@pytest.fixture
def bench(wire: Wire, tmp_path: Path) -> Iterator[Bench]:
    NewestBoot(tmp_path).note(HPKE + SIGNING)
    yield Bench(wire, tmp_path, make_eraser(tmp_path / "images"))
    assert wire.listening() == set()


async def test_erase__after_a_run__proved_over_a_cable_that_carries_nothing_else(
    bench: Bench,
) -> None:
    power = bench.power("honest")
    proof = ErasureProof.decode(await bench.machine(power).erase(bench.record, MEMORY, False))
    assert (proof.image, proof.ranges, proof.quote) == (bench.eraser, RANGES, None)
    assert power.log == ["reset", "off"]
    seen = ["others 404 404", "open []"]
    assert [line for line in power.said.splitlines() if "{" not in line] == seen


async def test_erase__daemon_died_before_it_kept_the_proof__made_again_from_off(
    bench: Bench,
) -> None:
    power = bench.power("honest", "honest")
    first = await bench.machine(power).erase(bench.record, MEMORY, False)
    second = await bench.machine(power).erase(bench.record, MEMORY, False)
    assert first != second
    assert power.log == ["reset", "off", "on", "off"]


@pytest.mark.parametrize("manner", ["drops", "absent"])
async def test_erase__first_try_fails__again_from_a_cold_start(bench: Bench, manner: str) -> None:
    power = bench.power(manner, "honest")
    proof = ErasureProof.decode(await bench.machine(power).erase(bench.record, MEMORY, False))
    assert proof.ranges == RANGES
    assert power.log == ["reset", "off", "on", "off"]


async def test_erase__firmware_moved_its_areas__left_out_as_far_as_members_accept(
    bench: Bench,
) -> None:
    """UEFI may take other pages at each boot; the real eraser refuses what is not RAM in its own
    map."""
    moved = (WINDOW + MIB + 12288, 2 * MIB - 12288)
    expected = ((WINDOW, MIB), moved, RANGES[1])
    left = WINDOW + 12288
    proof = await bench.machine(bench.power("moved"), uncovered=left).erase(
        bench.record, MEMORY, False
    )
    assert ErasureProof.decode(proof).ranges == expected
    assert uncovered(MEMORY, expected) == left
    NewestBoot(bench.folder).note(HPKE + SIGNING)
    power = bench.power("moved", "moved")
    with pytest.raises(MachineError, match="map lacks too much of the RAM"):
        await bench.machine(power, uncovered=left - 1).erase(bench.record, MEMORY, False)
    assert power.log == ["reset", "off", "on", "off"]


@pytest.mark.parametrize(
    ("manner", "more"),
    [("lacks", (Region(2 << 32, (2 << 32) + 8 * MIB, "System RAM"),)), ("lacks all", ())],
)
async def test_erase__map_without_the_memory__refused_and_lost(
    bench: Bench, manner: str, more: tuple[Region, ...]
) -> None:
    """Not even of a machine so small that all of it might be left out."""
    power = bench.power(manner, manner)
    with pytest.raises(MachineError, match="map lacks too much of the RAM"):
        await bench.machine(power).erase(bench.record, (*MEMORY, *more), False)
    assert power.log == ["reset", "off", "on", "off"]


async def test_erase__tpm_vouched_and_no_quote_comes__again_from_a_cold_start_then_lost(
    bench: Bench,
) -> None:
    power = bench.power("honest", "honest")
    with pytest.raises(MachineError, match="brings no quote, but a TPM vouched"):
        await bench.machine(power).erase(bench.record, MEMORY, True)
    assert power.log == ["reset", "off", "on", "off"]


async def test_erase__wrong_answer_twice__lost_with_the_reason_and_off(bench: Bench) -> None:
    power = bench.power("drops", "drops")
    machine = bench.machine(power)
    with pytest.raises(MachineError, match="answer is wrong: it does not hold the fill"):
        await machine.erase(bench.record, MEMORY, False)
    assert power.log == ["reset", "off", "on", "off"]
    with pytest.raises(MachineError, match="that boot is over"):
        await machine.erase(bench.record, MEMORY, False)


@pytest.mark.parametrize("approved", [None, ImageKind.RUNTIME, ImageKind.SERVICE])
async def test_erase__eraser_revoked_or_approved_as_another_kind__never_booted(
    bench: Bench, approved: ImageKind | None
) -> None:
    bench.approved = approved
    power = bench.power()
    with pytest.raises(MachineError, match=r"eraser image .* is not approved on chain; name"):
        await bench.machine(power).erase(bench.record, MEMORY, False)
    assert power.log == ["off"]
    with pytest.raises(MachineError, match=r"boot image .* is not approved on chain; name"):
        await bench.machine(power).boot(1)


async def test_boot__eraser_revoked__no_task_begins(bench: Bench) -> None:
    power = bench.power()
    with pytest.raises(MachineError, match=r"eraser image .* is not approved on chain; name"):
        await bench.machine(power, b"\1" * 32).boot(1)
    assert power.log == ["off"]


@pytest.mark.parametrize("name", [EFI, MANIFEST])
async def test_boot__eraser_not_whole__no_task_begins(bench: Bench, name: str) -> None:
    (bench.folder / "images" / bench.eraser.hex() / name).write_bytes(b"x")
    power = bench.power()
    with pytest.raises(MachineError, match=bench.eraser.hex()[:16]):
        await bench.machine(power).boot(1)
    assert power.log == ["off"]


async def test_erase__another_boot_came_after__that_one_is_not_touched(bench: Bench) -> None:
    NewestBoot(bench.folder).note(b"another")
    power = bench.power()
    with pytest.raises(MachineError, match="that boot is over"):
        await bench.machine(power).erase(bench.record, MEMORY, False)
    assert power.log == []


async def test_erase__boot_being_erased__answers_nobody_any_more(bench: Bench) -> None:
    newest = NewestBoot(bench.folder)
    newest.note_erasure(HPKE + SIGNING)
    power = bench.power()
    with pytest.raises(MachineError, match="that boot is over"):
        await bench.machine(power).resume(bench.record)
    assert power.log == []


async def test_power_off__boot_being_erased_by_a_daemon_that_died__its_power_is_cut(
    bench: Bench,
) -> None:
    """Its Task ended meanwhile, so nobody erases it again: the PC shall not stay on for ever."""
    NewestBoot(bench.folder).note_erasure(HPKE + SIGNING)
    power, root = bench.power(), some_root()
    desk = MachineDesk(bench.machine(power), root)
    await desk.power_off(root.seal(bench.record, LABEL))
    assert power.log == ["off"]
    await desk.power_off(root.seal(bench.record, LABEL))
    assert power.log == ["off"]


async def test_erase__task_ends_meanwhile__power_is_cut_at_once(bench: Bench) -> None:
    power, root = bench.power("absent"), some_root()
    desk = MachineDesk(bench.machine(power), root)
    sealed = root.seal(bench.record, LABEL)
    erasing = asyncio.create_task(desk.erase(sealed, MEMORY, False))
    await power.begun.wait()
    await desk.power_off(sealed)
    with pytest.raises(MachineError, match="the erasure was given up"):
        await erasing
    assert power.log == ["reset", "off"]


async def test_erase__no_memory_known__nothing_that_looks_like_a_proof(bench: Bench) -> None:
    power = bench.power()
    with pytest.raises(MachineError, match="no memory is known"):
        await bench.machine(power).erase(bench.record, (), False)
    assert power.log == ["off"]


async def test_erase__no_eraser_configured__no_proof_and_nothing_done(bench: Bench) -> None:
    power = bench.power()
    assert await bench.machine(power, eraser=b"").erase(bench.record, MEMORY, False) == b""
    assert power.log == []
