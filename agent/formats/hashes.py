"""Hashes and the Merkle tree of Evidence and nonces.

The tree is the one of RFC 6962, §2.1: leaves are hashed behind 0x00 and inner nodes behind 0x01, so
that no inner node can be passed off as a leaf. The last byte of a root is set to zero, because the
contract keeps a root and a verdict in one storage slot (31 + 1 bytes).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from Crypto.Hash import keccak

from agent.formats.cbor import FormatError

_LEAF, _INNER = b"\x00", b"\x01"
_LEFT, _RIGHT = 0, 1
_MAX_PATH = 32  # a tree of 2**32 leaves; nothing here has more


def keccak256(data: bytes) -> bytes:
    """Ethereum's Keccak-256 (not the SHA-3 of FIPS 202)."""
    return keccak.new(digest_bits=256, data=data).digest()


def sha256(data: bytes) -> bytes:
    """SHA-256 of FIPS 180-4."""
    return hashlib.sha256(data).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Root over at least one leaf: 32 bytes whose last is zero. Raises FormatError for none."""
    if not leaves:
        raise FormatError("merkle: a tree needs at least one leaf")
    return truncate(_levels(leaves)[-1][0])


def merkle_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Siblings from leaf `index` to the root, each a side byte (0 left, 1 right) and 32 bytes."""
    if not 0 <= index < len(leaves):
        raise FormatError(f"merkle: leaf {index} is not among the {len(leaves)}")
    path = []
    for level in _levels(leaves)[:-1]:
        sibling = index ^ 1
        if sibling < len(level):  # a lone last node moves up unhashed, as in RFC 6962
            path.append(bytes([_LEFT if sibling < index else _RIGHT]) + level[sibling])
        index //= 2
    return tuple(path)


def verify_path(leaf: bytes, path: Sequence[bytes], root: bytes) -> bool:
    """Whether `path` leads from `leaf` to `root`. Malformed steps are a plain no."""
    if len(path) > _MAX_PATH:
        return False
    node = sha256(_LEAF + leaf)
    for step in path:
        if len(step) != 33 or step[0] not in (_LEFT, _RIGHT):
            return False
        pair = step[1:] + node if step[0] == _LEFT else node + step[1:]
        node = sha256(_INNER + pair)
    return truncate(node) == root


def truncate(digest: bytes) -> bytes:
    """A 32-byte digest with its last byte set to zero, as the contract stores roots."""
    return digest[:31] + b"\x00"


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Every level, leaf hashes first. Carrying a lone node up gives RFC 6962's split at the
    largest power of two below the size."""
    levels = [[sha256(_LEAF + leaf) for leaf in leaves]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = [sha256(_INNER + below[i] + below[i + 1]) for i in range(0, len(below) - 1, 2)]
        levels.append(pairs + below[len(below) - len(below) % 2 :])
    return levels
