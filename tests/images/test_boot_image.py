"""The boot image as a whole: the same bytes everywhere, closed, and true to its manifest."""

from __future__ import annotations

import bisect
import hashlib
import os
import re
import subprocess
from pathlib import Path

import pytest

import agent
from agent.formats.bootimage import EFI, KERNEL_MAP, ROOT, BootManifest, KernelMap
from agent.formats.measure import measure_tree
from nodeclient.images.boot import tree as trees
from nodeclient.images.boot.build import build_into
from nodeclient.images.boot.kallsyms import symbols
from nodeclient.images.boot.keep import BuiltBoot, build_boot, check_files
from nodeclient.images.boot.kernel import Kernel, open_kernel
from nodeclient.images.boot.kernel_map import interval_bytes
from nodeclient.images.boot.pe import Pe
from nodeclient.images.boot.recipe import BOOT_LOCK, BootRecipe
from nodeclient.images.boot.root import HOME, PROGRAMS
from nodeclient.images.boot.variant import make_variant
from nodeclient.images.errors import ImageError
from nodeclient.images.lock import read_lock, write_lock
from tests.images.boot import kept_image, unpacked

MOST = 130_000_000  # bytes of both files together: what a Machine fetches at each boot


@pytest.fixture(scope="module")
def image() -> BuiltBoot:
    return kept_image()


