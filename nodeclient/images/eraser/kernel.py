"""The eraser's kernel: Debian's sources, a configuration of its own, always the same bytes.

It takes minutes, so a built kernel is kept under a name that all of its inputs decide.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from nodeclient.images.boot.recipe import EPOCH
from nodeclient.images.eraser import workshop
from nodeclient.images.eraser.workshop import LINUX, Workshop
from nodeclient.images.errors import ImageError

CONFIG = Path(__file__).with_name("kernel.config")
SECONDS = 3600  # 4 minutes on two cores that have nothing else to do
_IMAGE = "arch/x86/boot/bzImage"
_NAME = re.compile(r"linux-source-[0-9.]+")
# Debian's kernel begins each of its parts on 2 MiB, for large pages: most of 14 MiB would be gaps.
# Without them it needs less than 6 MiB, which fit below what OVMF keeps at 8 MiB.
_LINKER_SCRIPT = "arch/x86/kernel/vmlinux.lds.S"
_GAP, _GAPS = re.compile(r"ALIGN\((PMD|HPAGE)_SIZE\)"), 8
_MAKE = (
    *("make", "--silent", "ARCH=x86_64", "AWK=mawk", "YACC=bison", "LEX=flex"),
    *(f"KBUILD_BUILD_TIMESTAMP=@{EPOCH}", "KBUILD_BUILD_USER=sealrun"),
    *("KBUILD_BUILD_HOST=sealrun", "KBUILD_BUILD_VERSION=1"),
)

Progress = Callable[[str], None]


def key(extra: tuple[str, ...]) -> str:
    """Under which a kernel with `extra` lines of configuration is kept."""
    digest = hashlib.sha256(workshop.key().encode() + CONFIG.read_bytes())
    digest.update(repr((extra, _MAKE, _LINKER_SCRIPT, _GAP.pattern)).encode())
    return digest.hexdigest()[:24]


def build_kernel(
    shop: Workshop, folder: Path, progress: Progress, extra: tuple[str, ...] = ()
) -> bytes:
    """The bzImage, from ``folder/linux-<key>`` if it was built before. Raises ImageError."""
    kept = kept_kernel(folder, extra)
    if kept.is_file():
        return kept.read_bytes()
    progress("building the eraser's kernel; this takes some minutes, once")
    shop.linux()
    source, objects = shop.folder("source"), shop.folder("objects")
    try:
        shop.run(("tar", "-C", "/source", "-xf", f"/{LINUX}"), SECONDS)
        [tree] = [each.name for each in source.iterdir() if _NAME.fullmatch(each.name)]
        _close_gaps(source / tree / _LINKER_SCRIPT)
        _configure(shop, f"/source/{tree}", objects, extra)
        jobs = f"-j{os.cpu_count() or 1}"
        shop.run((*_MAKE, "-C", f"/source/{tree}", "O=/objects", jobs, "bzImage"), SECONDS)
        image = (objects / _IMAGE).read_bytes()
        shutil.copyfile(objects / ".config", kept.with_suffix(".config"))
    finally:
        shutil.rmtree(source)
        shutil.rmtree(objects)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="linux-new-", delete=False) as sink:
        sink.write(image)
    os.replace(sink.name, kept)
    return image


def _close_gaps(script: Path) -> None:
    """Have the kernel's parts begin on the next page. Raises ImageError for another script."""
    text, count = _GAP.subn("ALIGN(PAGE_SIZE)", script.read_text())
    if count != _GAPS:
        raise ImageError(f"{script.name} has {count} large gaps, not {_GAPS}; look at it")
    script.write_text(text)


def kept_kernel(folder: Path, extra: tuple[str, ...] = ()) -> Path:
    """Where a built kernel lies; beside it, with the suffix ``.config``, all that was chosen."""
    return folder / f"linux-{key(extra)}"


def _configure(shop: Workshop, tree: str, objects: Path, extra: tuple[str, ...]) -> None:
    """`allnoconfig` with our lines; each of them must have been taken."""
    wanted = CONFIG.read_text() + "".join(f"{line}\n" for line in extra)
    (objects / "wanted").write_text(wanted)
    settings = {"KCONFIG_ALLCONFIG": "/objects/wanted"}
    shop.run((*_MAKE, "-C", tree, "O=/objects", "allnoconfig"), SECONDS, settings)
    got = set((objects / ".config").read_text().splitlines())
    lost = [line for line in wanted.splitlines() if line.startswith("CONFIG_") and line not in got]
    if lost:
        raise ImageError(f"the kernel does not take {lost[0]}; correct {CONFIG.name}")
