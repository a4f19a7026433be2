# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title How a contract uses the `ecvrf` module
@license Apache-2.0
@notice Only for tests and as an example; never deployed by the project.
"""
from ..modules import ecvrf


@external
@pure
def verify(
    public_x: uint256,
    public_prefix: uint256,
    alpha: bytes32,
    proof: ecvrf.Proof,
    roots: DynArray[uint256, 40],
) -> bytes32:
    """
    @notice Verifies an ECVRF proof.
    @param public_x x of the compressed key.
    @param public_prefix 2 or 3.
    @param alpha The VRF input.
    @param proof The proof with its witnesses.
    @param roots A witness for each rejected counter.
    @return The VRF output beta.
    """
    return ecvrf.verify(public_x, public_prefix, alpha, proof, roots)
