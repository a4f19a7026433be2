"""Open a Capsule as a file or a folder: all of it, checked to the end, or nothing."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.formats import archive
from agent.formats.capsule import CapsuleHeader, Kind, Sink, open_stream
from agent.formats.cbor import FormatError
from nodeclient.capsules.errors import CapsuleFileError
from nodeclient.files import FileRefused, new_file, sync_filesystem, sync_folder

Get = Callable[[str], bytes]
Progress = Callable[[int], None]  # payload bytes done since the last call


def open_file(
    cid: str,
    target: Path,
    *,
    get: Get,
    content_key: bytes,
    expect_owner: bytes | None,
    expect_digest: bytes | None = None,
    progress: Progress | None = None,
) -> CapsuleHeader:
    """Open a Capsule's payload as the new file `target` (0600), whatever its kind.

    The file appears only after the last check; nothing replaces an existing one. Raises
    CapsuleFileError; StoreError from `get`.
    """
    with _as_file_error(target), new_file(target) as sink:
        return open_stream(
            cid,
            get,
            content_key,
            _Counted(sink, progress) if progress else sink,
            expect_owner=expect_owner,
            expect_digest=expect_digest,
        )


def open_folder(
    cid: str,
    target: Path,
    *,
    get: Get,
    content_key: bytes,
    kind: Kind,
    expect_owner: bytes | None,
    expect_digest: bytes | None = None,
    max_bytes: int = archive.MAX_BYTES,
    max_files: int = archive.MAX_FILES,
    progress: Progress | None = None,
) -> CapsuleHeader:
    """Open a FUNCTION or RESULT Capsule as the new folder `target` (0700).

    The payload is spooled to a nameless file and unpacked aside; `target` appears in one step.
    Raises CapsuleFileError, also for an archive above the bounds; StoreError from `get`.
    """
    if target.exists() or target.is_symlink():
        raise CapsuleFileError(f"open: {target} exists already", "choose another name or remove it")
    aside = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    with _as_file_error(target), tempfile.TemporaryFile(dir=target.parent) as spool:
        header = open_stream(
            cid,
            get,
            content_key,
            _Counted(spool, progress) if progress else spool,
            expect_owner=expect_owner,
            expect_digest=expect_digest,
            expect_kind=kind,
        )
        spool.seek(0)
        try:
            archive.unpack(spool, aside, max_bytes=max_bytes, max_files=max_files)
            sync_filesystem(aside)
            aside.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        sync_folder(target.parent)
    return header


@contextmanager
def _as_file_error(target: Path) -> Iterator[None]:
    try:
        yield
    except FormatError as error:
        raise CapsuleFileError.of("open", error, "ask the owner for the capsule again") from error
    except FileRefused as error:
        raise CapsuleFileError(f"open: {error.message}", error.next_step) from error
    except OSError as error:
        raise CapsuleFileError.of(f"open: {target}", error, "check folder and space") from error


class _Counted:
    """A sink that reports what is written to it."""

    def __init__(self, sink: Sink, progress: Progress) -> None:
        self._sink, self._progress = sink, progress

    def write(self, part: bytes) -> int:
        written = self._sink.write(part)
        self._progress(len(part))
        return written
