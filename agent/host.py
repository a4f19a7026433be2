"""What this Machine is made of and what runs on it, read from the kernel. Read only, and bounded.

Each function gives lists of plain values, sorted, for one claim. Lists end at MAX_ENTRIES with
"…" as the last entry, so that a crowded host gives partial Evidence, visibly, instead of none.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path

MAX_ENTRIES = 1024
_LISTEN = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}  # states of /proc/net (proc(5))
_PROC = Path("/proc")
_SYS = Path("/sys")


def command_line() -> str:
    """The kernel's command line."""
    return _read(_PROC / "cmdline")[:4096]


def modules() -> list[object]:
    """[name, size in bytes, state] of each loaded kernel module."""
    rows = (line.split() for line in _read(_PROC / "modules").splitlines())
    return bounded([row[0], int(row[1]), row[4]] for row in rows if len(row) >= 5)


def mounts() -> list[object]:
    """[mount point, file system, source, options] of each mount."""
    found: list[list[object]] = []
    for line in _read(_PROC / "self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) >= 6 and len(kind) >= 2:
            found.append([fields[4], kind[0], kind[1], fields[5]])
    return bounded(found)


def sockets() -> list[object]:
    """[protocol, address, port] of each listening TCP and bound UDP socket."""
    found = []
    for protocol, state in _LISTEN.items():
        for line in _read(_PROC / "net" / protocol).splitlines()[1:]:
            fields = line.split()
            if len(fields) > 3 and fields[3] == state:
                address, _, port = fields[1].partition(":")
                found.append([protocol, _address(address), int(port, 16)])
    return bounded(found)


def memory() -> list[object]:
    """[start, end, type] of each row of the firmware's memory map, end exclusive, in bytes.

    As the firmware gave it, whatever `mem=` says; empty where the kernel does not tell.
    """
    found: list[list[object]] = []
    for each in (_SYS / "firmware/memmap").glob("*"):
        start, last = _hexadecimal(each / "start"), _hexadecimal(each / "end")
        if start is not None and last is not None:
            found.append([start, last + 1, _read(each / "type")[:64]])
    return bounded(found)


def _read(file: Path) -> str:
    try:
        text = file.read_text(errors="replace")
    except OSError:
        return ""
    return text.strip("\n")


def _hexadecimal(file: Path) -> int | None:
    try:
        return int(_read(file), 16)
    except ValueError:
        return None


def _address(text: str) -> str:
    """An address of /proc/net: hexadecimal words in the host's byte order."""
    words = [bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8)]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, b"".join(words))


def bounded(rows: Iterable[list[object]]) -> list[object]:
    """Sorted, and cut visibly."""
    ordered: list[object] = sorted(rows, key=repr)
    return ordered if len(ordered) <= MAX_ENTRIES else [*ordered[:MAX_ENTRIES], "…"]
