"""Where a task's clear text lies: RAM disks that end with the task.

`work` holds function and inputs, `out` what the function writes. `out` is a RAM disk of its own and
exactly as large as the TaskSpec permits, so that filling it harms nobody. Neither is ever a disk.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

CONTAINER_UID = 65534
_OUT_FILES = 65_536  # inodes: each costs kernel memory that no size limit counts
_WIPE = bytes(1 << 20)


class ScratchError(Exception):
    """The RAM disks cannot be made or removed."""


class Scratch:
    """The folders of one task under `folder`, which must be private to the Agent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.function = folder / "function"
        self.inputs = folder / "in"
        self.out = folder / "out"
        self.empty = folder / "empty"
        self.proxy = folder / "proxy.sock"
        self.image = folder / "image.tar"
        self.brought = folder / "brought"

    def mount(self, work_bytes: int, out_bytes: int, receivers: Sequence[str]) -> None:
        """Make both RAM disks and the folders that the function sees. Raises ScratchError."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _mount(self.folder, f"size={work_bytes},mode=0700,nosuid,nodev")
        self.inputs.mkdir(mode=0o755)
        self.empty.mkdir(mode=0o755)
        self.out.mkdir(mode=0o755)
        options = f"size={out_bytes},nr_inodes={_OUT_FILES},mode=0755,nosuid,nodev,noexec"
        _mount(self.out, f"{options},uid={CONTAINER_UID},gid={CONTAINER_UID}")
        for name in receivers:
            (self.out / name).mkdir(mode=0o755)
            os.chown(self.out / name, CONTAINER_UID, CONTAINER_UID)

    def erase(self) -> tuple[int, int]:
        """Overwrite and remove everything, unmount, remove the folder: (files, bytes) wiped."""
        files = total = 0
        for root in (self.out, self.folder):
            if os.path.ismount(root):
                found, size = wipe_tree(root)
                files, total = files + found, total + size
                _unmount(root)
        shutil.rmtree(self.folder, ignore_errors=True)
        return files, total

    @property
    def gone(self) -> bool:
        """Whether no mount and no folder is left."""
        return not mounted_under(self.folder) and not self.folder.exists()


def mounted_under(folder: Path) -> list[Path]:
    """Mount points at or below `folder`, deepest first."""
    prefix = str(folder.absolute())
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
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


def _mount(point: Path, options: str) -> None:
    _run(["mount", "-t", "tmpfs", "-o", options, "sealrun", str(point)])


def _unmount(point: Path) -> None:
    _run(["umount", str(point)])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise ScratchError(f"{command[0]} failed ({done.stderr.strip()[:160]}); is the Agent root?")
