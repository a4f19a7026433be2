"""A tree of files in memory, and its one deterministic tar or cpio.

Every byte written is a function of names, modes and contents: sorted, owner root, one time.
"""

from __future__ import annotations

import io
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_MAGIC = (
    b"070701"  # cpio's "newc", the one format that the kernel unpacks (initramfs: buffer-format)
)
_END = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Node:
    """A file, folder or link: `mode` with its type bits; `content` is a link's target."""

    mode: int
    content: bytes = b""

    @property
    def kind(self) -> int:
        """Type bits of the mode, as `stat.S_IFMT` gives them."""
        return stat.S_IFMT(self.mode)


Tree = dict[str, Node]  # by path, relative and without a trailing slash


def file(content: bytes, mode: int = 0o644) -> Node:
    """A regular file; set-uid and set-gid bits vanish: nothing in an image may raise its rights."""
    return Node(stat.S_IFREG | mode & 0o755, content)


def folder(mode: int = 0o755) -> Node:
    """A folder."""
    return Node(stat.S_IFDIR | mode)


def link(target: str) -> Node:
    """A symbolic link."""
    return Node(stat.S_IFLNK | 0o777, target.encode())


def with_parents(tree: Tree) -> Iterator[tuple[str, Node]]:
    """Every entry sorted by its path, behind the folders that hold it."""
    complete = dict(tree)
    for path in tree:
        above = path.rpartition("/")[0]
        while above:
            complete.setdefault(above, folder())
            above = above.rpartition("/")[0]
    yield from sorted(complete.items(), key=lambda each: each[0].split("/"))


def write_tar(tree: Tree, sink: BinaryIO, epoch: int) -> None:
    """Write the tree as a GNU tar, its top folder first."""
    kinds = {
        stat.S_IFREG: tarfile.REGTYPE,
        stat.S_IFDIR: tarfile.DIRTYPE,
        stat.S_IFLNK: tarfile.SYMTYPE,
    }
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, node in [(".", folder()), *with_parents(tree)]:
            item = tarfile.TarInfo(path)
            item.type, item.mode, item.mtime = kinds[node.kind], stat.S_IMODE(node.mode), epoch
            if node.kind == stat.S_IFLNK:
                item.linkname = node.content.decode()
            else:
                item.size = len(node.content)
            tar.addfile(item, io.BytesIO(node.content))


def cpio(tree: Tree, epoch: int) -> bytes:
    """The tree as an uncompressed initramfs archive."""
    parts: list[bytes] = []
    entries = [*with_parents(tree), (_END, Node(0))]
    for number, (path, node) in enumerate(entries, 1):
        name = path.encode() + b"\0"
        links = 2 if node.kind == stat.S_IFDIR else 1
        time = epoch if node.mode else 0
        inode = number if node.mode else 0
        fields = (inode, node.mode, 0, 0, links, time, len(node.content), 0, 0, 0, 0, len(name), 0)
        header = _MAGIC + b"".join(b"%08X" % field for field in fields)
        parts += [_padded(header + name), _padded(node.content)]
    return b"".join(parts)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
