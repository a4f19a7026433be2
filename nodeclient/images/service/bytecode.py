"""Python's byte code for every module of a service image, made by the image's own Python.

The container's root is read-only: without it each start would compile a thousand modules again. It
is made as for a boot image, and "unchecked" as there: the image ID vouches for it and its source.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from nodeclient.images.boot.bytecode import compile_modules
from nodeclient.images.boot.tools import Tools


def bytecode(root: Path, work: Path) -> Iterator[tuple[str, bytes]]:
    """(path, content) of each ``__pycache__`` file for the modules in the tar ``root``, sorted.

    ``work`` is an empty folder. Only on x86-64: elsewhere nothing, and containers start slower.
    """
    unpacked = work / "root"
    with tarfile.open(root, "r:") as tar:
        tar.extractall(unpacked, filter=_harmless)  # noqa: S202  (a tar of our own making)
    paths = (each.relative_to(unpacked) for each in unpacked.rglob("usr/lib/**/*.py"))
    names = sorted(str(path) for path in paths if "__pycache__" not in path.parts)
    compile_modules(Tools(unpacked, ()), names, unpacked)
    for file in sorted(unpacked.rglob("usr/lib/**/__pycache__/*.pyc")):
        yield str(file.relative_to(unpacked)), file.read_bytes()


def _harmless(item: tarfile.TarInfo, _path: str) -> tarfile.TarInfo | None:
    """Files and links only, as plain as can be; an absolute link would lead to this host's."""
    if not (item.isreg() or item.isdir() or item.issym() or item.islnk()):
        return None
    if item.issym() and item.linkname.startswith("/"):
        item.linkname = os.path.relpath(item.linkname[1:], os.path.dirname(item.name))
    item.mode = (item.mode or 0) | 0o700 if item.isdir() else item.mode
    item.uid = item.gid = 0
    item.uname = item.gname = ""
    return item
