# pragma version 0.4.3
"""
@title P-256 signatures of hardware roots
@license AGPL-3.0-only
@notice Verifies ECDSA on NIST P-256 with the P256VERIFY precompile at 0x100 (EIP-7951, 6,900
        gas), or in software (snekmate, about 375,000 to 550,000 gas) on a chain without it.
@dev    Zymkeys, TPMs and software roots sign with this curve; the EVM's ecrecover does not know
        it.

        The file is not called `p256`: a Standard JSON input may hold no two files of one name, and
        snekmate's is called that.

        WHAT IS REFUSED BEFORE EITHER PATH, so that both agree
        - s above N/2. For each signature (r, s), (r, N - s) verifies as well; only one of them
          may count, and roots hand out the low one.
        - r = 0 or s = 0, and r >= N (the upper bound of s is covered by the line above).
        - A key that is no affine point of the curve: coordinates not below P, (0, 0) which
          stands for infinity, or off the curve. P-256 has prime order, so a point on the curve
          has full order.

        WHY THE LENGTH OF THE ANSWER IS TESTED. A call to an address without code SUCCEEDS with
        empty output, so success says nothing. The precompile answers 32 bytes (the number 1) for a
        valid signature and nothing at all for an invalid one. Thus an empty answer is "invalid or
        no precompile" and the software decides; it never turns into "valid". A caller with an
        invalid signature pays for that himself, and what he calls reverts.
"""
from snekmate.utils import p256 as software

# EIP-7951 (before it RIP-7212, same address and same input).
P256VERIFY: constant(address) = 0x0000000000000000000000000000000000000100

# NIST P-256 (FIPS 186-5, SP 800-186): prime, coefficient b, order, half of the order.
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


@internal
@pure
def is_key(x: uint256, y: uint256) -> bool:
    """
    @notice Whether (x, y) is an affine point of P-256, hence a public key.
    @dev Also for registration: a key that is no point could never sign, and would only be found
         out later.
    @param x The key's x.
    @param y The key's y.
    @return True for a point of the curve; false for infinity and coordinates not below P.
    """
    # (0, 0) fails by itself: b is not 0. y^2 = x^3 - 3x + b = x * (x^2 - 3) + b
    return x < P and y < P and uint256_mulmod(y, y, P) == uint256_addmod(
        uint256_mulmod(x, uint256_addmod(uint256_mulmod(x, x, P), P - 3, P), P), B, P
    )


@internal
@view
def verify(digest: bytes32, r: uint256, s: uint256, x: uint256, y: uint256) -> bool:
    """
    @notice Whether (r, s) is a valid, low-s signature of `digest` by the key (x, y).
    @param digest The 32-byte digest that was signed.
    @param r The signature's r.
    @param s The signature's s, at most N // 2.
    @param x The key's x.
    @param y The key's y.
    @return True only for a valid signature; false otherwise, never a revert.
    """
    if r == 0 or r >= N or s == 0 or s > HALF_N or not self.is_key(x, y):
        return False
    answered: bool = False
    answer: Bytes[32] = b""
    answered, answer = raw_call(
        P256VERIFY,
        abi_encode(digest, r, s, x, y),
        max_outsize=32,
        is_static_call=True,
        revert_on_failure=False,
    )
    if answered and len(answer) == 32:
        return convert(answer, uint256) == 1
    return software._verify_sig(digest, r, s, x, y)
