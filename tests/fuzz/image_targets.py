"""What the list of an image's blocks and a peer's running set may hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agent.formats.cbor import FormatError
from agent.formats.cid import cid_of
from nodeclient.core.running import RunningSet
from nodeclient.core.types import Address
from nodeclient.images.parts import BLOCK, ImageParts
from tests.fuzz.check import Target

PARTS = ImageParts(b"\1" * 32, 2 * BLOCK + 5, tuple(cid_of(bytes([n])) for n in range(3)))
BARE = RunningSet(Address(b"\1" * 20), b"\2" * 32, 7, b"", (), 0)
FULL = RunningSet(
    Address(b"\1" * 20), b"\2" * 32, 1 << 40, b"\3" * 32, (("a", b"\4" * 32), ("b", b"\5" * 32)), 6
)


def again(data: bytes, value: Any) -> bool:
    return bool(value.encode() == data)


def all_targets() -> Iterator[Target]:
    """Every parser of the Verification module."""
    yield Target(
        "list of an image",
        (PARTS.encode(),),
        ImageParts.decode,
        (FormatError,),
        again,
        ("nodeclient.images.parts:ImageParts.decode",),
    )
    yield Target(
        "running set",
        (BARE.encode(), FULL.encode()),
        RunningSet.decode,
        (FormatError,),
        again,
        ("nodeclient.core.running:RunningSet.decode",),
    )
