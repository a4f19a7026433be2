"""``sealrun image build eraser``: kernel and program in one EFI file, with a manifest as any image.

The form is that of the other boot images (systemd's stub, command line, initramfs, kernel), so that
the Pi serves it and a verifier computes its PCRs as theirs. It has no root: the program is all.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from agent.formats.bootimage import EFI, MANIFEST, BootManifest
from agent.formats.erasure import WINDOW
from agent.formats.hashes import sha256
from agent.formats.measure import measure_tree
from nodeclient.images.boot import pe, tree, uki
from nodeclient.images.boot.keep import BuiltBoot, kept_image, place
from nodeclient.images.boot.recipe import EPOCH
from nodeclient.images.boot.uki import (
    build_uki,
    measured_by_kernel,
    measured_programs,
    measured_sections,
)
from nodeclient.images.eraser import compile as programs
from nodeclient.images.eraser import kernel
from nodeclient.images.eraser.compile import INIT, SOURCE, command, machine_defines
from nodeclient.images.eraser.kernel import build_kernel
from nodeclient.images.eraser.workshop import ERASER_LOCK, STUB, Workshop, open_workshop

Progress = Callable[[str], None]

_RECIPES = "recipes"
CACHE = "eraser"  # beside the images: the compiler's root and built kernels
_OS_RELEASE = b"ID=sealrun\nNAME=sealrun-eraser\n"
# mem=: Linux keeps to the window, and the rest is the fill's. efi=noruntime: the firmware is not
# called any more. panic=0: what broke stays broken until the Pi cuts the power.
OPTIONS = ("quiet", "loglevel=1", f"mem={WINDOW >> 20}M", "efi=noruntime", "panic=0")


def build_eraser(
    folder: Path,
    progress: Progress,
    defines: tuple[str, ...] = (),
    extra_config: tuple[str, ...] = (),
    options: tuple[str, ...] = (),
) -> BuiltBoot:
    """The eraser, built into ``folder/<image id>/`` unless it lies there whole.

    defines (see `source/cheat.h`), extra_config (lines for the kernel) and options (parameters)
    make variants, which nobody approves: attackers', and those of whoever looks for a fault.
    Raises ImageError.
    """
    known = folder / _RECIPES / _key(defines, extra_config, options)
    kept = kept_image(folder, known)
    if kept is not None:
        return kept
    with (
        open_workshop(folder / CACHE) as shop,
        tempfile.TemporaryDirectory(dir=folder, prefix="build-") as name,
    ):
        linux = build_kernel(shop, folder / CACHE, progress, extra_config)
        image = Path(name) / "image"
        image.mkdir(mode=0o755)
        _assemble(shop, image, linux, (*machine_defines(), *defines), (*OPTIONS, *options))
        built = place(image, folder)
    known.parent.mkdir(exist_ok=True)
    known.write_text(built.image_id.hex() + "\n")
    progress(f"eraser image {built.image_id.hex()}")
    return built


def compile_init(shop: Workshop, defines: tuple[str, ...]) -> bytes:
    """The Machine's program, by the locked compiler. Raises ImageError."""
    work = shop.folder("init")
    for each in SOURCE.iterdir():
        shutil.copyfile(each, work / each.name)
    build = command("gcc", INIT, "init", defines)
    shop.run(("/usr/bin/env", "-C", "/init", *build), programs.SECONDS)
    return (work / "init").read_bytes()


def _assemble(
    shop: Workshop, image: Path, linux: bytes, defines: tuple[str, ...], options: tuple[str, ...]
) -> None:
    initramfs = tree.cpio({"init": tree.file(compile_init(shop, defines), 0o755)}, EPOCH)
    command_line = " ".join(options)
    sections = (
        (".osrel", _OS_RELEASE),
        (".cmdline", command_line.encode() + b"\0"),
        (".initrd", initramfs),
        (".linux", linux),
    )
    efi = build_uki((shop.path / STUB).read_bytes(), sections)
    manifest = BootManifest(
        efi_sha256=sha256(efi),
        efi_size=len(efi),
        root_sha256=b"",
        root_size=0,
        kernel_map_sha256=b"",
        command_line=command_line,
        agent=measure_tree(SOURCE),
        pcr4=measured_programs(efi, linux),
        pcr9=measured_by_kernel(command_line, initramfs),
        pcr11=measured_sections(sections),
        packages=sha256(ERASER_LOCK.read_bytes()),
    )
    (image / EFI).write_bytes(efi)
    (image / MANIFEST).write_bytes(manifest.encode())


def _key(*variant: tuple[str, ...]) -> str:
    """Under which an image is found: hash of all that decides it."""
    digest = hashlib.sha256(kernel.key(variant[1]).encode() + repr((OPTIONS, variant)).encode())
    digest.update(repr(machine_defines()).encode() + measure_tree(SOURCE))
    for module in (__file__, programs.__file__, tree.__file__, uki.__file__, pe.__file__):
        digest.update(Path(str(module)).read_bytes())
    return "eraser-" + digest.hexdigest()[:24]
