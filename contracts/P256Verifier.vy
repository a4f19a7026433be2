# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title P-256 in software
@license AGPL-3.0-only
@notice Verifies ECDSA on NIST P-256 where the precompile 0x100 (EIP-7951) is absent: snekmate's
        arithmetic, 375,000 to 550,000 gas.
@dev    A contract of its own, so that the others do not carry code that most chains never run.
        It keeps nothing and nobody has any power over it. It answers as the precompile does:
        what is refused is a malformed signature (r or s zero, r not below N) and a key that is no
        affine point of the curve. P-256 has prime order, so a point on the curve has full order.
        It also refuses an s above N/2, which the precompile takes and its callers do not.
"""
from .interfaces import IP256Verifier
from snekmate.utils import p256 as software

implements: IP256Verifier

# NIST P-256 (FIPS 186-5, SP 800-186): prime, coefficient b, order.
P: constant(uint256) = (
    115792089210356248762697446949407573530086143415290314195533631308867097853951
)
B: constant(uint256) = (
    41058363725152142129326129780047268409114441015993725554835256314039467401291
)
N: constant(uint256) = (
    115792089210356248762697446949407573529996955224135760342422259061068512044369
)
HALF_N: constant(uint256) = N // 2


@external
@view
def verify(digest: bytes32, r: uint256, s: uint256, x: uint256, y: uint256) -> bool:
    """
    @notice Whether (r, s) is a signature of `digest` by the key (x, y).
    @param digest The 32-byte digest that was signed.
    @param r The signature's r.
    @param s The signature's s.
    @param x The key's x.
    @param y The key's y.
    @return True only for a valid signature; false otherwise, never a revert.
    """
    if r == 0 or r >= N or s == 0 or s > HALF_N or not self._is_key(x, y):
        return False
    return software._verify_sig(digest, r, s, x, y)


@internal
@pure
def _is_key(x: uint256, y: uint256) -> bool:
    """
    @dev An affine point of the curve. (0, 0), which stands for infinity, fails by itself: b is
         not 0. y^2 = x^3 - 3x + b = x * (x^2 - 3) + b
    """
    return x < P and y < P and uint256_mulmod(y, y, P) == uint256_addmod(
        uint256_mulmod(x, uint256_addmod(uint256_mulmod(x, x, P), P - 3, P), P), B, P
    )
