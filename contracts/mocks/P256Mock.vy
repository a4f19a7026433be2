# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title How a contract uses the `p256_signature` module
@license AGPL-3.0-only
@notice Only for tests and as an example; never deployed by the project.
"""
from ..modules import p256_signature as p256


@external
@view
def verify(digest: bytes32, r: uint256, s: uint256, x: uint256, y: uint256) -> bool:
    """
    @notice Whether (r, s) signs `digest` under the key (x, y).
    @param digest The signed digest.
    @param r The signature's r.
    @param s The signature's s.
    @param x The key's x.
    @param y The key's y.
    @return True for a valid, low-s signature.
    """
    return p256.verify(digest, r, s, x, y)


@external
@pure
def is_key(x: uint256, y: uint256) -> bool:
    """
    @notice Whether (x, y) is a P-256 public key.
    @param x The key's x.
    @param y The key's y.
    @return True for a point of the curve.
    """
    return p256.is_key(x, y)
