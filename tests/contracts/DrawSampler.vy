# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Many draws of a deployed registry in one call
@license Apache-2.0
@notice Only for statistics in tests; never deployed by the project.
"""


interface Registry:
    def draw(seed: bytes32, k: uint256, exclude: address) -> DynArray[address, 11]: view


@external
@view
def sample(
    registry: Registry, seed: bytes32, k: uint256, exclude: address, times: uint256
) -> DynArray[address, 5500]:
    """
    @notice Draws many times.
    @param registry Whose draw.
    @param seed Of the first draw; each next one is its hash.
    @param k Seats.
    @param exclude Who must not be drawn.
    @param times How often, at most 500.
    @return All members, k for each draw.
    """
    nodes: DynArray[address, 5500] = []
    digest: bytes32 = seed
    for _: uint256 in range(times, bound=500):
        digest = sha256(digest)
        drawn: DynArray[address, 11] = staticcall registry.draw(digest, k, exclude)
        for node: address in drawn:
            nodes.append(node)
    return nodes
