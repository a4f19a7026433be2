"""Deterministic archives of one file or folder: the payload of FUNCTION and RESULT Capsules.

A plain ustar (POSIX.1-1988) that holds regular files and folders only: sorted, owner 0, time 0,
mode 0755 or 0644, so that equal content is equal bytes and one digest names a function. Reading is
as strict as writing: a header that this module would not have written is refused. That alone keeps
out links, devices, absolute paths, `..`, duplicates and every extension of the format.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent.formats.cbor import FormatError

BLOCK = 512
PART = 1 << 20  # bytes read or written at once
MAX_BYTES = 8 << 30  # content bytes of a whole archive; a ustar size field ends there too
MAX_FILES = 10_000
_MAX_DEPTH = 32
_END = bytes(2 * BLOCK)
_FILE, _FOLDER = b"0", b"5"


class ArchiveError(FormatError):
    """A tree that cannot be packed, or an archive that must not be unpacked."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One member. `path` relative, with '/'; `size` in bytes, 0 for folders."""

    path: str
    folder: bool
    executable: bool
    size: int


def pack(
    path: Path, sink: BinaryIO, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES
) -> None:
    """Write the archive of a file, or of a folder's content, to `sink`.

    Raises ArchiveError for links, devices, other names than UTF-8 and above the bounds; OSError.
    """
    for part in _parts(path, max_bytes, max_files):
        sink.write(part)


