"""Files that are whole or not there at all: write aside, fsync, publish, fsync the folder.

New files are made nameless (O_TMPFILE) where the filesystem can, so that not even a SIGKILL leaves
half a file, or a decrypted one, behind. Nothing here overwrites unless it is told to.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import os
import secrets
import stat
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from nodeclient.errors import BadInput

_SMALL = 1 << 20  # bytes: keys, certificates and passphrases are far below
_BEHIND = 16  # blocks of 1 MiB that may be on their way to the disk
_libc = ctypes.CDLL(None, use_errno=True)


class FileRefused(BadInput):
    """A file that exists already, is missing, or that others may read."""


class Writable(Protocol):
    """Takes bytes whole."""

    def write(self, part: bytes, /) -> int: ...


@contextlib.contextmanager
def new_file(
    target: Path, mode: int = 0o600, check: Callable[[Path], None] = lambda _: None
) -> Iterator[Writable]:
    """A stream whose content appears as `target`, durable, when the block ends without an error.

    `check` may read the whole content, under a path of this moment only, before it appears; what it
    raises keeps it from appearing. Raises FileRefused if `target` exists, before or after the
    content is written; OSError.
    """
    if target.exists() or target.is_symlink():
        raise _exists(target)
    handle, name = _open_aside(target.parent, mode)
    try:
        with os.fdopen(handle, "wb", buffering=0) as stream:
            yield _Streamed(stream)
            os.fsync(stream.fileno())
            number = stream.fileno()
            source = str(name.absolute()) if name else f"/proc/self/fd/{number}"
            check(Path(source))
            # link, unlike rename, never replaces: two that publish at once cannot both succeed.
            # A folder descriptor, though unused for an absolute path, makes Python call linkat,
            # the one of the two that follows /proc's link.
            os.link(source, target, src_dir_fd=number, follow_symlinks=True)
    except FileExistsError as error:
        raise _exists(target) from error
    finally:
        if name:
            name.unlink(missing_ok=True)
    sync_folder(target.parent)


def write_new(target: Path, content: bytes, mode: int = 0o600) -> None:
    """Publish small content as a new file. Raises FileRefused if it exists; OSError."""
    with new_file(target, mode) as stream:
        stream.write(content)


def replace_file(
    target: Path, content: bytes, mode: int = 0o600, *, behind: WriteBehind | None = None
) -> None:
    """Publish content under `target` in one step, replacing what is there. Raises OSError.

    Durable on return, unless `behind` takes it: then `sync_filesystem` makes it so.
    """
    aside = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(handle, "wb", buffering=0) as stream:
            _Streamed(stream).write(content)
            if behind is None:
                os.fsync(stream.fileno())
            else:
                behind.add(stream.fileno())
        aside.rename(target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if behind is None:
        sync_folder(target.parent)


def read_given(path: Path, most: int, refused: type[BadInput], too_large: str) -> bytes:
    """Read a file that a person gave us, of at most `most` bytes. Raises `refused`, with the next
    step `too_large` for a larger one."""
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise refused(f"{path}: {error.strerror}", "check the path") from error
    if len(content) > most:
        raise refused(f"{path} exceeds {most >> 10} KiB", too_large)
    return content


def read_private(path: Path) -> bytes:
    """Read a small secret file of ours that nobody else may read. Raises FileRefused."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise FileRefused(f"{path}: {error.strerror}", "run `sealrun node init` first") from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise FileRefused(f"{path}: is no file", "check the path")
        if status.st_mode & 0o077:
            raise FileRefused(f"{path}: others may read it", "run `chmod 600` on it")
        if status.st_uid != os.geteuid():
            raise FileRefused(f"{path}: belongs to another user", "run `chown` on it")
        content = os.read(handle, _SMALL + 1)
    finally:
        os.close(handle)
    if len(content) > _SMALL:
        raise FileRefused(f"{path}: larger than any secret here", "check the path")
    return content


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_filesystem(folder: Path) -> None:
    """Make all written so far to the folder's filesystem durable, in one call (syncfs(2)).

    A thousand blocks in one go: an fsync for each would cost a journal commit for each.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc.syncfs(handle) != 0:
            raise OSError(ctypes.get_errno(), "syncfs failed", str(folder))
    finally:
        os.close(handle)


class WriteBehind:
    """Sends many files to the disk while they are being written, and out of the page cache.

    Left to itself the kernel lets gigabytes of dirty pages pile up, on memory that the Node needs,
    and the sync at the end waits for them all: 1 GiB was durable in 1.0 to 3.4 s, with this in 0.5.
    """

    def __init__(self) -> None:
        self._handles: deque[int] = deque()

    def add(self, handle: int) -> None:
        """Begin to write a file out; drop an earlier one, by now clean, from the page cache."""
        _advise(handle)
        self._handles.append(os.dup(handle))
        if len(self._handles) > _BEHIND:
            self._drop()

    def close(self) -> None:
        """Let go of the files. It does not wait: `sync_filesystem` does."""
        while self._handles:
            self._drop()

    def _drop(self) -> None:
        handle = self._handles.popleft()
        _advise(handle)
        os.close(handle)


class _Streamed:
    """One large file, written behind in the same way."""

    def __init__(self, stream: io.FileIO) -> None:
        self._stream, self._since = stream, 0

    def write(self, part: bytes, /) -> int:
        view = memoryview(part)
        while view:
            view = view[self._stream.write(view) :]
        self._since += len(part)
        if self._since >= _BEHIND << 20:
            _advise(self._stream.fileno())
            self._since = 0
        return len(part)


def _advise(handle: int) -> None:
    """Starts the write-out of dirty pages and drops clean ones; never waits, never loses any."""
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)


def _open_aside(folder: Path, mode: int) -> tuple[int, Path | None]:
    """(handle, name) of a new file; the name is None where it can be nameless."""
    try:
        return os.open(folder, os.O_WRONLY | os.O_TMPFILE, mode), None
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
    name = folder / f".part.{secrets.token_hex(8)}"
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), name


def _exists(target: Path) -> FileRefused:
    return FileRefused(f"{target}: exists already", "choose another name or remove it")
