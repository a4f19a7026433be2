"""Build the boot image: from locked packages and the Agent to a folder with a manifest.

The same recipe gives the same bytes on every host. Built images are kept under
``.build/images/boot/<image id>/``; an index names the image of each recipe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from agent.formats.bootimage import EFI, KERNEL_MAP, MANIFEST, ROOT, BootManifest
from agent.formats.hashes import sha256
from agent.formats.measure import measure_tree
from nodeclient.images.boot.bytecode import bytecode
from nodeclient.images.boot.contents import BUSYBOX, KERNEL_PREFIX, STUB, TOOLS
from nodeclient.images.boot.contents import ROOT as ROOT_PACKAGES
from nodeclient.images.boot.elf import check_libraries
from nodeclient.images.boot.initramfs import MODULES as EARLY_MODULES
from nodeclient.images.boot.initramfs import initramfs_tree
from nodeclient.images.boot.kernel import open_kernel
from nodeclient.images.boot.kernel_map import kernel_map
from nodeclient.images.boot.modules import select
from nodeclient.images.boot.packages import fetch, members
from nodeclient.images.boot.recipe import EPOCH, BootRecipe
from nodeclient.images.boot.root import (
    MODULES,
    check_closed,
    programs_of,
    root_tree,
    with_kernel_map,
)
from nodeclient.images.boot.tools import Tools
from nodeclient.images.boot.tree import Tree, cpio, file, write_tar
from nodeclient.images.boot.uki import (
    build_uki,
    measured_by_kernel,
    measured_programs,
    measured_sections,
)
from nodeclient.images.boot.wheels import fetch_wheels, unpack
from nodeclient.images.errors import ImageError
from nodeclient.images.lock import read_lock

Progress = Callable[[str], None]

_STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
_OS_RELEASE = b"ID=sealrun\nNAME=sealrun\n"
_ZSTD = "9"  # 15 takes nine times as long to save a sixteenth


def build_into(work: Path, target: Path, recipe: BootRecipe, progress: Progress) -> BootManifest:
    """Build in the empty folder `work`, write the image into the empty folder `target`."""
    progress("fetching packages")
    packages, wheels = _fetch(work, recipe)
    tools = Tools(_folder(work / "tools"), [packages[name] for name in (*TOOLS, *ROOT_PACKAGES)])
    kernel_tree = dict(members(packages[_kernel_package(packages)]))
    image = _only(kernel_tree, "boot/vmlinuz-")
    progress("mapping the kernel")
    kernel_map_bytes = kernel_map(open_kernel(image)).encode()
    progress("packing the root")
    modules = _with_index(select(kernel_tree, MODULES), kernel_tree, tools, _folder(work / "root"))
    rest = [packages[name] for name in ROOT_PACKAGES]
    tree = with_kernel_map(root_tree(rest, wheels, modules, recipe.agent), kernel_map_bytes)
    tree.update(recipe.root)
    tree |= bytecode(tree, tools, _folder(work / "python"))
    check_closed(tree)
    check_libraries(tree)
    root = target / ROOT
    _squash(tree, root, tools, work)
    with root.open("rb") as source:
        root_sha256 = hashlib.file_digest(source, "sha256").digest()
    early_modules = _with_index(
        select(kernel_tree, EARLY_MODULES), kernel_tree, tools, _folder(work / "early")
    )
    early = initramfs_tree(packages[BUSYBOX], _read_by_busybox(early_modules))
    command_line = recipe.command_line(root_sha256)
    initramfs = _compressed(early | dict(recipe.initramfs), tools, work)
    sections = (
        (".osrel", _OS_RELEASE),
        (".cmdline", command_line.encode() + b"\0"),
        (".initrd", initramfs),
        (".linux", image),
    )
    efi = build_uki(dict(members(packages[STUB]))[_STUB].content, sections)
    manifest = BootManifest(
        efi_sha256=sha256(efi),
        efi_size=len(efi),
        root_sha256=root_sha256,
        root_size=root.stat().st_size,
        kernel_map_sha256=sha256(kernel_map_bytes),
        command_line=command_line,
        agent=measure_tree(recipe.agent),
        pcr4=measured_programs(efi, image),
        pcr9=measured_by_kernel(command_line, initramfs),
        pcr11=measured_sections(sections),
        packages=sha256(recipe.lock.read_bytes()),
        programs=programs_of(tree),
    )
    (target / EFI).write_bytes(efi)
    (target / KERNEL_MAP).write_bytes(kernel_map_bytes)
    (target / MANIFEST).write_bytes(manifest.encode())
    return manifest


def _fetch(work: Path, recipe: BootRecipe) -> tuple[dict[str, Path], Tree]:
    packages = fetch(read_lock(recipe.lock), _folder(work / "debs"))
    wheels = fetch_wheels(recipe.requirements, _folder(work / "wheels"))
    return packages, unpack(wheels, "usr/lib/sealrun/python")


def _kernel_package(packages: dict[str, Path]) -> str:
    names = [name for name in packages if name.startswith(KERNEL_PREFIX)]
    if len(names) != 1:
        raise ImageError(f"the lock names {len(names)} kernels, not one; refresh it")
    return names[0]


def _only(tree: Tree, prefix: str) -> bytes:
    found = [node.content for path, node in tree.items() if path.startswith(prefix)]
    if len(found) != 1:
        raise ImageError(f"the kernel package holds {len(found)} files {prefix}…; refresh the lock")
    return found[0]


def _with_index(modules: Tree, kernel: Tree, tools: Tools, work: Path) -> Tree:
    """The modules with the tables by which modprobe finds them."""
    version = next(iter(modules)).split("/")[2]
    lists = ("modules.order", "modules.builtin", "modules.builtin.modinfo")
    base = _folder(work / "modules")
    files = modules | {
        path: kernel[path] for each in lists if (path := f"lib/modules/{version}/{each}") in kernel
    }
    for path, node in files.items():
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_bytes(node.content)
    tools.run("bin/kmod", ("-b", str(base), version), name="depmod")
    return {
        each.relative_to(base).as_posix(): file(each.read_bytes())
        for each in sorted(base.rglob("*"))
        if each.is_file()
    }


def _read_by_busybox(modules: Tree) -> Tree:
    """The modules and the two tables that its modprobe reads."""
    tables = ("modules.dep", "modules.alias")
    return {path: node for path, node in modules.items() if path.endswith((".ko", *tables))}


def _squash(tree: Tree, target: Path, tools: Tools, work: Path) -> None:
    archive = work / "root.tar"
    with archive.open("wb") as sink:
        write_tar(tree, sink, EPOCH)
    options = ("-tar", "-noappend", "-no-progress", "-quiet", "-all-root", "-no-xattrs",
               "-root-mode", "0755",  # of a tar's top folder it takes no notice
               "-comp", "zstd", "-Xcompression-level", _ZSTD, "-b", "256K",
               "-mkfs-time", str(EPOCH), "-all-time", str(EPOCH))  # fmt: skip
    with archive.open("rb") as source:
        tools.run("usr/bin/mksquashfs", ("-", str(target), *options), source)
    archive.unlink()


def _compressed(tree: Tree, tools: Tools, work: Path) -> bytes:
    archive = work / "initramfs.cpio"
    archive.write_bytes(cpio(tree, EPOCH))
    with archive.open("rb") as source:
        return tools.run("usr/bin/zstd", ("-q", "-19", "-T1", "-c"), source)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
