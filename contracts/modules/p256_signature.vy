# pragma version 0.4.3
"""
@title P-256 signatures of hardware roots
@license Apache-2.0
@notice Verifies ECDSA on NIST P-256 with the P256VERIFY precompile at 0x100 (EIP-7951, 6,900
        gas), or by the contract `P256Verifier` (375,000 to 550,000 gas) on a chain without it.
@dev    Zymkeys, TPMs and software roots sign with this curve; the EVM's ecrecover does not know
        it.

        WHAT IS REFUSED, on either path
        - s above N/2, here. For each signature (r, s), (r, N - s) verifies as well; only one of
          them may count, and roots hand out the low one.
        - r = 0 or s = 0, and r >= N; a key that is no affine point of the curve: coordinates not
          below P, (0, 0) which stands for infinity, or off the curve. EIP-7951 makes the
          precompile refuse all of these, `P256Verifier` does the same, and the tests hold both
          to one list. To refuse them a third time here cost 600 gas a record.

        WHY THE LENGTH OF THE ANSWER IS TESTED. A call to an address without code SUCCEEDS with
        empty output, so success says nothing. The precompile answers 32 bytes (the number 1) for a
        valid signature and nothing at all for an invalid one. Thus an empty answer is "invalid or
        no precompile" and the software decides; it never turns into "valid". A caller with an
        invalid signature pays for that himself, and what he calls reverts.
"""
from ..interfaces import IP256Verifier

# EIP-7951 (before it RIP-7212, same address and same input).
P256VERIFY: constant(address) = 0x0000000000000000000000000000000000000100
# Half the order of P-256 (FIPS 186-5, SP 800-186).
HALF_N: constant(uint256) = (
    115792089210356248762697446949407573529996955224135760342422259061068512044369 // 2
)

# The `P256Verifier`.
VERIFIER: immutable(address)


@deploy
def __init__(verifier_: address):
    assert verifier_.is_contract, "p256: verifier is not a contract"
    VERIFIER = verifier_


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
    if s > HALF_N:
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
    return staticcall IP256Verifier(VERIFIER).verify(digest, r, s, x, y)
