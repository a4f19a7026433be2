"""Witnesses with which `contracts/modules/ecvrf.vy` verifies a proof without curve arithmetic.

Everything here is computed from public values (key, alpha, proof). What each witness proves, and
why a forged one is refused, stands in the Vyper module's docstring. The contract also needs x
coordinates below the group order, which ecrecover demands; a key, H or Gamma above it (2^-128)
cannot be proved on chain and is refused here first.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from nodeclient.core import ecvrf
from nodeclient.core.curves import Point
from nodeclient.core.ecvrf import SECP256K1_TAI, EcvrfError

ALPHA_BYTES: Final = 27  # fills the two words that the contract hashes for a counter
MAX_ROOTS: Final = 40  # bound of the contract's array; more rejected counters: 2^-40
_CURVE: Final = SECP256K1_TAI.curve


@dataclass(frozen=True, slots=True)
class OnChainProof:
    """The Vyper struct `ecvrf.Proof`, field by field, in order, and the roots beside it.

    u is -U; the line through -sH and cGamma stands in place of their y; c is computed on chain.
    """

    gamma_x: int
    gamma_prefix: int
    s: int
    slope: int
    offset: int
    u_x: int
    u_y: int
    sh_x: int
    cg_x: int
    roots: tuple[int, ...]

    def as_arguments(self) -> tuple[tuple[int, ...], list[int]]:
        """Struct and roots: the last two arguments of `verify` and of `TaskMarket.claim`."""
        words = (getattr(self, field.name) for field in fields(self) if field.name != "roots")
        return tuple(words), list(self.roots)


def prove(secret: bytes, alpha: bytes) -> OnChainProof:
    """Proof of a 32-byte secp256k1 secret over `alpha` (27 bytes), with its witnesses.

    Raises:
        EcvrfError: invalid secret, or (2^-40) a proof that the contract cannot take.
    """
    public = ecvrf.public_key(SECP256K1_TAI, secret)
    return build(public, alpha, ecvrf.prove(SECP256K1_TAI, secret, alpha))


def build(public: bytes, alpha: bytes, proof: bytes) -> OnChainProof:
    """Witnesses of an 81-byte proof. Does not verify it: the contract does.

    Args:
        public: compressed VRF key, 33 bytes.
        alpha: the VRF input, 27 bytes.
        proof: pi_string of `ecvrf.prove`.

    Raises:
        EcvrfError: malformed key, alpha or proof, or (2^-40) one that the contract cannot take.
    """
    if len(alpha) != ALPHA_BYTES:
        raise EcvrfError(f"ecvrf: alpha needs {ALPHA_BYTES} bytes; use sortition.task_alpha")
    key, parsed = ecvrf.decode_key(SECP256K1_TAI, public), ecvrf.decode_proof(SECP256K1_TAI, proof)
    encoded = ecvrf.encode_to_curve(SECP256K1_TAI, public, alpha)
    h, gamma = encoded.point, parsed.gamma
    if max(key[0], h[0], gamma[0]) >= _CURVE.n or len(encoded.rejected) > MAX_ROOTS:
        raise EcvrfError("ecvrf: proof has no on-chain form; leave this task to others")
    u = _finite(_CURVE.combine((parsed.s, _CURVE.generator), (-parsed.c, key)))
    sh = _finite(_CURVE.combine((parsed.s, h)))
    cg = _finite(_CURVE.combine((parsed.c, gamma)))
    slope = _slope(sh, cg)
    return OnChainProof(
        gamma_x=gamma[0],
        gamma_prefix=2 | gamma[1] & 1,
        s=parsed.s,
        slope=slope,
        offset=(cg[1] - slope * cg[0]) % _CURVE.p,
        u_x=u[0],
        u_y=_CURVE.p - u[1],
        sh_x=sh[0],
        cg_x=cg[0],
        roots=tuple(non_residue_root(x) for x in encoded.rejected),
    )


def non_residue_root(x: int) -> int:
    """The word that proves x to be no x coordinate: w with w² = -(x³ + 7), or 0 for x >= p.

    p ≡ 3 (mod 4) makes -1 a non-residue, so w exists exactly when x³ + 7 has no root.

    Raises:
        EcvrfError: x is the coordinate of a point, so there is nothing to prove.
    """
    if x >= _CURVE.p:
        return 0
    root = _CURVE.square_root(-_CURVE.right_side(x))
    if root is None:
        raise EcvrfError("ecvrf: counter was valid; use the first valid counter")
    return root


def _slope(sh: Point, cg: Point) -> int:
    """Slope of the line through -sH and cGamma; V is its third point."""
    if sh[0] == cg[0]:
        raise EcvrfError("ecvrf: proof has no on-chain form; leave this task to others")
    return (sh[1] + cg[1]) * pow(cg[0] - sh[0], -1, _CURVE.p) % _CURVE.p


def _finite(point: Point | None) -> Point:
    if point is None:
        raise EcvrfError("ecvrf: proof has no on-chain form; leave this task to others")
    return point
