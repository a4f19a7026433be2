# pragma version 0.4.3
"""
@title The class grid: an exact weighted draw of distinct nodes
@license Apache-2.0
@notice Keeps who can be drawn, in ten tiers of weight 2^c, and draws k distinct nodes.
@dev    LAYOUT
        lanes   ten lanes of 25 bits; lane c holds n_c * 2^c, n_c nodes standing in tier c.
                Multiplying by ONES adds up all lower lanes at once: lane c of the product is the
                weight of the tiers 0..c, lane 9 the total.
        seats   seats[c * 16384 + position]: the node there. One slot a seat, so that a draw reads
                one cold slot a member. Those from n_c on keep whom they held last, which nobody
                reads: the next node of the tier pays 5,000 for its seat instead of 22,100.
        A PLACE is where a node stands: tier * 16384 + position + 1, or 0. The importing contract
        keeps it, in a slot that it has for each node anyway: a map here would cost a slot more in
        every change.

        WHY THE DRAW IS EXACT. A pick is uniform over the weight that is left: first the tier, by
        the lanes in memory, from which each picked node's 2^c has been taken; then the position,
        uniform among the n_c of that tier, drawn again while it hits a node already taken. All
        nodes of a tier weigh the same, so rejection inside the tier keeps the proportions, and
        a single node with nearly all the weight cannot make it slow: only the nodes already taken
        can be hit again, at most 11 of at least 12. The excluded node is picked like any other
        and gets no seat: what is left of a successive sampling without one of its nodes is the
        successive sampling of the others. So it need not be looked up, a cold slot that is paid
        only when it is met. The bias of `%` is below 2^-100.

        INVARIANTS. Each (tier, position < n_c) holds exactly one node. The total stays below 2^24,
        so that no lane overflows. The importing contract's duty: a node's place is what `add` or
        `remove` said last, a node that has one is not added again, and between the moment when a
        seed can be known and its draw nothing moves.
"""

TIERS: constant(uint256) = 10
# Nodes in one tier: 14 bits of position.
TIER_SIZE: constant(uint256) = 16384
# Keeps bit 24 of each lane free, which the comparison in `draw` borrows from.
MAX_TOTAL: constant(uint256) = 2**24 - 1
# The largest committee (11); with the excluded node 12 codes of 21 bits fit one word.
MAX_PICKS: constant(uint256) = 11
# Redraws inside a tier before walking on. At most 11 of 12 places are taken, so the walk is met
# with a chance below (11/12)^256 < 2^-32; it is there so that a draw always ends.
REDRAWS: constant(uint256) = 256

LANE: constant(uint256) = 2**25 - 1
ONES: constant(uint256) = (2**250 - 1) // (2**25 - 1)
HIGHS: constant(uint256) = (2**250 - 1) // (2**25 - 1) * 2**24
CODE_ONES: constant(uint256) = (2**252 - 1) // (2**21 - 1)
CODE_HIGHS: constant(uint256) = (2**252 - 1) // (2**21 - 1) * 2**20
# Twelve codes that no seat has.
NONE_TAKEN: constant(uint256) = 2**252 - 1

lanes: uint256
seats: address[163840]


@internal
@view
def total_weight() -> uint256:
    """
    @notice The weight of all nodes in the draw.
    @return The sum of 2^tier.
    """
    return (unsafe_mul(self.lanes, ONES) >> 225) & LANE


@internal
@view
def count() -> uint256:
    """
    @notice How many nodes can be drawn.
    @return The number of nodes over all classes.
    """
    lanes: uint256 = self.lanes
    nodes: uint256 = 0
    for tier: uint256 in range(TIERS):
        nodes += ((lanes >> (25 * tier)) & LANE) >> tier
    return nodes


@internal
@view
def tiers() -> uint256[TIERS]:
    """
    @notice How many nodes stand in each tier.
    @return By tier; a node of tier c weighs 2^c.
    """
    sizes: uint256[TIERS] = empty(uint256[TIERS])
    lanes: uint256 = self.lanes
    for tier: uint256 in range(TIERS):
        sizes[tier] = ((lanes >> (25 * tier)) & LANE) >> tier
    return sizes


@internal
@pure
def tier_of(place: uint256) -> uint256:
    """
    @notice The tier in which a place is.
    @param place A place, not 0.
    @return The tier.
    """
    return (place - 1) // TIER_SIZE


@internal
@view
def has_room(tier: uint256) -> bool:
    """
    @notice Whether `add` to a tier would find a free seat.
    @param tier The tier, below 10.
    @return False if all its seats are taken.
    """
    return ((self.lanes >> (25 * tier)) & LANE) >> tier < TIER_SIZE


