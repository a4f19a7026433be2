"""How Capsule files and stores fail."""

from __future__ import annotations

from agent.formats.cbor import FormatError
from nodeclient.errors import BadInput, SealrunError


class CapsuleFileError(BadInput):
    """A file that cannot be sealed, or a Capsule that cannot be published as a file."""

    @classmethod
    def of(cls, what: str, error: FormatError | OSError, next_step: str) -> CapsuleFileError:
        """Wrap a lower error; its own next step, behind a semicolon, goes before the given one."""
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        message, _, own_step = text.partition("; ")
        return cls(f"{what}: {message}", own_step or next_step)


class StoreError(SealrunError):
    """A block store that refuses or fails."""


class BlockMissing(StoreError):
    """The store does not have the block."""


class BlockCorrupt(StoreError):
    """The store has bytes under that CID that are not the block."""
