"""Kernel modules: those wanted and those that they need, in the order in which to load them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nodeclient.images.boot.tree import Node, Tree
from nodeclient.images.errors import ImageError

_MODINFO = b"\0depends="


def select(kernel: Mapping[str, Node], wanted: Iterable[str]) -> Tree:
    """Modules of the package's tree by path, each behind those that it needs.

    A name that is built into the kernel needs nothing. Raises ImageError for one that is neither.
    """
    paths = {_name(path): path for path in kernel if path.endswith(".ko")}
    builtin = {
        _name(line)
        for path, node in kernel.items()
        if path.endswith("/modules.builtin")
        for line in node.content.decode().splitlines()
    }
    chosen: Tree = {}

    def add(name: str, above: tuple[str, ...]) -> None:
        if name in builtin or (path := paths.get(name)) in chosen:
            return
        if path is None or name in above:
            raise ImageError(f"the kernel has no module {name}; refresh the lock")
        for needed in depends(kernel[path].content):
            add(needed, (*above, name))
        chosen[path] = kernel[path]

    for each in wanted:
        add(each.replace("-", "_"), ())
    return chosen


def depends(module: bytes) -> list[str]:
    """Names of the modules that `module` says it needs (its .modinfo section)."""
    start = module.find(_MODINFO)
    if start < 0:
        raise ImageError("a kernel module does not say what it needs; refresh the lock")
    start += len(_MODINFO)
    listed = module[start : module.index(b"\0", start)].decode("ascii")
    return [each.replace("-", "_") for each in listed.split(",") if each]


def _name(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".ko").replace("-", "_")
