"""What runs on this Machine, by the content of its program; the task's own processes apart.

A function may bring any program, and its names are nobody's business: what Evidence says of a
process that has no more rights than a function is only that there is one. So nobody is listed by
a name of the function's choice, and whoever wants to stay off the list must give up every right.

Seen is what the kernel says of each process. Not seen: what an interpreter is told to run (Python
is a program of the image), code that was written into a process, and a program that root has the
kernel name otherwise (prctl(2), PR_SET_MM_EXE_FILE).
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from agent.host import bounded

_MAX_EXECUTABLE = 1 << 30  # bytes hashed of one program
_PROC = Path("/proc")
_NAMESPACES = ("ipc", "mnt", "net", "pid")
_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_TRIES = 3  # at a process that becomes another program just now
_NO_NEW_PRIVILEGES, _FILTERED = "1", "2"  # proc(5): NoNewPrivs, Seccomp


@dataclass(frozen=True, slots=True)
class Running:
    """`programs`: [path, SHA-256 or null if it cannot be read, processes], sorted and bounded.
    `confined`: whether processes run that have no more rights than a function."""

    programs: list[object]
    confined: bool


class Programs:
    """Running programs by content. A file is hashed once while it stays as it is.

    proc: where proc(5) is. The process that asks is the measure of what lies outside a container.
    """

    def __init__(self, proc: Path = _PROC) -> None:
        self._proc = proc
        self._known: dict[tuple[int, ...], bytes] = {}

    def running(self) -> Running:
        """All processes of this Machine, those of its containers included."""
        found: dict[tuple[str, bytes | None], int] = {}
        confined = False
        own = _namespaces(self._proc / "self")
        for process in self._proc.iterdir():
            if not process.name.isdigit():
                continue
            # Before a byte is read: a function may run thousands of files of a GiB each (memfd).
            if is_confined(process, own):
                confined = True
                continue
            program = self._program(process)
            if program is None:
                continue
            # And behind it: runc gives up its rights and then becomes the function.
            if is_confined(process, own):
                confined = True
            else:
                found[program] = found.get(program, 0) + 1
        rows = bounded([path, digest, count] for (path, digest), count in found.items())
        return Running(rows, confined)

    def _program(self, process: Path) -> tuple[str, bytes | None] | None:
        """Path and digest; None for a kernel thread, and for a process that ended meanwhile.

        One that cannot be read is told only if it is there still: nothing can be read of a
        process that ends, and nobody shall be suspected for that.
        """
        exe = process / "exe"
        try:
            for _ in range(_TRIES):
                path = os.readlink(exe)
                digest = self._digest(exe)
                if digest is not None or os.readlink(exe) == path:
                    break
            return path, digest
        except OSError:
            return None

    def _digest(self, exe: Path) -> bytes | None:
        """Through /proc/<pid>/exe: what runs, even if the file of that name was replaced."""
        try:
            with exe.open("rb") as program:
                status = os.fstat(program.fileno())
                if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_EXECUTABLE:
                    return None
                times = status.st_mtime_ns, status.st_ctime_ns  # root sets the first at will
                key = (status.st_dev, status.st_ino, status.st_size, *times)
                if key not in self._known:
                    self._known[key] = hashlib.file_digest(program, "sha256").digest()
            return self._known[key]
        except OSError:
            return None


def is_confined(process: Path, own: tuple[str, ...]) -> bool:
    """Whether a process (its folder in proc) can do no more than a function in its container.

    It shares none of the namespaces `own`, can never gain a right, and its system calls are
    filtered. Nobody looks at the files and sockets that it may hold open from an earlier life.
    """
    try:
        text = (process / "status").read_text(errors="replace")
        there = _namespaces(process)
    except OSError:
        return False
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    return (
        all(int(fields.get(name, "1"), 16) == 0 for name in _SETS)
        and "0" not in fields.get("Uid", "0").split()
        and fields.get("NoNewPrivs") == _NO_NEW_PRIVILEGES
        and fields.get("Seccomp") == _FILTERED
        and all(a != b for a, b in zip(there, own, strict=True))
    )


def _namespaces(process: Path) -> tuple[str, ...]:
    return tuple(os.readlink(process / "ns" / name) for name in _NAMESPACES)