@pytest.fixture(scope="module")
def root(image: BuiltBoot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(image.path / ROOT, tmp_path_factory.mktemp("root") / "files")


@pytest.fixture(scope="module")
def kernel(image: BuiltBoot) -> Kernel:
    return open_kernel(section(image, ".linux"))


def section(image: BuiltBoot, name: str) -> bytes:
    efi = (image.path / EFI).read_bytes()
    [found] = [each for each in Pe.parse(efi).sections if each.name == name]
    return efi[found.offset : found.offset + found.virtual_size]


def test_build__again_elsewhere_and_from_nothing__same_bytes(
    image: BuiltBoot, tmp_path: Path
) -> None:
    work, target = tmp_path / "another" / "place", tmp_path / "image"
    work.mkdir(parents=True)
    target.mkdir()
    assert build_into(work, target, BootRecipe(), lambda _: None) == image.manifest
    for name in (EFI, ROOT, KERNEL_MAP):
        assert (target / name).read_bytes() == (image.path / name).read_bytes()


def test_build__kept_image__not_built_again(image: BuiltBoot) -> None:
    said: list[str] = []
    assert build_boot(image.path.parent, said.append) == image
    assert said == []


def test_build__version_that_no_mirror_has__fails_and_tells_how_to_refresh(tmp_path: Path) -> None:
    packages = read_lock(BOOT_LOCK) | {"runc": "1.0-never"}
    write_lock(packages, tmp_path / "other.lock")
    recipe = BootRecipe(lock=tmp_path / "other.lock")
    with pytest.raises(ImageError, match=r"nodeclient\.images\.refresh"):
        build_boot(tmp_path / "images", lambda _: None, recipe)
    assert not list((tmp_path / "images").rglob("manifest.cbor"))


@pytest.mark.parametrize("name", [EFI, ROOT, KERNEL_MAP])
def test_check__one_byte_of_a_file_differs__refused(
    image: BuiltBoot, tmp_path: Path, name: str
) -> None:
    for each in image.path.iterdir():
        (tmp_path / each.name).hardlink_to(each)
    check_files(tmp_path)
    content = bytearray((image.path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=name):
        check_files(tmp_path)


def test_image__size__within_what_is_promised(image: BuiltBoot) -> None:
    assert image.manifest.efi_size + image.manifest.root_size <= MOST
    assert (image.path / EFI).stat().st_size == image.manifest.efi_size
    assert (image.path / ROOT).stat().st_size == image.manifest.root_size


def test_root__programs__only_those_that_are_named(root: Path) -> None:
    found = {
        each.relative_to(root).as_posix()
        for each in root.rglob("*")
        if each.is_file() and not each.is_symlink() and each.stat().st_mode & 0o111
    }
    assert found <= PROGRAMS | {"lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"}
    shells = re.compile(r"(ba|da|z|k|c|a)?sh|busybox|.*getty|s?login|su|sudo|sshd|perl|dpkg|apt.*")
    assert [each for each in root.rglob("*") if shells.fullmatch(each.name)] == []


def test_root__rights__nothing_raises_them_and_nobody_can_log_in(root: Path) -> None:
    assert [each for each in root.rglob("*") if each.lstat().st_mode & 0o6000] == []
    assert not (root / "etc/shadow").exists()
    open_to_all = [each for each in (root, *root.rglob("*")) if each.lstat().st_mode & 0o002]
    assert {each for each in open_to_all if not each.is_symlink()} == {root / "tmp"}
    for line in (root / "etc/passwd").read_text().splitlines():
        assert line.endswith(":/bin/false")
    assert not (root / "bin/false").exists()


def test_root__agent__is_this_one_and_starts_there(image: BuiltBoot, root: Path) -> None:
    """In the finished root, by the root's own Python and with the wheels that came into it."""
    source = Path(agent.__file__).parent
    assert measure_tree(root / HOME / "agent") == measure_tree(source) == image.manifest.agent
    script = "import agent.init, agent.fetch, agent.main; print(agent.__file__)"
    command = ["chroot", str(root), "/usr/bin/python3", "-I", "-B", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout == f"/{HOME}/agent/__init__.py\n", done.stderr


def test_root__byte_code__of_every_module_of_the_agent(root: Path) -> None:
    folder = root / HOME / "agent"
    names = {each.stem for each in folder.glob("*.py")}
    assert names == {each.name.split(".")[0] for each in (folder / "__pycache__").iterdir()}


@pytest.mark.parametrize("program", ["dockerd", "containerd", "runc"])
def test_root__engine__starts_there(root: Path, program: str) -> None:
    [path] = [each for each in PROGRAMS if each.endswith(f"/{program}")]
    command = ["chroot", str(root), f"/{path}", "--version"]
    assert program in subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120
    ).stdout.replace("Docker", "dockerd")


def test_initramfs__holds__one_program_and_no_way_but_forward(
    image: BuiltBoot, tmp_path: Path
) -> None:
    archive = tmp_path / "initramfs.zst"
    archive.write_bytes(section(image, ".initrd"))
    plain = subprocess.run(["zstd", "-dcq", str(archive)], check=True, capture_output=True).stdout
    subprocess.run(
        ["busybox", "cpio", "-i", "-d"],
        cwd=tmp_path,
        input=plain,
        check=True,
        capture_output=True,
    )
    assert sorted(each.name for each in (tmp_path / "bin").iterdir()) == ["busybox", "lease"]
    init = (tmp_path / "init").read_text()
    assert "@" not in init.replace("$@", "")
    code = re.sub(r"^\s*#.*$", "", init, flags=re.MULTILINE)
    assert not re.search(
        r"\b(ash|getty|login|telnetd|setsid|cttyhack)\b|busybox sh\b|\$B sh\b", code
    )
    assert code.rstrip().splitlines()[-1].startswith("off ")
    [folder] = (tmp_path / "lib/modules").iterdir()
    needs = dict(line.split(":") for line in (folder / "modules.dep").read_text().splitlines())
    assert {each.relative_to(folder).as_posix() for each in folder.rglob("*.ko")} == set(needs)
    assert all((folder / each).exists() for listed in needs.values() for each in listed.split())
    named = (folder / "modules.alias").read_text()
    for alias in ("virtio:d00000001v* virtio_net", "pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci"):
        assert f"alias {alias}\n" in named


def test_manifest__values__those_of_the_files(image: BuiltBoot, tmp_path: Path) -> None:
    """PCR 4 as another implementation of Authenticode has it; PCR 11 and 9 section by section."""
    manifest = image.manifest
    kernel = tmp_path / "kernel"
    kernel.write_bytes(section(image, ".linux"))
    for path, digest in zip((image.path / EFI, kernel), manifest.pcr4, strict=True):
        assert authenticode_by_hand(path.read_bytes()) == digest
    parts = [
        part
        for name in (".linux", ".osrel", ".cmdline", ".initrd")
        for part in (name.encode() + b"\0", section(image, name))
    ]
    assert manifest.pcr11 == tuple(hashlib.sha256(part).digest() for part in parts)
    line = section(image, ".cmdline").decode()
    assert line == manifest.command_line + "\0"
    early = (line.encode("utf-16-le"), section(image, ".initrd"))
    assert manifest.pcr9 == tuple(hashlib.sha256(part).digest() for part in early)


def authenticode_by_hand(data: bytes) -> bytes:
    """The definition read literally: the file without three holes, where sections lie in order."""
    pe = int.from_bytes(data[0x3C:0x40], "little")
    checksum, entry = pe + 88, pe + 168
    size = int.from_bytes(data[entry + 4 : entry + 8], "little")
    body = data[:checksum] + data[checksum + 4 : entry] + data[entry + 8 : len(data) - size]
    return hashlib.sha256(body).digest()


def test_kernel_map__intervals__most_of_the_text_and_no_place_that_boot_patches(
    image: BuiltBoot, kernel: Kernel
) -> None:
    known = KernelMap.decode((image.path / KERNEL_MAP).read_bytes())
    text = kernel.sections[".text"]
    covered = sum(length for offset, length in known.intervals if offset < text.size)
    assert covered > 0.8 * text.size
    assert sum(length for _, length in known.intervals) > text.size  # read-only data as well
    assert interval_bytes(kernel, known.intervals[0]) in kernel.content(".text")
    spans = {offset + known.base: length for offset, length in known.intervals}
    starts = sorted(spans)
    moved = [address for address, _ in kernel.relocations]
    assert not any(inside(address, starts, spans) for address in moved[:: len(moved) // 2000])
    # The first five bytes of a traced function: a call in the file, a NOP in memory.
    code, traced = kernel.content(".text"), symbols(kernel)["__fentry__"] - text.address
    calls = (each.start() for each in re.finditer(rb"\xe8", code[:-5]))
    sites = [
        at
        for at in calls
        if at + 5 + int.from_bytes(code[at + 1 : at + 5], "little", signed=True) == traced
    ]
    assert len(sites) > 30_000
    assert not any(inside(text.address + at, starts, spans) for at in sites)


def inside(address: int, starts: list[int], spans: dict[int, int]) -> bool:
    at = bisect.bisect_right(starts, address) - 1
    return at >= 0 and address < starts[at] + spans[starts[at]]


def test_variant__other_options_and_files__own_id_same_root(
    image: BuiltBoot, tmp_path: Path
) -> None:
    again = make_variant(image, tmp_path)
    assert again.manifest == image.manifest
    extra = {"hello": trees.file(b"x")}
    other = make_variant(image, tmp_path, ("console=ttyS0",), extra)
    assert other.image_id != image.image_id
    assert other.manifest.root_sha256 == image.manifest.root_sha256
    assert section(other, ".cmdline").endswith(b" console=ttyS0\0")
    assert section(other, ".initrd").startswith(section(image, ".initrd"))
    assert other.manifest.pcr11 != image.manifest.pcr11
    assert check_files(other.path) == other.manifest


def test_manifest__of_the_image__on_disk_is_its_id(image: BuiltBoot) -> None:
    data = (image.path / "manifest.cbor").read_bytes()
    assert hashlib.sha256(data).hexdigest() == image.path.name
    assert BootManifest.decode(data) == image.manifest
    assert os.stat(image.path).st_mode & 0o777 == 0o755
