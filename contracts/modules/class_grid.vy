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
        places  where a node stands: tier * 16384 + position + 1, or 0.

        WHY THE DRAW IS EXACT. A pick is uniform over the weight that is left: first the tier, by
        the lanes in memory, from which each picked node's 2^c has been taken; then the position,
        uniform among the n_c of that tier, drawn again while it hits a node already taken. All
        nodes of a tier weigh the same, so rejection inside the tier keeps the proportions, and
        a single node with nearly all the weight cannot make it slow: only the nodes already taken
        can be hit again, at most 11 of at least 12. The excluded node is picked like any other
        and gets no seat: what is left of a successive sampling without one of its nodes is the
        successive sampling of the others. So it need not be looked up, a cold slot that is paid
        only when it is met. The bias of `%` is below 2^-100.

        INVARIANTS. Each (tier, position < n_c) holds exactly one node, whose place points back.
        The total stays below 2^24, so that no lane overflows. Between the moment when a seed can
        be known and its draw nothing may move: the importing contract's duty.
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

lanes: uint256
seats: address[163840]
places: HashMap[address, uint256]


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
@view
def standing(node: address) -> (bool, uint256):
    """
    @notice Whether and in which tier a node can be drawn.
    @param node The node.
    @return Whether it is in the draw, and its tier (0 if it is not).
    """
    place: uint256 = self.places[node]
    if place == 0:
        return False, 0
    return True, (place - 1) // TIER_SIZE


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
def add(node: address, tier: uint256):
    """
    @notice Puts a node into the draw.
    @param node A node that is not in the draw.
    @param tier Its tier; it weighs 2^tier.
    """
    assert self.places[node] == 0, "grid: node already in the draw"
    lanes: uint256 = self.lanes
    position: uint256 = ((lanes >> (25 * tier)) & LANE) >> tier
    assert tier < TIERS and position < TIER_SIZE, "grid: tier is full"
    assert self.total_weight() + (1 << tier) <= MAX_TOTAL, "grid: draw is full"
    self.lanes = lanes + (1 << (26 * tier))
    self.seats[tier * TIER_SIZE + position] = node
    self.places[node] = tier * TIER_SIZE + position + 1


@internal
def remove(node: address):
    """
    @notice Takes a node out of the draw; the last node of its tier moves to its position.
    @param node A node in the draw.
    """
    place: uint256 = self.places[node]
    assert place != 0, "grid: node not in the draw"
    tier: uint256 = (place - 1) // TIER_SIZE
    lanes: uint256 = self.lanes
    last: uint256 = tier * TIER_SIZE + (((lanes >> (25 * tier)) & LANE) >> tier)
    if last != place:
        moved: address = self.seats[last - 1]
        self.seats[place - 1] = moved
        self.places[moved] = place
    self.places[node] = 0
    self.lanes = lanes - (1 << (26 * tier))


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
    # Codes (place) of the nodes that cannot be picked any more, 21 bits each.
    taken: uint256 = 0
    nodes: DynArray[address, MAX_PICKS] = []
    missing: uint256 = k
    digest: bytes32 = seed
    # One pick more than seats: the excluded node can be met once.
    for _: uint256 in range(MAX_PICKS + 1):
        if missing == 0:
            break
        assert total != 0, "grid: too few nodes"
        digest = keccak256(digest)
        # Bit 24 of lane c says that the pick lies at or beyond the tiers 0..c: their number is
        # the tier.
        beyond: uint256 = (
            unsafe_sub(
                unsafe_mul(convert(digest, uint256) % total, ONES) | HIGHS, unsafe_mul(left, ONES)
            )
            & HIGHS
        ) >> 24
        tier: uint256 = (unsafe_mul(beyond, ONES) >> 225) & LANE
        size: uint256 = ((all >> unsafe_mul(25, tier)) & LANE) >> tier
        code: uint256 = unsafe_add(
            (tier << 14) | ((convert(digest, uint256) >> 128) % size), 1
        )
        # A lane of zero marks an equal code; a borrow can only add marks above a true one.
        match: uint256 = taken ^ unsafe_mul(code, CODE_ONES)
        if unsafe_sub(match, CODE_ONES) & ~match & CODE_HIGHS != 0:
            digest, code = self._redraw(digest, taken, tier, size, code)
        taken = (taken << 21) | code
        left = unsafe_sub(left, 1 << unsafe_mul(26, tier))
        total = unsafe_sub(total, 1 << tier)
        picked: address = self.seats[unsafe_sub(code, 1)]
        if picked != exclude:
            nodes.append(picked)
            missing = unsafe_sub(missing, 1)
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
            code = unsafe_add((tier << 14) | ((convert(last, uint256) >> 128) % size), 1)
        else:
            position: uint256 = unsafe_sub(code, 1) & (TIER_SIZE - 1)
            code = unsafe_add((tier << 14) | (unsafe_add(position, 1) % size), 1)
        match: uint256 = taken ^ unsafe_mul(code, CODE_ONES)
        if unsafe_sub(match, CODE_ONES) & ~match & CODE_HIGHS == 0:
            break
    return last, code
