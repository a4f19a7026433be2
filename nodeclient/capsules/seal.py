"""Seal a file or a folder into the store, its content key into the vault."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from agent.formats import archive
from agent.formats.capsule import Kind, SealedCapsule, seal_stream
from agent.formats.cbor import FormatError
from agent.formats.hashes import sha256
from nodeclient.capsules.errors import CapsuleFileError
from nodeclient.capsules.keys import KeyVault, keep_key
from nodeclient.capsules.stores.blockstore import BatchStore
from nodeclient.ports import BlockStore, Root

Progress = Callable[[int], None]  # payload bytes done since the last call


def seal_path(
    path: Path,
    kind: Kind,
    *,
    root: Root,
    store: BlockStore,
    vault: KeyVault,
    progress: Progress | None = None,
) -> SealedCapsule:
    """Seal a DATA file as it is, or a FUNCTION's file or folder as an archive.

    Memory stays at a few chunks whatever the size. When it returns, blocks and key are durable;
    when it raises, no Capsule exists. Raises CapsuleFileError, StoreError.
    """
    if kind is Kind.RESULT:
        raise CapsuleFileError(
            "seal: results are sealed inside the Machine", "choose data or function"
        )
    content_key = sha256(root.random(32) + os.urandom(32))
    try:
        with _open(path, kind) as source, _putter(store) as put:
            sealed = seal_stream(
                _Counted(source, progress) if progress else source,
                put,
                kind=kind,
                owner=root.public_key(),
                sign=root.sign,
                content_key=content_key,
            )
            # before the header is published: a Capsule that can be seen is one that can be opened
            keep_key(root, vault, sealed.cid, content_key)
    except FormatError as error:
        raise CapsuleFileError.of("seal", error, "change the file") from error
    except OSError as error:
        raise CapsuleFileError.of(f"seal: {path}", error, "check the path") from error
    return sealed


def _open(path: Path, kind: Kind) -> BinaryIO:
    if kind is Kind.FUNCTION:
        if not path.exists():
            raise CapsuleFileError(f"seal: {path} does not exist", "check the path")
        return archive.packed(path)
    if not path.is_file():
        raise CapsuleFileError(f"seal: {path} is no file", "seal data one file at a time")
    return path.open("rb", buffering=0)


def _putter(store: BlockStore) -> AbstractContextManager[Callable[[str, bytes], None]]:
    return store.batch() if isinstance(store, BatchStore) else nullcontext(store.put)


class _Counted:
    """A stream that reports what is read from it."""

    def __init__(self, source: BinaryIO, progress: Progress) -> None:
        self._source, self._progress = source, progress

    def read(self, size: int = -1) -> bytes:
        part = self._source.read(size)
        self._progress(len(part))
        return part
