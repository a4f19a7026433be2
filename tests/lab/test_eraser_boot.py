"""The eraser on a PC whose whole RAM is poisoned: what is left is searched from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.formats.erasure import WINDOW, Hello
from nodeclient.core.claims import Region
from nodeclient.core.erasure import RAM, plan_ranges, read_quoted
from nodeclient.errors import MachineError
from nodeclient.images.boot.keep import BuiltBoot
from nodeclient.images.eraser.build import build_eraser
from nodeclient.machine.netboot.erase import Eraser, Patience
from scripts.lab.erasure import CANARY, ErasureRig, erasure_rig
from tests.images.boot import BOOT_IMAGES

MEMORY_MIB, BELOW_MIB = 512, 256  # the other half lies above 4 GiB
MIB = 1 << 20
SLOW = Patience(hello=300.0, part=300.0, per_gib=1200.0, step=300.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ErasureRig]:
    with erasure_rig(tmp_path_factory.mktemp("e"), MEMORY_MIB, BELOW_MIB) as rig:
        yield rig


def plan(hello: Hello) -> tuple[tuple[int, int], ...]:
    """Ranges by the eraser's own map: an honest one's here; the Pi goes by the Agent's."""
    return plan_ranges(tuple(Region(a, b, RAM if kind == 1 else "") for a, b, kind in hello.rows))


def test_erase__poisoned_memory__nothing_left_where_it_wrote_and_its_tpm_says_who_it_was(
    made: ErasureRig,
) -> None:
    image = build_eraser(BOOT_IMAGES, lambda _: None)
    made.power_off()
    made.settle()
    with made.boot(image) as connection:
        connection.setblocking(False)
        eraser = Eraser(connection, SLOW)
        hello = made.station.run(eraser.hello())
        ranges = plan(hello)
        # The control: before the fill the same search finds what was there.
        assert made.search(ranges).covered > 100 * MIB // len(CANARY)
        proof = made.station.run(eraser.prove(image.image_id, ranges, hello.window))
    assert hello.window == WINDOW
    assert ranges[-1] == (4 << 30, (MEMORY_MIB - BELOW_MIB) * MIB)
    assert made.search(ranges).covered == 0
    assert MEMORY_MIB * MIB - proof.covered <= 24 * MIB
    quoted = read_quoted(proof)
    assert quoted.genuine
    assert quoted.bound
    # What the firmware measured is what was computed from the image's file.
    manifest, log = image.manifest, quoted.log
    assert set(manifest.pcr4) <= set(log.of(4))
    assert (log.of(9), log.of(11)) == (manifest.pcr9, manifest.pcr11)


def test_erase__eraser_that_keeps_a_mebibyte__refused_and_canaries_found(
    made: ErasureRig, tmp_path: Path
) -> None:
    image: BuiltBoot = build_eraser(BOOT_IMAGES, lambda _: None, ("CHEAT_KEEP_MIB=1",))
    made.power_off()
    made.settle()
    with made.boot(image) as connection:
        connection.setblocking(False)
        eraser = Eraser(connection, SLOW)
        hello = made.station.run(eraser.hello())
        ranges = plan(hello)
        with pytest.raises(MachineError, match="does not hold the fill"):
            made.station.run(eraser.prove(image.image_id, ranges, hello.window))
    assert made.search(ranges).covered > 0
