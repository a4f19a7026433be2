"""Content keys at rest: sealed by the owner's root, bound to their Capsule, never in clear."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from agent.formats.cbor import FormatError
from agent.formats.cid import digest_of
from agent.formats.shape import as_bytes
from nodeclient.capsules.errors import CapsuleFileError
from nodeclient.files import FileRefused, read_private, replace_file
from nodeclient.ports import Root


class KeyVault(Protocol):
    """Keeps sealed content keys by Capsule. It never sees a key."""

    def put(self, cid: str, sealed: bytes) -> None:
        """Durable before it returns."""

    def get(self, cid: str) -> bytes:
        """Raises CapsuleFileError for a Capsule whose key is not here."""


class FolderVault:
    """A vault of one small file per Capsule."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, cid: str, sealed: bytes) -> None:
        """Store sealed bytes. Raises CapsuleFileError."""
        path = self._path(cid)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, sealed)
        except OSError as error:
            raise CapsuleFileError(f"key of {cid}: {error}", "check the disk") from error

    def get(self, cid: str) -> bytes:
        """Read sealed bytes. Raises CapsuleFileError."""
        path = self._path(cid)
        if not path.exists():
            raise CapsuleFileError(f"key of {cid}: not on this node", "use the owner's node")
        try:
            return read_private(path)
        except FileRefused as error:
            raise CapsuleFileError(f"key: {error.message}", error.next_step) from error

    def _path(self, cid: str) -> Path:
        try:
            digest_of(cid)
        except FormatError as error:
            raise CapsuleFileError.of("key", error, "copy the CID whole") from error
        return self._folder / f"{cid}.key"


def keep_key(root: Root, vault: KeyVault, cid: str, content_key: bytes) -> None:
    """Seal a content key (32 bytes) for its Capsule and store it. Raises CapsuleFileError."""
    key = as_bytes(content_key, 32, "content key")
    vault.put(cid, root.seal(key, _label(cid)))


def load_key(root: Root, vault: KeyVault, cid: str) -> bytes:
    """The content key of a Capsule of ours. Raises CapsuleFileError if it is not here, RootError
    if another root sealed it, or for another Capsule."""
    return as_bytes(root.unseal(vault.get(cid), _label(cid)), 32, "content key")


def _label(cid: str) -> str:
    return f"content-key:{cid}"
