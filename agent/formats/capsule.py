"""Capsules: sealed, content-addressed bundles. A Capsule is the CID of its header block.

header = CBOR {kind, owner, salted_digest, size, prefix, chunks, sealed_key, signature, version}
- `chunks`: SHA-256 digests of the chunk blocks, joined; each is that block's CIDv1 (raw).
- chunk i = ChaCha20-Poly1305(stream key, prefix (7) ‖ i (4) ‖ last (1), payload[i], aad): the
  STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizar 2015). Reordering, dropping and appending
  chunks all fail to authenticate, also under a header that somebody signed anew.
- `aad` binds kind and owner, so that a stranger cannot pass sealed chunks off as a Capsule of his.
- `salted_digest` = sha256(salt ‖ sha256(payload)), the salt derived from the content key: who does
  not hold the key cannot confirm a guess of the payload, and no second key opens to other content.
- `signature` by the owner's P-256 key (64 bytes X‖Y); for a RESULT by the Machine's session key.
- `sealed_key`: a RESULT's content key, HPKE-sealed to its receiver; empty for other kinds. It
  names nobody: HPKE's ciphertext is anonymous. A Capsule holds no policy, receivers or names.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from agent.formats import cbor, hpke, p256
from agent.formats.cbor import FormatError
from agent.formats.cid import check_block, cid_from_digest, cid_of
from agent.formats.shape import as_bytes, as_int, as_map

MAX_HEADER = 1 << 20
TAG = 16
CHUNK = (1 << 20) - TAG  # payload bytes, so that a full chunk block is exactly 1 MiB
MAX_CHUNKS = (MAX_HEADER - 1024) // 32
MAX_PAYLOAD = MAX_CHUNKS * CHUNK  # about 32 GiB
SEALED_KEY = 32 + hpke.OVERHEAD
_PREFIX = 7
_VERSION = 1
_KEYS = (
    *("version", "kind", "owner", "salted_digest", "size"),
    *("prefix", "chunks", "sealed_key", "signature"),
)

Put = Callable[[str, bytes], None]
Get = Callable[[str], bytes]
Sign = Callable[[bytes], bytes]


class Source(Protocol):
    """Anything to read a payload from; short reads are fine."""

    def read(self, size: int, /) -> bytes: ...


class Sink(Protocol):
    """Anything that takes a payload whole, part by part."""

    def write(self, part: bytes, /) -> int: ...


class CapsuleError(FormatError):
    """A Capsule that is not what it must be: altered, foreign, or of another key."""


class Kind(IntEnum):
    """What the payload is: a raw file, or an archive of a function or of results."""

    DATA = 1
    FUNCTION = 2
    RESULT = 3


@dataclass(frozen=True, slots=True)
class SealedCapsule:
    """What sealing gives: header CID, sha256 of the payload, payload size in bytes."""

    cid: str
    digest: bytes
    size: int


@dataclass(frozen=True, slots=True)
class CapsuleHeader:
    """A header block, parsed. `size` in bytes; `digests` the chunk blocks' SHA-256."""

    kind: Kind
    owner: bytes
    salted_digest: bytes
    size: int
    prefix: bytes
    digests: tuple[bytes, ...]
    sealed_key: bytes
    signature: bytes

    @property
    def chunks(self) -> tuple[str, ...]:
        """CIDs of the chunk blocks, in order."""
        return tuple(cid_from_digest(digest) for digest in self.digests)

    def signed_digest(self) -> bytes:
        """What the owner signs: the header with an empty signature, behind a domain."""
        unsigned = replace(self, signature=b"").encode()
        return hashlib.sha256(b"sealrun/capsule/v1" + unsigned).digest()

    def encode(self) -> bytes:
        """The header block."""
        return cbor.encode(
            {
                "version": _VERSION,
                "kind": int(self.kind),
                "owner": self.owner,
                "salted_digest": self.salted_digest,
                "size": self.size,
                "prefix": self.prefix,
                "chunks": b"".join(self.digests),
                "sealed_key": self.sealed_key,
                "signature": self.signature,
            }
        )


