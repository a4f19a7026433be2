"""The parts of which boot images are made, each against bytes of its own."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from agent.formats.bootimage import MAX_COMMAND_LINE, BootManifest, KernelMap
from agent.formats.cbor import FormatError
from nodeclient.images.boot import tree as trees
from nodeclient.images.boot.contents import PACKAGES
from nodeclient.images.boot.elf import check_libraries, needed
from nodeclient.images.boot.kernel import open_kernel
from nodeclient.images.boot.modules import depends, select
from nodeclient.images.boot.pe import Pe, authenticode
from nodeclient.images.boot.recipe import BOOT_LOCK, BootRecipe
from nodeclient.images.boot.root import check_closed, programs_of
from nodeclient.images.boot.tree import file, link
from nodeclient.images.boot.uki import build_uki, measured_sections
from nodeclient.images.boot.wheels import NAMES, REQUIREMENTS, entries
from nodeclient.images.errors import ImageError
from nodeclient.images.lock import read_lock
from nodeclient.images.refresh import kernel_of
from tests.images.pe_file import small_pe

MANIFEST = BootManifest(
    efi_sha256=bytes([1]) * 32,
    efi_size=1,
    root_sha256=bytes([2]) * 32,
    root_size=2,
    kernel_map_sha256=bytes([3]) * 32,
    command_line="quiet sealrun.root=" + "02" * 32,
    agent=bytes([4]) * 32,
    pcr4=(bytes([5]) * 32,),
    pcr9=(bytes([6]) * 32,),
    pcr11=(bytes([7]) * 32, bytes([8]) * 32),
    packages=bytes([9]) * 32,
    programs=(bytes([10]) * 32, bytes([11]) * 32),
)


def test_manifest__there_and_back__same_and_its_id_is_the_hash() -> None:
    assert BootManifest.decode(MANIFEST.encode()) == MANIFEST
    assert hashlib.sha256(MANIFEST.encode()).digest() == MANIFEST.image_id


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"efi_sha256": bytes(31)},
        {"programs": (bytes(31),)},
        {"programs": (bytes(32),) * 65},
        {"efi_size": 0},
        {"root_size": 1 << 40},
        {"command_line": ""},
        {"command_line": "quiet\ninit=/bin/sh"},
        {"command_line": "x" * MAX_COMMAND_LINE},
        {"pcr4": ()},
        {"pcr11": (bytes(32),) * 33},
    ],
)
def test_manifest__field_out_of_bounds__refused(change: dict[str, object]) -> None:
    data = dataclasses.replace(MANIFEST, **change).encode()  # type: ignore[arg-type]
    with pytest.raises(FormatError):
        BootManifest.decode(data)


@pytest.mark.parametrize(
    "intervals", [(), ((0, 0),), ((8, 8), (0, 4)), ((0, 8), (4, 8)), ((-1, 4),), ((0, 1 << 40),)]
)
def test_kernel_map__intervals_unsorted_empty_or_overlapping__refused(
    intervals: tuple[tuple[int, int], ...],
) -> None:
    with pytest.raises(FormatError):
        KernelMap.decode(KernelMap(1 << 63, intervals).encode())


def test_kernel_map__there_and_back__same() -> None:
    known = KernelMap(0xFFFFFFFF81000000, ((0, 8), (8, 1), (64, 4096)))
    assert KernelMap.decode(known.encode()) == known


def test_cpio__unpacked_by_a_program_of_others__same_files(tmp_path: Path) -> None:
    tree = {
        "init": trees.file(b"#!/bin/busybox sh\n", 0o4755),
        "a/b/c": trees.file(b"deep" * 1000),
        "a/link": trees.link("b/c"),
        "dev": trees.folder(),
    }
    archive = tmp_path / "archive"
    archive.write_bytes(trees.cpio(tree, 0))
    target = tmp_path / "out"
    target.mkdir()
    command = ["busybox", "cpio", "-i", "-d", "-F", str(archive)]
    subprocess.run(command, cwd=target, check=True, capture_output=True)
    assert (target / "a/b/c").read_bytes() == b"deep" * 1000
    assert (target / "a/link").readlink() == Path("b/c")
    assert (target / "init").stat().st_mode & 0o7777 == 0o755
    assert (target / "dev").is_dir()


def test_cpio__same_tree_in_another_order__same_bytes() -> None:
    tree = {"b": trees.file(b"1"), "a/x": trees.file(b"2")}
    assert trees.cpio(tree, 5) == trees.cpio(dict(reversed(tree.items())), 5)
    assert trees.cpio(tree, 5) != trees.cpio(tree, 6)


@pytest.mark.parametrize("path", ["bin/sh", "usr/bin/bash", "sbin/agetty", "usr/lib/x/helper"])
def test_closed__any_program_that_is_not_named__refused(path: str) -> None:
    with pytest.raises(ImageError, match=path):
        check_closed({path: trees.file(b"", 0o755)})
    check_closed({path: trees.file(b""), "usr/sbin/dockerd": trees.file(b"", 0o755)})


def test_closed__program_that_raises_its_rights__refused() -> None:
    with pytest.raises(ImageError, match="rights"):
        check_closed({"bin/mount": trees.Node(0o104755)})


def test_libraries__of_a_program_of_this_host__as_its_loader_finds_them() -> None:
    program = shutil.which("unsquashfs")
    assert program is not None
    data = Path(program).read_bytes()
    assert "libc.so.6" in needed(data)
    shown = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    assert all(name in shown for name in needed(data))
    with pytest.raises(ImageError, match=r"add its package"):
        check_libraries({"usr/bin/x": trees.file(data)})
    check_libraries(
        {"usr/bin/x": trees.file(data)} | {f"lib/{each}": trees.file(b"") for each in needed(data)}
    )


@pytest.mark.parametrize("size", [8, 20, 63, 64, 200])
def test_libraries__program_cut_off__typed_error(size: int) -> None:
    data = Path(shutil.which("unsquashfs") or "").read_bytes()[:size]
    with pytest.raises(ImageError, match="refresh"):
        needed(data)


def test_pe__sections_added__read_back_and_measured(tmp_path: Path) -> None:
    stub = small_pe()
    sections = ((".cmdline", b"quiet\0"), (".linux", b"kernel" * 500))
    image = build_uki(stub, sections)
    found = {each.name: each for each in Pe.parse(image).sections}
    for name, content in sections:
        at = found[name]
        assert image[at.offset : at.offset + at.virtual_size] == content
        assert at.address % 4096 == 0
    assert build_uki(stub, sections) == image
    digests = [b".linux\0", b"kernel" * 500, b".cmdline\0", b"quiet\0"]
    assert measured_sections(sections) == tuple(hashlib.sha256(each).digest() for each in digests)


def test_pe__sections_taken_away__the_stub_again() -> None:
    stub = small_pe()
    image = build_uki(stub, ((".linux", b"kernel"),))
    again = build_uki(Pe.parse(image).without(image, (".linux",)), ((".linux", b"kernel"),))
    assert again == image
    with pytest.raises(ImageError, match="last"):
        Pe.parse(image).without(image, (".text",))


def test_authenticode__checksum_and_certificates__not_part_of_it() -> None:
    data = bytearray(small_pe())
    known = authenticode(bytes(data))
    pe = Pe.parse(bytes(data))
    struct.pack_into("<I", data, pe.header + 24 + 64, 0xDEAD)
    signed = bytearray(data) + b"certificate!" * 2
    struct.pack_into("<II", signed, pe.header + 24 + 144, len(data), 24)
    assert authenticode(bytes(data)) == authenticode(bytes(signed)) == known
    data[-1] ^= 1
    assert authenticode(bytes(data)) != known


@pytest.mark.parametrize("size", [0, 1, 0x40, 0x90, 0x100, 0x180, 0x3F0])
def test_pe__cut_off__typed_error(size: int) -> None:
    with pytest.raises(ImageError):
        Pe.parse(small_pe()[:size])


@pytest.mark.parametrize("data", [b"", bytes(600), b"HdrS" * 1000])
def test_kernel__no_kernel__typed_error(data: bytes) -> None:
    with pytest.raises(ImageError, match="refresh"):
        open_kernel(data)


def module(*needs: str) -> trees.Node:
    return trees.file(b"ELF\0license=GPL\0depends=" + ",".join(needs).encode() + b"\0name=x\0")


def test_modules__needs__come_first_and_once() -> None:
    kernel = {
        "lib/modules/1/kernel/net-a.ko": module("b", "c"),
        "lib/modules/1/kernel/b.ko": module("c"),
        "lib/modules/1/kernel/c.ko": module(),
        "lib/modules/1/kernel/unused.ko": module(),
        "lib/modules/1/modules.builtin": trees.file(b"kernel/drivers/inside.ko\n"),
    }
    chosen = [path.rpartition("/")[2] for path in select(kernel, ("net_a", "inside", "c"))]
    assert chosen == ["c.ko", "b.ko", "net-a.ko"]
    with pytest.raises(ImageError, match="absent"):
        select(kernel, ("absent",))


def test_modules__that_need_each_other__refused() -> None:
    kernel = {"lib/modules/1/a.ko": module("b"), "lib/modules/1/b.ko": module("a")}
    with pytest.raises(ImageError):
        select(kernel, ("a",))


def test_modules__no_list_of_needs__refused() -> None:
    with pytest.raises(ImageError):
        depends(b"no module")


def test_lock__names_exactly_the_contents_and_one_kernel() -> None:
    locked = set(read_lock(BOOT_LOCK))
    kernels = {name for name in locked if name.startswith("linux-image-")}
    assert len(kernels) == 1
    assert locked - kernels == set(PACKAGES)


def test_wheels__each_pinned_by_hash() -> None:
    found = entries(REQUIREMENTS)
    assert len(found) == len(NAMES)
    assert all("--hash=sha256:" in each for each in found)


def test_wheels__lock_spells_a_name_otherwise__found_and_none_but_the_named(
    tmp_path: Path,
) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("Typing_Extensions==1 --hash=sha256:00\nurllib3[socks]==2 --hash=sha256:01\n")
    assert entries(lock, ("urllib3", "typing-extensions")) == [
        "urllib3[socks]==2 --hash=sha256:01",
        "Typing_Extensions==1 --hash=sha256:00",
    ]


def test_wheels__no_lock__says_where_to_build(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="build in a checkout"):
        entries(tmp_path / "requirements.lock")


def test_wheels__lock_lacks_one__says_so(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("cbor2==5.9.0 --hash=sha256:00\n")
    with pytest.raises(ImageError, match="make lock"):
        entries(tmp_path / "requirements.lock")


def test_recipe__anything_in_it_changes__other_key(tmp_path: Path) -> None:
    agent = tmp_path / "agent"
    agent.mkdir()
    (agent / "main.py").write_text("")
    recipe = BootRecipe(agent=agent)
    keys = {
        recipe.key(),
        dataclasses.replace(recipe, options=("console=ttyS0",)).key(),
        dataclasses.replace(recipe, root={"x": trees.file(b"")}).key(),
        dataclasses.replace(recipe, initramfs={"x": trees.file(b"")}).key(),
    }
    (agent / "main.py").write_text("pass")
    keys.add(recipe.key())
    assert len(keys) == 5
    assert recipe.key() == BootRecipe(agent=agent).key()


def test_recipe__command_line__pins_the_root_and_locks_down() -> None:
    line = BootRecipe().command_line(bytes([0xAB]) * 32).split()
    assert line[-1] == "sealrun.root=" + "ab" * 32
    assert {"lockdown=integrity", "module.sig_enforce=1", "init_on_free=1", "quiet"} <= set(line)
    assert not any(each.startswith(("console=", "init=", "rdinit=")) for each in line)


def test_refresh__meta_package__names_the_kernel(tmp_path: Path) -> None:
    control = tmp_path / "meta" / "DEBIAN"
    control.mkdir(parents=True)
    text = "Package: linux-image-amd64\nVersion: 1\nArchitecture: amd64\nMaintainer: x <x@y>\n"
    depends_on = "Depends: linux-image-6.1.0-9-amd64 (= 6.1.27-1+b1)\nDescription: x\n"
    (control / "control").write_text(text + depends_on)
    meta = tmp_path / "meta.deb"
    command = ["dpkg-deb", "--build", str(control.parent), str(meta)]
    subprocess.run(command, check=True, capture_output=True)
    assert kernel_of(meta) == ("linux-image-6.1.0-9-amd64", "6.1.27-1+b1")
    (control / "control").write_text(text + "Description: x\n")
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(ImageError, match="names no kernel"):
        kernel_of(meta)


def test_programs_of__a_root__all_that_can_be_started_but_the_loader() -> None:
    tree = {
        "usr/bin/python3.11": file(b"python", 0o755),
        "usr/bin/same": file(b"python", 0o755),
        "usr/sbin/runc": file(b"runc", 0o755),
        "usr/bin/runc": link("../sbin/runc"),
        "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": file(b"starts anything", 0o755),
        "usr/lib/some.so": file(b"library"),
    }
    assert set(programs_of(tree)) == {
        hashlib.sha256(each).digest() for each in (b"python", b"runc")
    }
    assert len(programs_of(tree)) == 2
