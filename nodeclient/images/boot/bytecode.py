"""Python's byte code for every module of the root, made by the root's own Python.

The root is read-only and starts a processor that may be slow: without it every boot would compile
a thousand modules again. It is "unchecked": the digest of the whole root vouches for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nodeclient.images.boot.tools import Tools
from nodeclient.images.boot.tree import Tree, file

PYTHON = "usr/bin/python3.11"
# One process, one order, a fixed hash seed, and these very words: what marshal writes depends on
# what came before it.
_SCRIPT = """
import py_compile, sys
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
for line in open("list"):
    name = line.rstrip("\\n")
    try:
        py_compile.compile(name, dfile="/" + name, doraise=True, invalidation_mode=mode)
    except py_compile.PyCompileError:
        pass  # a template or a module for another Python; it could not be imported either
"""


def bytecode(tree: Tree, tools: Tools, work: Path) -> Tree:
    """The __pycache__ files of the tree's modules."""
    names = sorted(path for path in tree if path.startswith("usr/lib/") and path.endswith(".py"))
    for name in names:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(tree[name].content)
    compile_modules(tools, names, work)
    return {
        each.relative_to(work).as_posix(): file(each.read_bytes())
        for each in sorted(work.rglob("__pycache__/*.pyc"))
    }


def compile_modules(tools: Tools, names: Iterable[str], folder: Path) -> None:
    """Have the image's Python write a ``__pycache__`` file for each of the modules `names`, paths
    in `folder`, in this order. Raises ImageError."""
    (folder / "list").write_text("".join(f"{name}\n" for name in names))
    tools.run(PYTHON, ("-S", "-B", "-c", _SCRIPT), folder=folder)
