"""A boot image as a verifier uses it: sound or refused, and ranges that a nonce chooses."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.formats.bootimage import EFI, KERNEL_MAP, MANIFEST, ROOT, BootManifest
from agent.formats.hashes import sha256
from agent.formats.ranges import RANGES, Area, choose
from nodeclient.images.boot.reference import BootFiles, open_boot_files
from nodeclient.images.errors import ImageError
from tests.images.boot import kept_image

NONCE, OTHER = b"\x01" * 32, b"\x02" * 32


@pytest.fixture(scope="module")
def image() -> Path:
    """The product's image; files are never changed in place."""
    return kept_image().path


@pytest.fixture(scope="module")
def opened(image: Path) -> BootFiles:
    return open_boot_files(image, bytes.fromhex(image.name))


@pytest.fixture
def copy(image: Path, tmp_path: Path) -> Path:
    """A folder with the same files (hard links: replace them, do not write into them)."""
    for name in (MANIFEST, EFI, ROOT, KERNEL_MAP):
        os.link(image / name, tmp_path / name)
    return tmp_path


def put(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def test_open__sound_image__answers_as_the_files_are(image: Path, opened: BootFiles) -> None:
    answers = opened.root(NONCE)
    size = (image / ROOT).stat().st_size
    assert [(offset, length) for offset, length, _ in answers] == list(
        choose(NONCE, Area.ROOT, size)
    )
    with (image / ROOT).open("rb") as source:
        for offset, length, digest in answers:
            source.seek(offset)
            assert digest == sha256(NONCE + source.read(length))
    assert len(opened.kernel(NONCE)) == RANGES
    assert not {each for *_, each in opened.kernel(NONCE)} & {
        each for *_, each in opened.kernel(OTHER)
    }


def test_open__another_id_than_the_folder_holds__refused(image: Path) -> None:
    with pytest.raises(ImageError, match="of another image"):
        open_boot_files(image, b"\x01" * 32)


@pytest.mark.parametrize("name", [EFI, ROOT, KERNEL_MAP])
@pytest.mark.parametrize("change", ["one bit", "cut", "longer", "gone"])
def test_open__a_file_changed__refused_by_name(
    image: Path, copy: Path, name: str, change: str
) -> None:
    content = bytearray((copy / name).read_bytes())
    match change:
        case "one bit":
            content[len(content) // 2] ^= 1
        case "cut":
            content = content[:-1]
        case "longer":
            content += b"\0"
    put(copy / name, bytes(content))
    if change == "gone":
        (copy / name).unlink()
    with pytest.raises(ImageError, match=name):
        open_boot_files(copy, bytes.fromhex(image.name))


Change = Callable[[BootManifest], dict[str, Any]]
LIES: list[tuple[str, Change]] = [
    ("command line", lambda m: {"command_line": m.command_line + " init=/bin/sh"}),
    ("list of programs", lambda m: {"pcr4": (b"\x66" * 32, *m.pcr4[1:])}),
    ("list of programs", lambda m: {"pcr4": (*m.pcr4, b"\x66" * 32)}),
    ("PCR 9", lambda m: {"pcr9": m.pcr9[::-1]}),
    ("PCR 11", lambda m: {"pcr11": m.pcr11[:-1]}),
]


@pytest.mark.parametrize(("what", "change"), LIES)
def test_open__manifest_states_what_boot_efi_is_not__refused(
    copy: Path, what: str, change: Change
) -> None:
    """Its ID is right, and it may even be approved: what it says is computed again all the same."""
    manifest = BootManifest.decode((copy / MANIFEST).read_bytes())
    lying = replace(manifest, **change(manifest))
    put(copy / MANIFEST, lying.encode())
    with pytest.raises(ImageError, match=f"another {what} than"):
        open_boot_files(copy, lying.image_id)


def test_open__another_root_than_the_command_line_names__refused(copy: Path) -> None:
    """The root would be hashed and asked for; the Machine would fetch the one on its command line
    and nobody would have compared the two."""
    manifest = BootManifest.decode((copy / MANIFEST).read_bytes())
    root = b"another root"
    put(copy / ROOT, root)
    lying = replace(manifest, root_sha256=sha256(root), root_size=len(root))
    put(copy / MANIFEST, lying.encode())
    with pytest.raises(ImageError, match="another root file system"):
        open_boot_files(copy, lying.image_id)


def test_open__kernel_map_that_leaves_text_out__refused(copy: Path) -> None:
    """Whatever it leaves out is never asked for, so it would be where a kernel is changed."""
    from agent.formats.bootimage import KernelMap

    known = KernelMap.decode((copy / KERNEL_MAP).read_bytes())
    fewer = replace(known, intervals=known.intervals[1:]).encode()
    put(copy / KERNEL_MAP, fewer)
    manifest = BootManifest.decode((copy / MANIFEST).read_bytes())
    lying = replace(manifest, kernel_map_sha256=sha256(fewer))
    put(copy / MANIFEST, lying.encode())
    with pytest.raises(ImageError, match="another kernel map"):
        open_boot_files(copy, lying.image_id)


@pytest.mark.parametrize("content", [b"", b"\xa0", b"\xff" * 100, b"\0" * (64 << 10)])
def test_open__manifest_that_is_none__refused(copy: Path, content: bytes) -> None:
    put(copy / MANIFEST, content)
    with pytest.raises(ImageError):
        open_boot_files(copy, sha256(content))
