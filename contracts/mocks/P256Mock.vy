# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title How a contract uses the `p256_signature` module
@license Apache-2.0
@notice Only for tests and as an example; never deployed by the project.
"""
from ..modules import p256_signature as p256

initializes: p256


@deploy
def __init__(verifier: address):
    """
    @notice Fixes the software for chains without the precompile.
    @param verifier The `P256Verifier`.
    """
    p256.__init__(verifier)


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
