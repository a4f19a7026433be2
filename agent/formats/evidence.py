"""Evidence: what a Machine states about itself, signed by its session key (RFC 9334, RFC 9711).

Each claim is one leaf of a Merkle tree, salted, so that the root on chain tells nothing and a
single claim can be shown without the others:

    leaf   = salt (16 bytes) ‖ CBOR [name, value]
    root   = merkle_root(leaves in the order of their names)
    signed = sha256("sealrun/evidence/v1" ‖ root ‖ nonce)

`nonce` is one asker's 32 bytes, or the root that folds those of the whole Committee. The signature
proves possession of the session key only; that the key was born in the attested Machine is what
`session_key_hash` in the root-signed header says.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from agent.formats import cbor, p256
from agent.formats.cbor import FormatError
from agent.formats.hashes import merkle_path, merkle_root, sha256, verify_path
from agent.formats.shape import as_bytes, as_int, as_list, as_map, as_text

MAX_EVIDENCE = 4 << 20  # bytes
MAX_CLAIMS = 64
MAX_ITEMS = 1 << 17  # CBOR items of all claims together: a busy host states some ten thousand
PI_ONLY, TPM_QUOTED = "PI-ONLY", "TPM-QUOTED"  # claim `vouch`: who stands for all of it
_VERSION = 1
_SALT = 16
_DOMAIN = b"sealrun/evidence/v1"


class EvidenceError(FormatError):
    """Evidence that is well formed and yet not what it must be: signature, nonce or claim."""


@dataclass(frozen=True)
class Evidence:
    """Decoded Evidence. `leaves` are kept as bytes, so that it cannot change once it is checked."""

    leaves: tuple[bytes, ...]
    nonce: bytes
    signature: bytes

    @cached_property
    def root(self) -> bytes:
        """Merkle root over the claims; 32 bytes whose last is zero."""
        return merkle_root(self.leaves)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The claims' names, sorted."""
        return tuple(self._index)

    @cached_property
    def _index(self) -> dict[str, bytes]:
        """Name → leaf. Here, and only once, every leaf is checked: reading claims costs most of an
        appraisal."""
        index: dict[str, bytes] = {}
        left, last = MAX_ITEMS, ""
        for leaf in self.leaves:
            name, _, count = _parse_leaf(leaf, left)
            if name <= last:
                raise FormatError("evidence: claims are not sorted by name, each once")
            index[name] = leaf
            left, last = left - count, name
        return index

    def claim(self, name: str) -> object:
        """A fresh copy of one claim's value. Raises EvidenceError if it is not stated."""
        if name not in self._index:
            raise EvidenceError(f"evidence: claim {name!r} is missing; ask for the whole Evidence")
        return _value(self._index[name])

    def claims(self) -> dict[str, object]:
        """Every claim by name."""
        return {name: _value(leaf) for name, leaf in self._index.items()}

    def disclose(self, name: str) -> tuple[bytes, tuple[bytes, ...]]:
        """(leaf, path): enough for `verify_claim` to check one claim against the root."""
        if name not in self._index:
            raise EvidenceError(f"evidence: claim {name!r} is missing; ask for the whole Evidence")
        leaf = self._index[name]
        return leaf, merkle_path(self.leaves, self.leaves.index(leaf))

    def session(self) -> tuple[bytes, bytes]:
        """(HPKE public key 32 bytes, signing public key 64 bytes) from the `session` claim."""
        keys = as_map(self.claim("session"), ("hpke", "signing"), "claim session")
        return as_bytes(keys["hpke"], 32, "session hpke"), as_bytes(keys["signing"], 64, "signing")

    def verify(self, nonce: bytes, session_key_hash_: bytes | None = None) -> None:
        """Check nonce, signature and, if given, the hash of the session keys.

        Raises EvidenceError: an old nonce, a forged root or another session's keys.
        """
        if self.nonce != nonce:
            raise EvidenceError("evidence: answers another nonce; ask again with a fresh one")
        hpke_public, signing_public = self.session()
        if session_key_hash_ not in (None, session_key_hash(hpke_public, signing_public)):
            raise EvidenceError("evidence: session keys are not those of the signed header")
        if not p256.verify(signing_public, signed_digest(self.root, nonce), self.signature):
            raise EvidenceError("evidence: signature is not by its session key; refuse it")

    def encode(self) -> bytes:
        """Bytes for `decode`. Raises FormatError above MAX_EVIDENCE."""
        encoded = cbor.encode([_VERSION, self.leaves, self.nonce, self.signature])
        if len(encoded) > MAX_EVIDENCE:
            raise FormatError(f"evidence: {len(encoded)} bytes exceed {MAX_EVIDENCE}")
        return encoded

    @classmethod
    def decode(cls, data: bytes) -> Evidence:
        """Parse foreign bytes: shape only, `verify` judges. Raises FormatError."""
        parts = as_list(cbor.decode(data, MAX_EVIDENCE), 4, 4, "evidence")
        as_int(parts[0], _VERSION, _VERSION, "evidence version")
        leaves = tuple(
            as_bytes(leaf, _SALT + 1, "evidence leaf", MAX_EVIDENCE)
            for leaf in as_list(parts[1], 1, MAX_CLAIMS, "evidence leaves")
        )
        nonce, signature = as_bytes(parts[2], 32, "nonce"), as_bytes(parts[3], 64, "signature")
        evidence = cls(leaves, nonce, signature)
        _ = evidence._index  # refuses a leaf that is malformed, out of order or too much
        return evidence


