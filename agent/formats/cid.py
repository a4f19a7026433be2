"""CIDv1 of one raw block: multibase base32 (lower, no padding), codec raw 0x55, sha2-256.

One spelling only: another version, codec, hash or case of the same digest is refused, so that a
CID can be compared as a string. Source: the multiformats CID specification and RFC 4648, §6.
"""

from __future__ import annotations

import base64
import hashlib

from agent.formats.cbor import FormatError

_PREFIX = bytes([0x01, 0x55, 0x12, 0x20])  # version 1, raw, sha2-256, 32 bytes
LENGTH = 59  # characters: 'b' and the base32 of 36 bytes


class BlockMismatch(FormatError):
    """A block's bytes are not those its CID names."""


def cid_of(block: bytes) -> str:
    """The CID of these bytes."""
    return cid_from_digest(hashlib.sha256(block).digest())


def cid_from_digest(digest: bytes) -> str:
    """The CID of the block with this SHA-256 (32 bytes)."""
    if len(digest) != 32:
        raise FormatError(f"cid: a digest has 32 bytes, not {len(digest)}")
    return "b" + base64.b32encode(_PREFIX + digest).decode("ascii").lower().rstrip("=")


def digest_of(cid: str) -> bytes:
    """The SHA-256 that a CID names. Raises FormatError for any other spelling."""
    try:
        if not isinstance(cid, str) or len(cid) != LENGTH or cid[0] != "b":
            raise ValueError
        raw = base64.b32decode(cid[1:].upper() + "======")
    except ValueError as error:
        raise FormatError("cid: not a CIDv1; copy it whole, it starts with 'bafkrei'") from error
    digest = raw[len(_PREFIX) :]
    if raw[: len(_PREFIX)] != _PREFIX or cid_from_digest(digest) != cid:
        raise FormatError("cid: only CIDv1 with codec raw and sha2-256, in lower case, is used")
    return digest


def check_block(cid: str, block: bytes) -> None:
    """Raise BlockMismatch unless `block` is what `cid` names."""
    if hashlib.sha256(block).digest() != digest_of(cid):
        raise BlockMismatch(f"block {cid}: content differs from its CID; fetch it elsewhere")
