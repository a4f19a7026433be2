# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title How a contract uses the `class_grid` module
@license Apache-2.0
@notice Only for tests and as an example; never deployed by the project.
"""
from ..modules import class_grid

initializes: class_grid

places: HashMap[address, uint256]


@external
def add(node: address, tier: uint256):
    """
    @notice Puts a node into the draw.
    @param node The node.
    @param tier Its tier.
    """
    assert self.places[node] == 0, "mock: node already in the draw"
    self.places[node] = class_grid.add(node, tier)


@external
def remove(node: address):
    """
    @notice Takes a node out of the draw.
    @param node The node.
    """
    place: uint256 = self.places[node]
    moved: address = class_grid.remove(place)
    self.places[node] = 0
    if moved != empty(address):
        self.places[moved] = place


@external
@view
def draw(seed: bytes32, k: uint256, exclude: address) -> DynArray[address, 11]:
    """
    @notice Draws k distinct nodes.
    @param seed The randomness.
    @param k How many.
    @param exclude Who must not be drawn.
    @return The nodes.
    """
    return class_grid.draw(seed, k, exclude)


@external
@view
def draws(seed: bytes32, k: uint256, exclude: address, times: uint256) -> DynArray[address, 5500]:
    """
    @notice Draws many times, for statistics.
    @param seed The randomness of the first draw.
    @param k How many each time.
    @param exclude Who must not be drawn.
    @param times How often, at most 500.
    @return All nodes, k for each draw.
    """
    nodes: DynArray[address, 5500] = []
    digest: bytes32 = seed
    for _: uint256 in range(times, bound=500):
        digest = sha256(digest)
        drawn: DynArray[address, 11] = class_grid.draw(digest, k, exclude)
        for node: address in drawn:
            nodes.append(node)
    return nodes


@external
@view
def total_weight() -> uint256:
    """
    @notice Weight of all nodes.
    @return The sum of 2^tier.
    """
    return class_grid.total_weight()


@external
@view
def count() -> uint256:
    """
    @notice Number of nodes.
    @return How many can be drawn.
    """
    return class_grid.count()


@external
@view
def standing(node: address) -> (bool, uint256):
    """
    @notice Whether a node is in the draw, and its tier.
    @param node The node.
    @return Both.
    """
    place: uint256 = self.places[node]
    if place == 0:
        return False, 0
    return True, class_grid.tier_of(place)
