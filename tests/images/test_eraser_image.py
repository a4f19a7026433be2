"""The eraser's image: the same bytes everywhere, true to its manifest, and nothing in it to park
a fill in."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from agent.formats.bootimage import EFI, MANIFEST, BootManifest
from agent.formats.cbor import FormatError
from agent.formats.erasure import WINDOW
from agent.formats.netboot import EFI_PATH, PARAMETERS_PATH, ROOT_PATH
from nodeclient.images.boot.elf import needed
from nodeclient.images.boot.keep import BuiltBoot, check_files
from nodeclient.images.boot.pe import Pe
from nodeclient.images.boot.reference import open_boot_files, open_eraser
from nodeclient.images.boot.variant import make_variant
from nodeclient.images.eraser import workshop
from nodeclient.images.eraser.build import CACHE, build_eraser, compile_init
from nodeclient.images.eraser.compile import SOURCE, machine_defines
from nodeclient.images.eraser.kernel import CONFIG, kept_kernel
from nodeclient.images.eraser.workshop import PACKAGES, open_workshop
from nodeclient.images.errors import ImageError
from nodeclient.images.lock import read_lock
from nodeclient.machine.netboot.image import open_image
from nodeclient.machine.netboot.pages import Pages
from tests.images.boot import BOOT_IMAGES
from tests.images.test_boot_parts import MANIFEST as WITH_ROOT

MOST = 6_000_000  # bytes: fetched by firmware, and unpacked beside it


@pytest.fixture(scope="module")
def image() -> BuiltBoot:
    return build_eraser(BOOT_IMAGES, lambda _: None)


def section(image: BuiltBoot, name: str) -> bytes:
    efi = (image.path / EFI).read_bytes()
    [found] = [each for each in Pe.parse(efi).sections if each.name == name]
    return efi[found.offset : found.offset + found.virtual_size]


def test_build__kept_image__not_built_again(image: BuiltBoot) -> None:
    said: list[str] = []
    assert build_eraser(BOOT_IMAGES, said.append) == image
    assert said == []


def test_init__compiled_again__the_bytes_in_the_image(image: BuiltBoot) -> None:
    with open_workshop(BOOT_IMAGES / CACHE) as shop:
        again = compile_init(shop, machine_defines())
    assert again in section(image, ".initrd")
    assert again[:4] == b"\x7fELF"
    assert needed(again) == []
    assert len(again) < 64 << 10  # it lives in the window


def test_init__a_way_to_cheat__other_bytes_and_another_image(
    image: BuiltBoot, tmp_path: Path
) -> None:
    cheats = ("CHEAT_KEEP_MIB=1", "CHEAT_RANGES", "CHEAT_SKIP", "CHEAT_DISK=1")
    with open_workshop(BOOT_IMAGES / CACHE) as shop:
        honest = compile_init(shop, machine_defines())
        others = {compile_init(shop, (*machine_defines(), cheat)) for cheat in cheats}
    assert len(others | {honest}) == 5
    cheat = build_eraser(BOOT_IMAGES, lambda _: None, (cheats[0],))
    assert cheat.image_id != image.image_id
    assert cheat.manifest.pcr9 != image.manifest.pcr9


def test_image__files__one_and_its_manifest(image: BuiltBoot) -> None:
    assert sorted(each.name for each in image.path.iterdir()) == [EFI, MANIFEST]
    assert check_files(image.path) == image.manifest
    assert not image.manifest.has_root
    assert image.manifest.efi_size < MOST


def test_manifest__values__those_of_the_file(image: BuiltBoot) -> None:
    manifest = image.manifest
    parts = [
        part
        for name in (".linux", ".osrel", ".cmdline", ".initrd")
        for part in (name.encode() + b"\0", section(image, name))
    ]
    assert manifest.pcr11 == tuple(hashlib.sha256(part).digest() for part in parts)
    line = section(image, ".cmdline").decode()
    early = (line.encode("utf-16-le"), section(image, ".initrd"))
    assert manifest.pcr9 == tuple(hashlib.sha256(part).digest() for part in early)
    assert line == manifest.command_line + "\0"
    assert f"mem={WINDOW >> 20}M" in line.rstrip("\0").split()
    assert open_eraser(image.path, image.image_id) == manifest


def test_open__file_with_a_changed_byte_or_a_manifest_that_lies__refused(
    image: BuiltBoot, tmp_path: Path
) -> None:
    efi = bytearray((image.path / EFI).read_bytes())
    lies = [dataclasses.replace(image.manifest, pcr9=(bytes(32),))]
    lies += [dataclasses.replace(image.manifest, pcr4=image.manifest.pcr4[:1])]
    lies += [dataclasses.replace(image.manifest, command_line="mem=1G")]
    for number, lie in enumerate(lies):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / EFI).write_bytes(efi)
        (folder / MANIFEST).write_bytes(lie.encode())
        with pytest.raises(ImageError, match="states another"):
            open_eraser(folder, lie.image_id)
    efi[len(efi) // 2] ^= 1
    (tmp_path / EFI).write_bytes(efi)
    (tmp_path / MANIFEST).write_bytes(image.manifest.encode())
    for check in (open_eraser, open_image):
        with pytest.raises(Exception, match="is not what its manifest says"):
            check(tmp_path, image.image_id)


def test_open__as_the_other_kind__refused(image: BuiltBoot, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="runs no task"):
        open_boot_files(image.path, image.image_id)
    (tmp_path / MANIFEST).write_bytes(WITH_ROOT.encode())
    with pytest.raises(ImageError, match="no eraser"):
        open_eraser(tmp_path, WITH_ROOT.image_id)


@pytest.mark.parametrize(
    "change",
    [
        {"root_sha256": b""},
        {"root_sha256": b"", "root_size": 0},
        {"root_size": 0},
        {"kernel_map_sha256": b""},
        {"root_sha256": b"", "kernel_map_sha256": b""},
    ],
)
def test_manifest__half_a_root__refused(change: dict[str, object]) -> None:
    data = dataclasses.replace(WITH_ROOT, **change).encode()  # type: ignore[arg-type]
    with pytest.raises(FormatError):
        BootManifest.decode(data)


def test_pages__of_an_eraser__its_file_and_no_parameters(image: BuiltBoot) -> None:
    opened = open_image(image.path, image.image_id)
    assert opened.root is None
    pages = Pages(opened, b"secret", lambda _: None)
    assert EFI_PATH in pages.paths
    assert not {ROOT_PATH, PARAMETERS_PATH} & pages.paths


def test_variant__other_options__own_id_and_sound(image: BuiltBoot, tmp_path: Path) -> None:
    other = make_variant(image, tmp_path, ("console=ttyS0",))
    assert other.image_id != image.image_id
    assert open_eraser(other.path, other.image_id).command_line.endswith(" console=ttyS0")


@pytest.mark.parametrize(
    "part", ["BLOCK", "MODULES", "USB_SUPPORT", "IPV6", "KEXEC_CORE", "VT", "DRM", "SMP", "SWAP",
             "STRICT_DEVMEM", "HIBERNATION", "SCSI", "WIRELESS", "BPF_SYSCALL"]
)  # fmt: skip
def test_kernel__what_it_must_not_have__is_not_built_in(image: BuiltBoot, part: str) -> None:
    """No disk, no module, no second processor: nowhere to park a fill."""
    assert image.manifest.pcr4
    chosen = kept_kernel(BOOT_IMAGES / CACHE).with_suffix(".config").read_text().splitlines()
    assert "CONFIG_NET=y" in chosen
    assert f"CONFIG_{part}=y" not in chosen


def test_kernel__every_line_of_its_configuration__taken(image: BuiltBoot) -> None:
    assert image.manifest.pcr4
    chosen = set(kept_kernel(BOOT_IMAGES / CACHE).with_suffix(".config").read_text().splitlines())
    wanted = {each for each in CONFIG.read_text().splitlines() if each.startswith("CONFIG_")}
    assert wanted <= chosen


def test_lock__names_what_is_asked_for_and_the_compiler() -> None:
    locked = read_lock(workshop.ERASER_LOCK)
    assert set(PACKAGES) <= set(locked)
    assert "gcc-12" in locked


def test_source__another_archive__refused(tmp_path: Path) -> None:
    archive = tmp_path / workshop.LINUX
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"other sources")
    with pytest.raises(ImageError, match="refresh the lock"):
        workshop.Workshop(tmp_path).linux()


def test_source__cheats__only_where_they_are_named() -> None:
    """The product's compilation defines none: what a reader must look at is in two files."""
    assert not any("CHEAT" in each for each in machine_defines())
    holders = {each.name for each in SOURCE.iterdir() if "CHEAT" in each.read_text()}
    assert holders == {"cheat.h", "fill.c", "wire.c", "init.c"}
