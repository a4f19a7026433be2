"""What every root of trust answers, and how it fails. The protocol itself is a port."""

from __future__ import annotations

from nodeclient.errors import SealrunError
from nodeclient.ports import Root

__all__ = ["Root", "RootError", "UnsealError"]


class RootError(SealrunError):
    """The root of trust is missing, locked or refuses."""


class UnsealError(RootError):
    """Sealed bytes that this root, under this label, does not open."""
