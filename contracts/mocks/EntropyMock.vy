# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title How a contract uses the `entropy` module
@license Apache-2.0
@notice Only for tests and as an example; never deployed by the project.
"""
from ..modules import entropy


@external
@view
def prevrandao_of(number: uint256, block_header: Bytes[1024]) -> bytes32:
    """
    @notice The prevrandao of block `number`.
    @param number A recent block, before this one.
    @param block_header Its RLP-encoded header.
    @return The block's prevrandao.
    """
    return entropy.prevrandao_of(number, block_header)
