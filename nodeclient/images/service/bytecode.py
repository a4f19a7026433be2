"""Python's byte code for every module of a service image, made by the image's own Python.

The container's root is read-only: without it each start would compile a thousand modules again. One
process, one order, a fixed hash seed: what marshal writes depends on what came before it. It is
"unchecked", because the image ID vouches for it and its source alike.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from nodeclient.images.boot.tools import Tools

PYTHON = "usr/bin/python3.11"
_SCRIPT = """
import py_compile
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
for line in open("list"):
    name = line.rstrip("\\n")
    try:
        py_compile.compile(name, dfile="/" + name, doraise=True, invalidation_mode=mode)
    except py_compile.PyCompileError:
        pass  # a template or a module for another Python; it could not be imported either
"""


def bytecode(root: Path, work: Path) -> Iterator[tuple[str, bytes]]:
    """(path, content) of each ``__pycache__`` file for the modules in the tar ``root``, sorted.

    ``work`` is an empty folder. Only on x86-64: elsewhere nothing, and containers start slower.
    """
    unpacked = work / "root"
    with tarfile.open(root, "r:") as tar:
        tar.extractall(unpacked, filter=_harmless)  # noqa: S202  (a tar of our own making)
    paths = (each.relative_to(unpacked) for each in unpacked.rglob("usr/lib/**/*.py"))
    names = sorted(str(path) for path in paths if "__pycache__" not in path.parts)
    (unpacked / "list").write_text("".join(f"{name}\n" for name in names))
    Tools(unpacked, ()).run(PYTHON, ("-S", "-B", "-c", _SCRIPT), folder=unpacked)
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
