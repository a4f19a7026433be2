"""Where a task's clear text lies: two disks in RAM that end with the task.

`work` holds function and inputs, `out` what the function writes. `out` is a disk of its own and as
large as the TaskSpec permits, so that filling it harms nobody. Neither is ever a disk of the PC.

Erasing an encrypted one is forgetting its key: what lay on it is then noise, wherever a copy of it
is left. Its bytes are overwritten all the same. Pages in which the kernel kept clear text meanwhile
are zeroed as they are freed (`init_on_free=1`).
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.disks import CONTAINER_UID, DiskError, Disks, RamDisks, SealedDisks, unmount

_WIPE = bytes(1 << 20)


class ScratchError(Exception):
    """The disks cannot be made or removed."""


@dataclass(frozen=True, slots=True)
class Wiped:
    """What erasing overwrote, and how many keys it made the kernel forget."""

    files: int
    bytes: int
    keys: int


class Scratch:
    """The folders of one task under `folder`, which must be private to the Agent, on `disks`."""

    def __init__(self, folder: Path, disks: Disks) -> None:
        self.folder, self.disks = folder, disks
        self.backing = backing_of(folder)
        self.function = folder / "function"
        self.inputs = folder / "in"
        self.out = folder / "out"
        self.empty = folder / "empty"
        self.proxy = folder / "proxy.sock"
        self.image = folder / "image.tar"
        self.brought = folder / "brought"

    def mount(self, work_bytes: int, out_bytes: int, receivers: Sequence[str]) -> None:
        """Make both disks and the folders that the function sees. Raises ScratchError."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self.disks.mount(0, self.folder, work_bytes, 0o700, "nosuid,nodev")
            self.inputs.mkdir(mode=0o755)
            self.empty.mkdir(mode=0o755)
            self.out.mkdir(mode=0o755)
            self.disks.mount(1, self.out, out_bytes, 0o755, "nosuid,nodev,noexec")
        except DiskError as error:
            raise ScratchError(str(error)) from error
        for name in receivers:
            (self.out / name).mkdir(mode=0o755)
            os.chown(self.out / name, CONTAINER_UID, CONTAINER_UID)

    def claim(self) -> dict[str, object]:
        """Claim `scratch`: what the disks are, and which of them there are now.

        Raises ScratchError.
        """
        try:
            return self.disks.claim()
        except DiskError as error:
            raise ScratchError(str(error)) from error

    def erase(self) -> Wiped:
        """Unmount, forget the keys, overwrite and remove everything. Raises ScratchError.

        Also what an earlier life left that was cut off anywhere in between.
        """
        try:
            files, total = self._erase_mounted((self.out, self.folder))
            keys = self.disks.remove()
            again = self._erase_mounted(mounted_under(self.backing))
        except DiskError as error:
            raise ScratchError(str(error)) from error
        for folder in (self.folder, self.backing):
            shutil.rmtree(folder, ignore_errors=True)
        return Wiped(files + again[0], total + again[1], keys)

    def _erase_mounted(self, points: Sequence[Path]) -> tuple[int, int]:
        """Unmount each; a RAM disk is wiped before: (files, bytes) wiped.

        An encrypted one is not: its bytes lie on a RAM disk that is.
        """
        files = total = 0
        for point in points:
            kinds = mounted_at(point)
            if kinds and kinds[-1] == "tmpfs":
                found, size = wipe_tree(point)
                files, total = files + found, total + size
            for _ in kinds:
                unmount(point)
        return files, total

    @property
    def gone(self) -> bool:
        """Whether no mount and no folder is left."""
        folders = (self.folder, self.backing)
        return not any(mounted_under(each) or each.exists() for each in folders)

    @property
    def sealed(self) -> bool:
        """Whether the disks are encrypted."""
        return isinstance(self.disks, SealedDisks)

    @property
    def keys_gone(self) -> bool:
        """Whether the kernel says that it has no key of them. Raises ScratchError."""
        try:
            return self.disks.gone
        except DiskError as error:
            raise ScratchError(str(error)) from error


def make_scratch(folder: Path, *, sealed: bool) -> Scratch:
    """The task's folders; `sealed`: on encrypted disks, which takes a boot image's kernel."""
    return Scratch(folder, SealedDisks(backing_of(folder)) if sealed else RamDisks())


def backing_of(folder: Path) -> Path:
    """Where the bytes of encrypted disks lie, beside the folder on which they are mounted."""
    return folder.with_name(f"{folder.name}.backing")


def mounted_at(point: Path) -> list[str]:
    """File systems mounted on exactly `point`, the topmost last."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if _unescaped(left.split()[4]) == str(point.absolute()):
            found.append(right.split()[0])
    return found


def mounted_under(folder: Path) -> list[Path]:
    """Mount points at or below `folder`, deepest first."""
    prefix = str(folder.absolute())
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = _unescaped(line.split()[4])
        if point == prefix or point.startswith(prefix + "/"):
            points.append(Path(point))
    return sorted(points, key=lambda each: len(each.parts), reverse=True)


def wipe_tree(root: Path) -> tuple[int, int]:
    """Overwrite and remove everything in `root`, not `root` itself: (files, bytes) wiped.

    A function may nest folders deeper than any path or recursion reaches. So nothing descends:
    what a folder holds moves up into `root` first, until there are no folders.
    """
    files = total = moved = 0
    while entries := list(os.scandir(root)):
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                for inner in list(os.scandir(entry.path)):
                    os.rename(inner.path, root / f".{moved}.wipe")
                    moved += 1
                os.rmdir(entry.path)
                continue
            if stat.S_ISREG(status.st_mode):
                _overwrite(Path(entry.path), status.st_size)
                files, total = files + 1, total + status.st_size
            os.unlink(entry.path)
    return files, total


def _overwrite(path: Path, size: int) -> None:
    """Zero the pages in place before they go back to the kernel. Holes stay holes."""
    handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        offset = _next_data(handle, 0)
        while 0 <= offset < size:
            offset += os.pwrite(handle, _WIPE[: size - offset], offset)
            offset = _next_data(handle, offset)
    finally:
        os.close(handle)


def _next_data(handle: int, offset: int) -> int:
    """Where data goes on at or behind `offset`; -1 behind the last of it."""
    try:
        return os.lseek(handle, offset, os.SEEK_DATA)
    except OSError:  # ENXIO
        return -1


def _unescaped(field: str) -> str:
    """A path of mountinfo, whose odd characters are octal (proc(5))."""
    return field.encode().decode("unicode_escape")
