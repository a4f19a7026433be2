"""Boot images that a node has copies of, and what it makes of the image that Evidence names."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from agent.formats.bootimage import ROOT, BootManifest
from agent.formats.ranges import Answer
from nodeclient.core.evidence_policy import EraserReference, ReferenceValues
from nodeclient.core.images import ImageKind
from nodeclient.core.types import Phase
from nodeclient.images.errors import ImageError
from nodeclient.upkeep.bootimages import KEPT, BootImages
from nodeclient.upkeep.reference import Accepted, Reference
from tests.core.erasure_kit import honest_erasure
from tests.core.evidence_kit import TPM, make_kit, make_quoted

RUNTIME = b"\x24" * 32
NONCE = b"\x01" * 32
ERASER = b"\xe5" * 32


def manifest(agent: bytes = b"\x05" * 32) -> BootManifest:
    return BootManifest(
        efi_sha256=b"\x01" * 32,
        efi_size=1,
        root_sha256=b"\x02" * 32,
        root_size=1,
        kernel_map_sha256=b"\x03" * 32,
        command_line="quiet",
        agent=agent,
        pcr4=(b"\x06" * 32,),
        pcr9=(b"\x0a" * 32, b"\x0b" * 32),
        pcr11=(b"\x07" * 32, b"\x08" * 32),
        packages=b"\x09" * 32,
        programs=(b"\x61" * 32,),
    )


@dataclass
class Files:
    """An opened image that answers with the nonce it was asked over."""

    manifest: BootManifest

    def kernel(self, nonce: bytes) -> tuple[Answer, ...]:
        return ((0, 1, nonce),)

    def root(self, nonce: bytes) -> tuple[Answer, ...]:
        return ((2, 3, nonce),)


@dataclass
class Shelf:
    """Loads images, and remembers which ones."""

    agent: bytes = b"\x05" * 32
    loaded: list[bytes] = field(default_factory=list)
    broken: bool = False

    def load(self, folder: Path, image: bytes) -> Files:
        assert folder.name == image.hex()
        self.loaded.append(image)
        if self.broken:
            raise ImageError("boot.efi is not what its manifest says")
        return Files(manifest(self.agent))

    def load_eraser(self, folder: Path, image: bytes) -> BootManifest:
        assert folder.name == image.hex()
        self.loaded.append(image)
        if self.broken or image != ERASER:
            raise ImageError("it is no eraser")
        return manifest(self.agent)


@dataclass
class Approvals:
    """The part of a ChainReader that a Reference asks."""

    approved: Mapping[bytes, ImageKind]

    async def is_approved(self, image: bytes, kind: ImageKind) -> bool:
        return self.approved.get(image) is kind


def images(folder: Path, shelf: Shelf, *names: bytes) -> BootImages:
    for name in names:
        (folder / name.hex()).mkdir()
        (folder / name.hex() / ROOT).touch()
    return BootImages(folder, shelf.load, shelf.load_eraser)


async def test_reference__image_here__is_its_manifest_and_answers_the_nonce(
    tmp_path: Path,
) -> None:
    image = bytes(31) + b"\x01"
    found = await images(tmp_path, Shelf(), image).reference(image, NONCE)
    assert found is not None
    assert (found.image, found.pcr11) == (image, manifest().pcr11)
    assert (found.kernel, found.root) == (((0, 1, NONCE),), ((2, 3, NONCE),))


async def test_reference__asked_twice_at_once__is_loaded_once(tmp_path: Path) -> None:
    shelf, image = Shelf(), bytes(31) + b"\x01"
    shelved = images(tmp_path, shelf, image)
    await asyncio.gather(*(shelved.reference(image, NONCE) for _ in range(3)))
    assert shelf.loaded == [image]


async def test_reference__more_images_than_are_kept__drops_the_one_unused_longest(
    tmp_path: Path,
) -> None:
    shelf, names = Shelf(), [bytes(31) + bytes([n]) for n in range(KEPT + 1)]
    shelved = images(tmp_path, shelf, *names)
    for name in (*names, names[-1], names[0]):
        await shelved.reference(name, NONCE)
    assert shelf.loaded == [*names, names[0]]


async def test_eraser__here__its_manifest_read_once(tmp_path: Path) -> None:
    shelf = Shelf()
    shelved = images(tmp_path, shelf, ERASER)
    found = [await shelved.eraser(ERASER) for _ in range(2)]
    expected = manifest()
    assert found == 2 * [EraserReference(ERASER, expected.pcr4, expected.pcr9, expected.pcr11)]
    assert shelf.loaded == [ERASER]


async def test_eraser__another_image_or_a_broken_one__none(tmp_path: Path) -> None:
    assert await images(tmp_path, Shelf(), bytes(32)).eraser(bytes(32)) is None
    assert await images(tmp_path, Shelf(broken=True), ERASER).eraser(ERASER) is None


async def test_eraser__peers_name_what_is_not_here__the_log_does_not_grow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf(broken=True)
    shelved = images(tmp_path, shelf, ERASER)
    for image in (n.to_bytes(32, "big") for n in range(20)):
        assert await shelved.eraser(image) is None
    assert (shelf.loaded, caplog.records) == ([], [])
    for _ in range(3):
        assert await shelved.eraser(ERASER) is None
    assert [record.getMessage() for record in caplog.records] == [
        f"eraser image {ERASER.hex()} is of no use: it is no eraser"
    ]


async def test_warm__an_eraser__is_not_opened_as_a_machines_image(tmp_path: Path) -> None:
    shelf = Shelf()
    shelved = images(tmp_path, shelf)
    (tmp_path / ERASER.hex()).mkdir()
    await shelved.warm()
    assert shelf.loaded == []


@pytest.mark.parametrize("approved", [None, *ImageKind])
@pytest.mark.parametrize("named", [True, False])
async def test_values__proof_of_an_eraser__only_an_approved_one_counts(
    tmp_path: Path, approved: ImageKind | None, named: bool
) -> None:
    kit = make_quoted(Phase.AFTER)
    erasure = honest_erasure(TPM, 8)
    erasure.proof = replace(erasure.proof, image=ERASER)
    kit.erasure = erasure if named else None
    chain: Any = Approvals({} if approved is None else {ERASER: approved})
    reference = Reference(chain, tmp_path, images(tmp_path, Shelf(), ERASER))
    found = (await reference.values(bytes(32), kit.evidence())).eraser
    assert (found is not None) is (approved is ImageKind.BOOT and named)


async def test_warm__images_here__are_loaded_before_anybody_asks(tmp_path: Path) -> None:
    shelf, names = Shelf(), [bytes(31) + bytes([n]) for n in range(KEPT)]
    shelved = images(tmp_path, shelf, *names)
    (tmp_path / "lost+found").mkdir()
    await shelved.warm()
    assert sorted(shelf.loaded) == names
    await shelved.reference(names[0], NONCE)
    assert len(shelf.loaded) == KEPT


async def test_warm__no_folder_or_a_broken_image__is_no_error(tmp_path: Path) -> None:
    await BootImages(tmp_path / "none", Shelf().load, Shelf().load_eraser).warm()
    await images(tmp_path, Shelf(broken=True), bytes(32)).warm()


@pytest.mark.parametrize("broken", [False, True])
async def test_reference__no_sound_copy__is_none(tmp_path: Path, broken: bool) -> None:
    image = bytes(31) + b"\x01"
    shelved = images(tmp_path, Shelf(broken=broken), *([image] if broken else []))
    assert await shelved.reference(image, NONCE) is None


async def values(
    folder: Path, shelf: Shelf, *, here: bool = True, approved: ImageKind | None = ImageKind.BOOT
) -> tuple[bytes, ReferenceValues]:
    """(image that the Evidence names, reference values for it)."""
    kit = make_kit(Phase.BEFORE)
    image: bytes = kit.claims["boot"]["image"]
    shelved = images(folder, shelf, *([image] if here else []))
    kinds = {} if approved is None else {image: approved}
    chain = Approvals({RUNTIME: ImageKind.RUNTIME, **kinds})
    reference = Reference(chain, folder, shelved)  # type: ignore[arg-type]
    return image, await reference.values(RUNTIME, kit.evidence())


async def test_values__boot_image_here_and_approved__stands_for_image_and_agent(
    tmp_path: Path,
) -> None:
    image, found = await values(tmp_path, Shelf())
    assert found.boot is not None
    assert found.executables == frozenset(manifest().programs)
    assert (found.boot_images, found.agents) == ({image}, {manifest().agent})
    assert found.runtime_images == {RUNTIME}
    assert found.ranges == ()  # another release's agent: no copy of it to ask ranges of


async def test_values__what_the_operator_accepts__stands_in_them(tmp_path: Path) -> None:
    choice = Accepted(frozenset({NONCE}), frozenset({RUNTIME}), frozenset({bytes(32)}))
    reference = Reference(Approvals({}), tmp_path, images(tmp_path, Shelf()), choice)  # type: ignore[arg-type]
    found = await reference.values(RUNTIME, make_kit(Phase.BEFORE).evidence())
    assert Accepted(found.drivers, found.firmware or frozenset(), found.files or frozenset()) == (
        choice
    )
    _, found = await values(tmp_path, Shelf())
    assert (found.drivers, found.firmware, found.files) == (frozenset(), None, None)


async def test_values__image_with_this_nodes_agent__is_asked_for_ranges_of_it(
    tmp_path: Path,
) -> None:
    own = Reference(
        Approvals({}), tmp_path, BootImages(tmp_path, Shelf().load, Shelf().load_eraser)
    ).agent  # type: ignore[arg-type]
    _, found = await values(tmp_path, Shelf(agent=own))
    assert found.agents == {own}
    assert len(found.ranges) > 0


async def test_values__image_approved_but_not_here__is_no_reference(tmp_path: Path) -> None:
    _, found = await values(tmp_path, Shelf(), here=False)
    assert (found.boot, found.boot_images, found.executables) == (None, frozenset(), None)


@pytest.mark.parametrize("approved", [None, ImageKind.SERVICE, ImageKind.RUNTIME])
async def test_values__image_here_but_revoked_or_approved_as_another_kind__is_not_approved(
    tmp_path: Path, approved: ImageKind | None
) -> None:
    _, found = await values(tmp_path, Shelf(), approved=approved)
    assert found.boot_images == frozenset()


@pytest.mark.parametrize("approved", [ImageKind.SERVICE, ImageKind.BOOT])
async def test_values__runtime_approved_as_another_kind__is_not_approved(
    tmp_path: Path, approved: ImageKind
) -> None:
    reference = Reference(Approvals({RUNTIME: approved}), tmp_path, images(tmp_path, Shelf()))  # type: ignore[arg-type]
    found = await reference.values(RUNTIME, make_kit(Phase.BEFORE).evidence())
    assert found.runtime_images == frozenset()
