"""How Capsule files and stores fail. Every message ends with the next step."""

from __future__ import annotations


class CapsuleFileError(Exception):
    """A file that cannot be sealed, or a Capsule that cannot be published as a file."""


class StoreError(Exception):
    """A block store that refuses or fails."""


class BlockMissing(StoreError):
    """The store does not have the block."""


class BlockCorrupt(StoreError):
    """The store has bytes under that CID that are not the block."""