@internal
def add(node: address, tier: uint256) -> uint256:
    """
    @notice Puts a node into the draw.
    @param node A node that is not in the draw.
    @param tier Its tier; it weighs 2^tier.
    @return Its place.
    """
    lanes: uint256 = self.lanes
    position: uint256 = ((lanes >> (25 * tier)) & LANE) >> tier
    assert tier < TIERS and position < TIER_SIZE, "grid: tier is full"
    assert self.total_weight() + (1 << tier) <= MAX_TOTAL, "grid: draw is full"
    self.lanes = lanes + (1 << (26 * tier))
    self.seats[tier * TIER_SIZE + position] = node
    return tier * TIER_SIZE + position + 1


@internal
def remove(place: uint256) -> address:
    """
    @notice Takes the node at a place out of the draw; the last node of its tier moves there.
    @param place The node's place.
    @return The node that stands there now, or zero: it was the last one.
    """
    assert place != 0, "grid: nobody at this place"
    tier: uint256 = self.tier_of(place)
    lanes: uint256 = self.lanes
    last: uint256 = tier * TIER_SIZE + (((lanes >> (25 * tier)) & LANE) >> tier)
    self.lanes = lanes - (1 << (26 * tier))
    if place == last:
        return empty(address)
    moved: address = self.seats[last - 1]
    self.seats[place - 1] = moved
    return moved


@internal
@view
def draw(seed: bytes32, k: uint256, exclude: address) -> DynArray[address, MAX_PICKS]:
    """
    @notice Draws k distinct nodes by weight, without replacement.
    @param seed Uniform and unknown while the structure could still change.
    @param k How many, at most 11.
    @param exclude A node that must not be drawn.
    @return The nodes in the order of their seats.
    """
    all: uint256 = self.lanes
    left: uint256 = all
    total: uint256 = (unsafe_mul(all, ONES) >> 225) & LANE
    # Codes (place - 1) of the nodes that cannot be picked any more, 21 bits each.
    taken: uint256 = NONE_TAKEN
    nodes: DynArray[address, MAX_PICKS] = []
    digest: bytes32 = seed
    # One pick more than seats: the excluded node can be met once.
    for _: uint256 in range(MAX_PICKS + 1):
        if len(nodes) == k:
            break
        assert total != 0, "grid: too few nodes"
        digest = keccak256(digest)
        # Bit 24 of lane c says that the pick lies at or beyond the tiers 0..c: their number, which
        # the product has in bit 249 and above, is the tier.
        beyond: uint256 = (
            unsafe_sub(
                unsafe_mul(convert(digest, uint256) % total, ONES) | HIGHS, unsafe_mul(left, ONES)
            )
            & HIGHS
        )
        tier: uint256 = unsafe_mul(beyond, ONES) >> 249
        size: uint256 = ((all >> unsafe_mul(25, tier)) & LANE) >> tier
        code: uint256 = (tier << 14) | ((convert(digest, uint256) >> 128) % size)
        # A lane of zero marks an equal code; a borrow can only add marks above a true one.
        match: uint256 = taken ^ unsafe_mul(code, CODE_ONES)
        if unsafe_sub(match, CODE_ONES) & ~match & CODE_HIGHS != 0:
            digest, code = self._redraw(digest, taken, tier, size, code)
        taken = (taken << 21) | code
        left = unsafe_sub(left, 1 << unsafe_mul(26, tier))
        total = unsafe_sub(total, 1 << tier)
        picked: address = self.seats[code]
        if picked != exclude:
            nodes.append(picked)
    return nodes


@internal
@pure
def _redraw(
    digest: bytes32, taken: uint256, tier: uint256, size: uint256, hit: uint256
) -> (bytes32, uint256):
    """
    @dev Another position in the tier of `hit`, a taken code: its code, which is not taken, and the
         last hash of the chain.
    """
    last: bytes32 = digest
    code: uint256 = hit
    for attempt: uint256 in range(REDRAWS + MAX_PICKS + 1):
        if attempt < REDRAWS:
            last = keccak256(last)
            code = (tier << 14) | ((convert(last, uint256) >> 128) % size)
        else:
            position: uint256 = code & (TIER_SIZE - 1)
            code = (tier << 14) | (unsafe_add(position, 1) % size)
        match: uint256 = taken ^ unsafe_mul(code, CODE_ONES)
        if unsafe_sub(match, CODE_ONES) & ~match & CODE_HIGHS == 0:
            break
    return last, code