def packed(path: Path, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> BinaryIO:
    """The archive as a stream to read from, made on the way: nothing is spooled in clear."""
    return io.BufferedReader(_Reader(_parts(path, max_bytes, max_files)), PART)


def unpack(
    source: BinaryIO, folder: Path, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES
) -> list[Entry]:
    """Unpack into `folder`, which is created and must not exist.

    Raises ArchiveError for anything that `pack` would not have written and above the bounds; what
    was unpacked until then is left for the caller to remove.
    """
    folder.mkdir(mode=0o700)
    entries: list[Entry] = []
    folders, total = {""}, 0
    previous: tuple[bytes, ...] = ()
    while (entry := _read_entry(source)) is not None:
        total += entry.size
        if len(entries) >= max_files or total > max_bytes:
            raise ArchiveError(
                f"archive: more than {max_files} entries or {max_bytes} bytes; raise the limit"
            )
        key = tuple(entry.path.encode().split(b"/"))
        if key <= previous or entry.path.rpartition("/")[0] not in folders:
            raise ArchiveError("archive: entries are not sorted, each once, behind their folder")
        previous = key
        if entry.folder:
            folders.add(entry.path)
            (folder / entry.path).mkdir(mode=0o755)
        else:
            _write_file(source, folder / entry.path, entry)
        entries.append(entry)
    return entries


def _parts(path: Path, max_bytes: int, max_files: int) -> Iterator[bytes]:
    """The archive's bytes, piece by piece."""
    total = count = 0
    for entry, file in _walk(path):
        count, total = count + 1, total + entry.size
        if count > max_files or total > max_bytes:
            raise ArchiveError(
                f"archive: more than {max_files} entries or {max_bytes} bytes; pack less"
            )
        yield _header(entry)
        if not entry.folder:
            yield from _content(file, entry)
    yield _END


def _walk(path: Path) -> Iterator[tuple[Entry, Path]]:
    if path.is_symlink():
        raise ArchiveError("archive: a link cannot be packed; name what it points to")
    if not path.is_dir():
        yield _entry(path, path.name), path
        return
    yield from _walk_folder(path, "", 1)


def _walk_folder(path: Path, prefix: str, depth: int) -> Iterator[tuple[Entry, Path]]:
    """Entries in the order of their path components, a folder before what it holds."""
    if depth > _MAX_DEPTH:
        raise ArchiveError(f"archive: folders nested deeper than {_MAX_DEPTH}; flatten them")
    with os.scandir(path) as found:
        names = sorted((each.name for each in found), key=os.fsencode)
    for name in names:
        entry = _entry(path / name, prefix + name)
        yield entry, path / name
        if entry.folder:
            yield from _walk_folder(path / name, f"{prefix}{name}/", depth + 1)


def _entry(file: Path, path: str) -> Entry:
    status = file.lstat()
    folder = stat.S_ISDIR(status.st_mode)
    if not folder and not stat.S_ISREG(status.st_mode):
        raise ArchiveError(f"archive: {path!r} is neither file nor folder; remove it")
    _split(path)
    executable = folder or bool(status.st_mode & stat.S_IXUSR)
    return Entry(path, folder, executable, 0 if folder else status.st_size)


def _content(file: Path, entry: Entry) -> Iterator[bytes]:
    """A file's bytes and padding. NOFOLLOW and NONBLOCK: it may have been replaced meanwhile."""
    handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb", buffering=0) as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise ArchiveError(f"archive: {entry.path!r} changed into no file; pack again")
        left = entry.size
        while left:
            part = opened.read(min(PART, left))
            if not part:
                raise ArchiveError(f"archive: {entry.path!r} shrank while it was read; pack again")
            left -= len(part)
            yield part
        if opened.read(1):
            raise ArchiveError(f"archive: {entry.path!r} grew while it was read; pack again")
    yield bytes(-entry.size % BLOCK)


def _split(path: str) -> tuple[bytes, bytes]:
    """(prefix, name) fields of a path. Raises ArchiveError for one that ustar or we refuse."""
    try:
        raw = path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ArchiveError(f"archive: {path!r} is not UTF-8; rename it") from error
    components = path.split("/")
    if any(part in ("", ".", "..") for part in components) or len(components) > _MAX_DEPTH:
        raise ArchiveError(f"archive: {path!r} is no plain relative path; rename it")
    if not path.isprintable() or "\\" in path:
        raise ArchiveError(f"archive: {path!r} holds control characters or '\\'; rename it")
    if len(raw) <= 100:
        return b"", raw
    cut = raw.rfind(b"/", 0, 156)
    if cut < 1 or len(raw) - cut - 1 > 100:
        raise ArchiveError(f"archive: {path!r} is longer than the format holds; shorten it")
    return raw[:cut], raw[cut + 1 :]


def _header(entry: Entry) -> bytes:
    prefix, name = _split(entry.path)
    if entry.size >= 8 << 30:
        raise ArchiveError(f"archive: {entry.path!r} has 8 GiB or more; split it")
    mode = b"0000755\0" if entry.executable else b"0000644\0"
    head = name.ljust(100, b"\0") + mode + b"0000000\0" * 2
    head += b"%011o\0" % entry.size + b"00000000000\0" + b" " * 8
    head += (_FOLDER if entry.folder else _FILE) + bytes(100) + b"ustar\x0000"
    head += bytes(64) + b"0000000\0" * 2 + prefix.ljust(155, b"\0") + bytes(12)
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def _read_entry(source: BinaryIO) -> Entry | None:
    """The next entry, None at the end. A header must be byte for byte what `_header` makes."""
    head = _read_exactly(source, BLOCK)
    if head == _END[:BLOCK]:
        if _read_exactly(source, BLOCK) != head or source.read(1):
            raise ArchiveError("archive: bytes after its end; refuse it")
        return None
    try:
        name, prefix = head[:100].rstrip(b"\0").decode(), head[345:500].rstrip(b"\0").decode()
        size = int(head[124:135], 8)
    except ValueError as error:
        raise ArchiveError("archive: unreadable header; pack it with sealrun") from error
    entry = Entry(
        f"{prefix}/{name}" if prefix else name,
        head[156:157] == _FOLDER,
        head[100:108] == b"0000755\0",
        size,
    )
    odd_folder = entry.folder and (size or not entry.executable)
    if size < 0 or odd_folder or _header(entry) != head:
        raise ArchiveError("archive: only plain files and folders are permitted; refuse it")
    return entry


def _write_file(source: BinaryIO, target: Path, entry: Entry) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    handle = os.open(target, flags, 0o755 if entry.executable else 0o644)
    with os.fdopen(handle, "wb") as opened:
        left = entry.size
        while left:
            part = _read_exactly(source, min(PART, left))
            opened.write(part)
            left -= len(part)
    if any(_read_exactly(source, -entry.size % BLOCK)):
        raise ArchiveError("archive: padding is not empty; refuse it")


def _read_exactly(source: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = source.read(size - len(data))
        if not more:
            raise ArchiveError("archive: truncated; fetch it again")
        data += more
    return data


class _Reader(io.RawIOBase):
    """A generator of bytes as a raw stream."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts, self._rest = parts, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._rest = memoryview(part)
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size