def parse_header(block: bytes) -> CapsuleHeader:
    """Parse a header block and verify its owner's signature. Raises FormatError."""
    fields = as_map(cbor.decode(block, MAX_HEADER), _KEYS, "capsule header")
    as_int(fields["version"], _VERSION, _VERSION, "capsule version")
    kind = Kind(as_int(fields["kind"], min(Kind), max(Kind), "capsule kind"))
    size = as_int(fields["size"], 0, MAX_PAYLOAD, "capsule size")
    # The count follows from the size: a header that says otherwise lies about one of them.
    joined = as_bytes(fields["chunks"], 32 * _chunk_count(size), "capsule chunk list")
    header = CapsuleHeader(
        kind=kind,
        owner=as_bytes(fields["owner"], 64, "capsule owner"),
        salted_digest=as_bytes(fields["salted_digest"], 32, "salted digest"),
        size=size,
        prefix=as_bytes(fields["prefix"], _PREFIX, "capsule prefix"),
        digests=tuple(joined[i : i + 32] for i in range(0, len(joined), 32)),
        sealed_key=as_bytes(fields["sealed_key"], 0, "sealed key", SEALED_KEY),
        signature=as_bytes(fields["signature"], 64, "capsule signature"),
    )
    if len(header.sealed_key) not in (0, SEALED_KEY if kind is Kind.RESULT else 0):
        raise CapsuleError(f"capsule: a sealed key has {SEALED_KEY} bytes and is for results only")
    if not p256.verify(header.owner, header.signed_digest(), header.signature):
        raise CapsuleError("capsule: header is not signed by its owner; fetch it again")
    return header


def inspect(cid: str, get: Get) -> CapsuleHeader:
    """Fetch, check and parse a header; opens nothing. Raises FormatError and what `get` raises."""
    block = get(cid)
    if len(block) > MAX_HEADER:
        raise CapsuleError("capsule: header exceeds 1 MiB; this CID is no capsule")
    check_block(cid, block)
    return parse_header(block)


def seal_stream(
    source: Source,
    put: Put,
    *,
    kind: Kind,
    owner: bytes,
    sign: Sign,
    content_key: bytes,
    sealed_key: bytes = b"",
) -> SealedCapsule:
    """Seal a payload of up to MAX_PAYLOAD bytes, one chunk in memory at a time; header put last.

    `content_key`: 32 fresh random bytes, one per Capsule. `owner` X‖Y, `sign` its r‖s over a
    digest. Raises CapsuleError for a payload too large, FormatError for a malformed argument.
    """
    as_bytes(owner, 64, "capsule owner")
    stream_key, salt = _derive(content_key)
    cipher, aad = ChaCha20Poly1305(stream_key), _aad(kind, owner)
    prefix = os.urandom(_PREFIX)
    payload_hash, size = hashlib.sha256(), 0
    digests: list[bytes] = []
    chunk = _read_full(source)
    while True:
        following = _read_full(source) if len(chunk) == CHUNK else b""
        if len(digests) == MAX_CHUNKS:
            raise CapsuleError(f"capsule: payload exceeds {MAX_PAYLOAD} bytes; split it")
        payload_hash.update(chunk)
        size += len(chunk)
        block = cipher.encrypt(_nonce(prefix, len(digests), not following), chunk, aad)
        digests.append(hashlib.sha256(block).digest())
        put(cid_from_digest(digests[-1]), block)
        if not following:
            break
        chunk = following
    digest = payload_hash.digest()
    header = CapsuleHeader(
        kind, owner, _salted(salt, digest), size, prefix, tuple(digests), sealed_key, b""
    )
    header = replace(header, signature=sign(header.signed_digest()))
    encoded = header.encode()
    parse_header(encoded)  # whatever `sign` or the caller gave: never publish what nobody can open
    cid = cid_of(encoded)
    put(cid, encoded)
    return SealedCapsule(cid, digest, size)


