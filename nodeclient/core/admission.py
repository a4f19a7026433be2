"""Motions of `AdmissionLedger`: what they say, who votes, and what is signed. Pure.

A motion is opened by a candidate (ADMIT) or an ACTIVE Node, joins a round, and is decided by the
Committee that the round's entropy drew. The digests are EIP-712, domain "sealrun" version "1" of
the ledger, as for the votes of Tasks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum

from coincurve import PrivateKey, PublicKey

from agent.formats.hashes import keccak256
from nodeclient.core.digests import VOTE_DOMAIN_TYPE, words
from nodeclient.core.types import Address, Verdict

MAKER_ZYMBIT = keccak256(b"sealrun/maker/zymbit")
"""The maker of every Zymkey: no certificate tells one from another, so they are barred together."""
MOTION_TYPE = keccak256(
    b"MotionVote(uint256 motion,uint8 kind,address proposer,uint256 number,bytes32 subject,"
    b"bytes32 maker,bytes32 evidence,uint8 verdict,uint64 validUntil)"
)
VOUCH_TYPE = keccak256(
    b"Vouch(address node,uint256 number,bytes32 hardwareId,bytes32 maker,bytes32 evidence,"
    b"uint64 validUntil)"
)
_HALF_N = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_NAME = keccak256(b"sealrun")
_VERSION = keccak256(b"1")


class MotionKind(IntEnum):
    """What a motion asks for."""

    ADMIT = 1
    BAR = 2
    BAR_MAKER = 3
    NAME = 4
    DISMISS = 5


class MotionState(IntEnum):
    """Where a motion stands on chain; OPEN is void once its windows are over."""

    OPEN = 1
    CARRIED = 2
    REJECTED = 3


@dataclass(frozen=True, slots=True)
class Motion:
    """The struct `Motion`; the ledger keeps only its hash.

    `number`, `maker`: node id and maker of a candidate, zero for the other kinds. `subject`: the
    hardware id, the maker, or the account (left-padded). `round`: the block that draws.
    """

    id: int
    kind: MotionKind
    proposer: Address
    number: int
    subject: bytes
    maker: bytes
    evidence: bytes
    round: int


@dataclass(frozen=True, slots=True)
class AdmissionParameters:
    """Immutables of `AdmissionLedger`. Blocks, but `size` in seats and `fee` in wei."""

    entropy_delay: int
    lookahead: int
    draw_window: int
    vote_window: int
    size: int
    fee: int

    @property
    def longest(self) -> int:
        """Blocks from the opening of a motion to the last in which it can be decided, at most."""
        stride = 2 * (self.lookahead + 1)
        return 2 * self.entropy_delay + stride + self.draw_window + self.vote_window

    def draw_end(self, motion: Motion) -> int:
        """The last block in which the motion's round can be drawn."""
        return motion.round + self.draw_window

    def vote_end(self, motion: Motion) -> int:
        """The last block in which the motion can be decided; all votes on it name this one."""
        return self.draw_end(motion) + self.vote_window

    def seats(self, motion: Motion, committee: Sequence[Address]) -> Sequence[Address]:
        """Those of a round's Committee that decide, but for whom the motion would bar."""
        return committee[: self.size] if motion.kind is MotionKind.ADMIT else committee


def able_among(
    seats: Sequence[Address], barred: Collection[Address], accused: Collection[Address]
) -> tuple[Address, ...]:
    """Who of these decides, as `AdmissionLedger` has it: who is not barred, nor would be by the
    motion, unless that is half of the seats or more; nobody, if half or more are barred."""
    present = tuple(one for one in seats if one not in barred)
    able = tuple(one for one in present if one not in accused)
    if 2 * len(able) > len(seats):
        return able
    return present if 2 * len(present) > len(seats) else ()


def quorum_among(able: int) -> int:
    """Votes that decide where so many members may vote: two thirds, rounded up."""
    return (2 * able + 2) // 3


def motion_digest(
    chain_id: int, ledger: Address, motion: Motion, verdict: Verdict, valid_until: int
) -> bytes:
    """What a member's account key signs about a motion."""
    said = words(
        MOTION_TYPE,
        motion.id,
        motion.kind,
        motion.proposer,
        motion.number,
        motion.subject,
        motion.maker,
        motion.evidence,
        verdict,
        valid_until,
    )
    return _enveloped(chain_id, ledger, said)


def vouch_digest(
    chain_id: int,
    ledger: Address,
    node: Address,
    number: int,
    hardware_id: bytes,
    maker: bytes,
    evidence: bytes,
    valid_until: int,
) -> bytes:
    """What an admitter's account key signs about a Zymkey that it has seen."""
    said = words(VOUCH_TYPE, node, number, hardware_id, maker, evidence, valid_until)
    return _enveloped(chain_id, ledger, said)


def sign(digest: bytes, account_key: bytes) -> tuple[int, int]:
    """(r, vs) as in EIP-2098, low s by RFC 6979."""
    signature = PrivateKey(account_key).sign_recoverable(digest, hasher=None)
    s, parity = int.from_bytes(signature[32:64], "big"), signature[64]
    return int.from_bytes(signature[:32], "big"), s | parity << 255


def is_signed_by(who: Address, digest: bytes, signature: tuple[int, int]) -> bool:
    """Whether an account signed a digest, as the ledger would find: one bad vote voids a ballot."""
    r, vs = signature
    s, parity = vs & ((1 << 255) - 1), vs >> 255
    if s > _HALF_N:
        return False
    packed = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([parity])
    try:
        public = PublicKey.from_signature_and_message(packed, digest, hasher=None)
    except Exception:  # coincurve raises a bare Exception for what is no signature
        return False
    return keccak256(public.format(compressed=False)[1:])[12:] == who


def _enveloped(chain_id: int, ledger: Address, said: bytes) -> bytes:
    domain = keccak256(words(VOTE_DOMAIN_TYPE, _NAME, _VERSION, chain_id, ledger))
    return keccak256(b"\x19\x01" + domain + keccak256(said))
