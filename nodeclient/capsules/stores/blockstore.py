"""Blocks in a folder, one file each: `<folder>/<two characters of the CID>/<CID>`.

A CID becomes a path only after it has been parsed, so no name from outside can leave the folder.
Files appear whole; `get` checks content against the CID, so a disk that lies is found out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

from agent.formats.cbor import FormatError
from agent.formats.cid import BlockMismatch, check_block, digest_of
from nodeclient.capsules.errors import BlockCorrupt, BlockMissing, StoreError
from nodeclient.files import WriteBehind, replace_file, sync_filesystem

MAX_BLOCK = 1 << 20  # bytes: a full chunk, or the largest header


@runtime_checkable
class BatchStore(Protocol):
    """A store that can take many blocks and make them durable together."""

    def batch(self) -> _Batching: ...


class _Batching(Protocol):
    def __enter__(self) -> Callable[[str, bytes], None]: ...
    def __exit__(self, *error: object) -> bool | None: ...


class FolderStore:
    """Implements `nodeclient.ports.BlockStore` and `BatchStore`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, cid: str, block: bytes) -> None:
        """Store a block, durable on return. Raises StoreError, also for bytes not of that CID."""
        try:
            check_block(cid, block)
        except FormatError as error:
            raise StoreError(f"store: {cid}: bytes of another CID", "fetch it elsewhere") from error
        self._write(cid, block)

    def get(self, cid: str) -> bytes:
        """The block. Raises BlockMissing or BlockCorrupt."""
        try:
            with open(self._path(cid), "rb", buffering=0) as stream:
                size = os.fstat(stream.fileno()).st_size
                block = stream.read(min(size, MAX_BLOCK + 1))
        except FileNotFoundError as error:
            raise BlockMissing(f"store: {cid} is not here", "fetch it from its owner") from error
        except OSError as error:
            raise StoreError(f"store: {error}", "check the disk") from error
        try:
            check_block(cid, block)
        except BlockMismatch as error:
            raise BlockCorrupt(
                f"store: {cid} is damaged", "remove it and fetch it again"
            ) from error
        return block

    def has(self, cid: str) -> bool:
        """Whether a block is stored under that CID; `get` says whether it is sound."""
        return self._path(cid).is_file()

    def remove(self, cid: str) -> None:
        """Forget a block; nothing happens if it is not there."""
        self._path(cid).unlink(missing_ok=True)

    @contextmanager
    def batch(self) -> Iterator[Callable[[str, bytes], None]]:
        """Take the blocks of one Capsule from code that has just hashed them.

        The last one put, the header, is written only when all others are durable: a header that is
        there says that its chunks are too. After an error none of the new blocks stays.
        """
        held: list[tuple[str, bytes]] = []
        written: list[str] = []
        behind = WriteBehind()

        def put(cid: str, block: bytes) -> None:
            if held:
                flush()
            held.append((cid, block))

        def flush() -> None:
            cid, block = held.pop()
            if not self.has(cid):
                written.append(cid)
            self._write(cid, block, behind)

        try:
            yield put
            if held:
                if written:
                    sync_filesystem(self._folder)
                self._write(*held.pop())
        except BaseException:
            for cid in written:
                self.remove(cid)
            raise
        finally:
            behind.close()

    def _path(self, cid: str) -> Path:
        try:
            digest_of(cid)
        except FormatError as error:
            raise StoreError("store: not a CID of this project", "copy it whole") from error
        return self._folder / cid[-3:-1] / cid

    def _write(self, cid: str, block: bytes, behind: WriteBehind | None = None) -> None:
        if len(block) > MAX_BLOCK:
            raise StoreError(f"store: a block has at most {MAX_BLOCK} bytes", "split it")
        path = self._path(cid)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, block, behind=behind)
        except OSError as error:
            raise StoreError(f"store: {error}", "free some space or check the disk") from error