def build(claims: Mapping[str, object], nonce: bytes, sign: Callable[[bytes], bytes]) -> Evidence:
    """Salt and sign claims (1 to MAX_CLAIMS). `sign` takes a 32-byte digest and returns r‖s.

    Raises FormatError for a value that deterministic CBOR here does not carry (floats, sets).
    """
    as_bytes(nonce, 32, "nonce")
    if not 1 <= len(claims) <= MAX_CLAIMS:
        raise FormatError(f"evidence: 1 to {MAX_CLAIMS} claims, not {len(claims)}")
    leaves = tuple(
        os.urandom(_SALT) + cbor.encode([as_text(name, 1, 64, "claim name"), claims[name]])
        for name in sorted(claims)
    )
    return Evidence(leaves, nonce, sign(signed_digest(merkle_root(leaves), nonce)))


def signed_digest(root: bytes, nonce: bytes) -> bytes:
    """What the session key signs (32 bytes)."""
    return sha256(_DOMAIN + root + nonce)


def session_key_hash(hpke_public: bytes, signing_public: bytes) -> bytes:
    """Names one session in headers and quotes: sha256(HPKE key ‖ signing key)."""
    return sha256(as_bytes(hpke_public, 32, "hpke") + as_bytes(signing_public, 64, "signing"))


def nonce_leaf(member: bytes, nonce: bytes) -> bytes:
    """A Committee member's leaf in the folded nonce: account (20 bytes) ‖ nonce (32 bytes)."""
    return as_bytes(member, 20, "member") + as_bytes(nonce, 32, "nonce")


def fold_nonces(nonces: Mapping[bytes, bytes]) -> bytes:
    """One nonce for all members (account → nonce): Merkle root of the leaves by account."""
    return merkle_root([nonce_leaf(member, nonces[member]) for member in sorted(nonces)])


def nonce_path(nonces: Mapping[bytes, bytes], member: bytes) -> tuple[bytes, ...]:
    """Shows a member that its own nonce is in the fold; checked with `verify_path`."""
    members = sorted(nonces)
    if member not in nonces:
        raise FormatError("evidence: that member gave no nonce")
    leaves = [nonce_leaf(each, nonces[each]) for each in members]
    return merkle_path(leaves, members.index(member))


def verify_claim(leaf: bytes, path: tuple[bytes, ...], root: bytes) -> tuple[str, object]:
    """(name, value) of a disclosed claim. Raises EvidenceError if it is not under `root`."""
    if not verify_path(leaf, path, root):
        raise EvidenceError("evidence: the claim is not part of that root; refuse it")
    name, value, _ = _parse_leaf(leaf, MAX_ITEMS)
    return name, value


def _parse_leaf(leaf: bytes, items: int) -> tuple[str, object, int]:
    """(name, value, CBOR items) of one leaf of at most so many items."""
    claim, count = cbor.decode_counted(leaf[_SALT:], MAX_EVIDENCE, items)
    name, value = as_list(claim, 2, 2, "claim")
    return as_text(name, 1, 64, "claim name"), value, count


def _value(leaf: bytes) -> object:
    """A fresh copy of the value of a leaf that was parsed before."""
    claim = cbor.decode_again(leaf[_SALT:])
    assert isinstance(claim, list)
    return claim[1]