def open_stream(
    cid: str,
    get: Get,
    content_key: bytes,
    sink: Sink,
    *,
    expect_owner: bytes | None,
    expect_digest: bytes | None,
    expect_kind: Kind | None = None,
) -> CapsuleHeader:
    """Open a Capsule into `sink`, each chunk authenticated before it is written.

    Only a return without an error says that the whole payload is there and right: publish what
    `sink` holds only then. Raises CapsuleError, FormatError and what `get` raises.
    """
    header = inspect(cid, get)
    if expect_owner is not None and header.owner != expect_owner:
        raise CapsuleError("capsule: belongs to another owner than the task names; refuse it")
    if expect_kind is not None and header.kind is not expect_kind:
        raise CapsuleError(f"capsule: is {header.kind.name}, not {expect_kind.name}; check the CID")
    stream_key, salt = _derive(content_key)
    cipher, aad = ChaCha20Poly1305(stream_key), _aad(header.kind, header.owner)
    payload_hash, last = hashlib.sha256(), len(header.digests) - 1
    for index, chunk_cid in enumerate(header.chunks):
        block = get(chunk_cid)
        expected = CHUNK if index < last else header.size - last * CHUNK
        if len(block) != expected + TAG:
            check_block(chunk_cid, block)
            raise CapsuleError(f"capsule: chunk {index} has a wrong size; seal it again")
        try:
            chunk = cipher.decrypt(_nonce(header.prefix, index, index == last), block, aad)
        except InvalidTag as error:
            # The tag already tells other bytes from these, and at this very place; hashing every
            # chunk again would cost a quarter of the speed. The CID only says whose fault it is.
            check_block(chunk_cid, block)
            raise CapsuleError(
                f"capsule: chunk {index} does not open with this key; ask the owner for its key"
            ) from error
        payload_hash.update(chunk)
        sink.write(chunk)
    digest = payload_hash.digest()
    if _salted(salt, digest) != header.salted_digest:
        raise CapsuleError("capsule: content is not what its header promises; refuse it")
    if expect_digest is not None and digest != expect_digest:
        raise CapsuleError("capsule: content is not what the task names; refuse it")
    return header


def promises(header: CapsuleHeader, content_key: bytes, digest: bytes) -> bool:
    """Whether a header promises a payload of this sha256, for somebody who holds the key."""
    return _salted(_derive(content_key)[1], digest) == header.salted_digest


def _chunk_count(size: int) -> int:
    return max(1, -(-size // CHUNK))  # an empty payload still has its one, final chunk


def _derive(content_key: bytes) -> tuple[bytes, bytes]:
    """(stream key, digest salt) of a content key that is uniform already (RFC 5869, §3.3)."""
    as_bytes(content_key, 32, "content key")
    expand = [
        HKDFExpand(hashes.SHA256(), 32, label).derive(content_key)
        for label in (b"sealrun/capsule/v1 stream", b"sealrun/capsule/v1 salt")
    ]
    return expand[0], expand[1]


def _aad(kind: Kind, owner: bytes) -> bytes:
    return b"sealrun/capsule/v1" + bytes([kind]) + owner


def _nonce(prefix: bytes, index: int, last: bool) -> bytes:
    return prefix + index.to_bytes(4, "big") + bytes([last])


def _salted(salt: bytes, digest: bytes) -> bytes:
    return hashlib.sha256(salt + digest).digest()


def _read_full(source: Source) -> bytes:
    """CHUNK bytes, fewer only at the end: raw files and pipes may return short reads."""
    first = source.read(CHUNK)
    if len(first) in (0, CHUNK):
        return first
    buffer = bytearray(first)
    while len(buffer) < CHUNK:
        more = source.read(CHUNK - len(buffer))
        if not more:
            break
        buffer += more
    return bytes(buffer)
