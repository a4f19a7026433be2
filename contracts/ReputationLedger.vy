# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Reputation and fee credit of nodes
@license Apache-2.0
@notice What a node has earned: a decayed beta score (`reputation(node)`, basis points), with one
        event for each change and its cause, and the fees that it can withdraw from the market.
@dev    ONE SLOT A NODE, because all of it changes together at each settlement: good 32, bad 32
        bits of evidence (units of 1/65536), updated_at 40, two baselines of 16 each, engaged 8,
        credit 112, from the lowest bit on. Registration opens it, so that no task pays for that.
        Engaged means: leads a race or runs a task; nobody does two at once.

        A GAIN COUNTS ONLY FOR TASKS POSTED AFTER IT, a loss at once. Otherwise a node could wait
        with settling one task until it sees its ticket for another. `factor_at(node, b)` must not
        exceed the reputation at block b, which is no longer stored when something has changed
        since. So each slot keeps the lowest reputation of the current and of the previous span of
        `window` blocks (a claim looks back less than one window): a bound that is never too high,
        and catches up with the real value two windows later at most.

        WHO IS SILENT. A settlement counts every member whose vote the executor did not bring as
        silent, which costs a little: a chain cannot tell a member that slept from one that
        dissented, was left out, or was told nothing. Each of these can show a vote of its own within
        `window` blocks and has the loss taken back (`AttestationLedger.excuse`); for that the
        settlement leaves one slot behind, only if somebody was silent.

        The credit is a number; the wei stand in the market, which pays out what `collect` says.
"""
from .interfaces import IReputationLedger
from .modules import beta_score

implements: IReputationLedger

TASK_SETTLED: constant(uint8) = 1
VOTED: constant(uint8) = 2
SILENT: constant(uint8) = 3
NO_DRAW: constant(uint8) = 9
EXCUSED: constant(uint8) = 10
# Weight of the causes 0..9 in sixteenths of a settled task, 16 bits each, cause 0 lowest. For the
# node: TASK_SETTLED 16, VOTED 4. Against it: SILENT 4, NO_ACCEPT 8, NO_ADMIT 16, REFUSED 64,
# NOT_FINISHED 128, EQUIVOCATION 1024, NO_DRAW 4;
# taken back from it: EXCUSED 4.
WEIGHTS: constant(uint256) = (
    16 * 2**16
    + 4 * 2**32
    + 4 * 2**48
    + 8 * 2**64
    + 16 * 2**80
    + 64 * 2**96
    + 128 * 2**112
    + 1024 * 2**128
    + 4 * 2**144
    + 4 * 2**160
)
# The factor of a ticket runs from 0.5 to 1.5: enough to be worth earning, too little to shut out
# newcomers or to make a few old nodes always win.
FACTOR_FLOOR: constant(uint256) = 5000
ENGAGED_AT: constant(uint256) = 136
ENGAGED: constant(uint256) = 2**136
CREDIT_AT: constant(uint256) = 144
EVIDENCE_MAX: constant(uint256) = 2**32 - 1

# Blocks in which evidence halves.
HALF_LIFE: immutable(uint256)
# Blocks that `factor_at` can look back for certain.
WINDOW: immutable(uint256)

# The `NodeRegistry`.
REGISTRY: immutable(address)
# The `AttestationLedger`.
ATTESTATION: immutable(address)
# The `TaskMarket`.
MARKET: immutable(address)

slots: HashMap[address, uint256]
# By task: seats that were silent 16, block of the settlement 40, hash of the committee 200 bits.
absences: HashMap[uint256, uint256]


@deploy
def __init__(
    half_life_: uint256,
    window_: uint256,
    registry_: address,
    attestation_: address,
    market_: address,
):
    """
    @notice Fixes parameters and neighbours for good; the market checks that all fit.
    @param half_life_ Blocks in which evidence halves.
    @param window_ Blocks between a posting and its last claim, at least.
    @param registry_ The `NodeRegistry`.
    @param attestation_ Where the `AttestationLedger` will be.
    @param market_ Where the `TaskMarket` will be.
    """
    assert half_life_ != 0 and half_life_ < 2**40, "reputation: half-life out of range"
    assert window_ != 0 and window_ < 2**40, "reputation: window out of range"
    HALF_LIFE = half_life_
    WINDOW = window_
    REGISTRY = registry_
    ATTESTATION = attestation_
    MARKET = market_


@external
def open(node: address):
    """
    @notice Registry only: opens the slot of a new node. One that has been here keeps its history.
    @param node The node.
    """
    assert msg.sender == REGISTRY, "reputation: only the registry"
    if self.slots[node] == 0:
        low: uint256 = beta_score.mean(0, 0)
        self.slots[node] = (block.number << 64) | (low << 104) | (low << 120)


@external
def engage(node: address, posted_at: uint256) -> uint256:
    """
    @notice Market only: binds a node to the task that it leads.
    @param node The node; reverts if it is bound already.
    @param posted_at Block of the posting.
    @return The factor of its ticket, as `factor_at`.
    """
    assert msg.sender == MARKET, "reputation: only the market"
    slot: uint256 = self.slots[node]
    assert slot & ENGAGED == 0, "reputation: node is engaged"
    self.slots[node] = slot | ENGAGED
    return self._factor_at(slot, posted_at)


@external
def release(node: address):
    """
    @notice Market only: ends an engagement without a settlement.
    @param node The node that leads or runs its task no more.
    """
    assert msg.sender == MARKET, "reputation: only the market"
    self.slots[node] = self.slots[node] & ~ENGAGED


@external
def settle(
    task: uint256,
    executor: address,
    executor_fee: uint256,
    members: DynArray[address, 11],
    voted: uint256,
    member_fee: uint256,
):
    """
    @notice Market only: credits the fees of a settled task and the reputation earned with it,
            and ends the executor's engagement.
    @param task The task's id.
    @param executor Its executor.
    @param executor_fee Wei for the executor.
    @param members Its committee by seat.
    @param voted Bitmap of the seats that voted; the others lose a little reputation, see `excuse`.
    @param member_fee Wei for each member that voted.
    """
    assert msg.sender == MARKET, "reputation: only the market"
    self._change(task, executor, TASK_SETTLED, executor_fee)
    silent: uint256 = 0
    bit: uint256 = 1
    for member: address in members:
        if voted & bit != 0:
            self._change(task, member, VOTED, member_fee)
        else:
            self._change(task, member, SILENT, 0)
            silent |= bit
        bit = bit << 1
    if silent != 0:
        self.absences[task] = self._absence(members, block.number) | silent


@external
def excuse(task: uint256, members: DynArray[address, 11], seat: uint256):
    """
    @notice Attestation ledger only: takes back what a settlement counted as a member's silence.
            Once for each seat, within `window` blocks.
    @param task The task's id.
    @param members Its committee by seat.
    @param seat The member's seat, below their number.
    """
    assert msg.sender == ATTESTATION, "reputation: only the attestation ledger"
    slot: uint256 = self.absences[task]
    at: uint256 = (slot >> 16) & (2**40 - 1)
    assert slot & 65535 & (1 << seat) != 0, "reputation: seat was not silent"
    assert slot >> 16 == self._absence(members, at) >> 16, "reputation: not the committee"
    assert block.number <= at + WINDOW, "reputation: too late to excuse"
    self.absences[task] = slot ^ (1 << seat)
    self._change(task, members[seat], EXCUSED, block.number - at)


@external
def penalise(task: uint256, node: address, cause: uint8):
    """
    @notice Market and attestation ledger only: counts a fault.
    @param task The task's id.
    @param node The node at fault.
    @param cause 3 SILENT .. 9 NO_DRAW.
    """
    assert (
        msg.sender == MARKET or msg.sender == ATTESTATION
    ), "reputation: only market and ledger"
    assert cause >= SILENT and cause <= NO_DRAW, "reputation: not a fault"
    self._change(task, node, cause, 0)


@external
def collect(node: address) -> uint256:
    """
    @notice Market only: takes a node's whole credit, which the market then pays.
    @param node The node.
    @return Wei.
    """
    assert msg.sender == MARKET, "reputation: only the market"
    slot: uint256 = self.slots[node]
    if slot >> CREDIT_AT != 0:
        self.slots[node] = slot & (2**CREDIT_AT - 1)
    return slot >> CREDIT_AT


@external
@view
def reputation(node: address) -> uint256:
    """
    @notice The reputation of a node at this block.
    @param node The node; one without history has the newcomer's.
    @return Basis points, 0..10,000.
    """
    return self._mean_at(self.slots[node], block.number)


@external
@view
def factor_at(node: address, number: uint256) -> uint256:
    """
    @notice The factor of a ticket: reputation at a past block or now, whichever is lower.
    @dev Exact if nothing has changed since that block; else a bound that is never too high, and
         the floor for blocks that lie too far back.
    @param node The node.
    @param number Block of the posting, not in the future.
    @return 5,000 plus the reputation: 5,000..15,000.
    """
    return self._factor_at(self.slots[node], number)


@external
@view
def engaged(node: address) -> bool:
    """
    @notice Whether a node leads a race or runs a task.
    @param node The node.
    @return True from its claim until it is outbid, settled, failed or expired.
    """
    return self.slots[node] & ENGAGED != 0


@external
@view
def credit(node: address) -> uint256:
    """
    @notice Fees that a node has earned and not withdrawn.
    @param node The node.
    @return Wei.
    """
    return self.slots[node] >> CREDIT_AT


@external
@view
def history(node: address) -> (uint256, uint256, uint256):
    """
    @notice The evidence behind a reputation, as it stood at the last change.
    @param node The node.
    @return Evidence for and against it in units of 1/65536, and the block of the last change.
    """
    slot: uint256 = self.slots[node]
    return slot & EVIDENCE_MAX, (slot >> 32) & EVIDENCE_MAX, (slot >> 64) & (2**40 - 1)


@external
@view
def half_life() -> uint256:
    """
    @notice How long evidence takes to lose half of its weight.
    @return Blocks.
    """
    return HALF_LIFE


@external
@view
def window() -> uint256:
    """
    @notice How far `factor_at` can look back for certain.
    @return Blocks.
    """
    return WINDOW


@external
@view
def registry() -> address:
    """
    @notice The `NodeRegistry`, which opens the slots of new nodes.
    @return Its address.
    """
    return REGISTRY


@external
@view
def attestation() -> address:
    """
    @notice The `AttestationLedger`, which reports equivocation.
    @return Its address.
    """
    return ATTESTATION


@external
@view
def market() -> address:
    """
    @notice The `TaskMarket`, which settles tasks.
    @return Its address.
    """
    return MARKET


@internal
@view
def _mean_at(slot: uint256, number: uint256) -> uint256:
    updated_at: uint256 = (slot >> 64) & (2**40 - 1)
    good: uint256 = 0
    bad: uint256 = 0
    good, bad = beta_score.both_decayed(
        slot & EVIDENCE_MAX,
        (slot >> 32) & EVIDENCE_MAX,
        unsafe_sub(number, min(updated_at, number)),
        HALF_LIFE,
    )
    return beta_score.mean(good, bad)


@internal
@view
def _factor_at(slot: uint256, number: uint256) -> uint256:
    updated_at: uint256 = (slot >> 64) & (2**40 - 1)
    lowest: uint256 = self._mean_at(slot, block.number)
    if updated_at < number:
        lowest = min(lowest, self._mean_at(slot, number))
    elif number // WINDOW == updated_at // WINDOW:
        lowest = min(lowest, (slot >> 120) & 65535)
    elif number // WINDOW + 1 == updated_at // WINDOW:
        lowest = min(lowest, (slot >> 104) & 65535)
    else:
        lowest = 0
    return FACTOR_FLOOR + lowest


@internal
@view
def _absence(members: DynArray[address, 11], at: uint256) -> uint256:
    """
    @dev What `absences` keeps of a settlement, without the seats.
    """
    return ((convert(keccak256(abi_encode(members)), uint256) >> 56) << 56) | (at << 16)


@internal
def _change(task: uint256, node: address, cause: uint8, figure: uint256):
    """
    @dev `figure`: for EXCUSED the blocks since the silence was counted, else the fee in wei.
    """
    slot: uint256 = self.slots[node]
    updated_at: uint256 = (slot >> 64) & (2**40 - 1)
    stored_good: uint256 = slot & EVIDENCE_MAX
    stored_bad: uint256 = (slot >> 32) & EVIDENCE_MAX
    good: uint256 = 0
    bad: uint256 = 0
    # A change never lies in the future.
    good, bad = beta_score.both_decayed(
        stored_good, stored_bad, unsafe_sub(block.number, updated_at), HALF_LIFE
    )
    before: uint256 = beta_score.mean(good, bad)

    # Lowest reputation of the quiet time since the last change: it moves one way only.
    low: uint256 = min(before, beta_score.mean(stored_good, stored_bad))
    last_span: uint256 = (slot >> 104) & 65535
    this_span: uint256 = (slot >> 120) & 65535
    spans: uint256 = unsafe_sub(unsafe_div(block.number, WINDOW), unsafe_div(updated_at, WINDOW))
    if updated_at == 0 or spans > 1:
        last_span = low
        this_span = low
    elif spans == 1:
        last_span = min(this_span, low)
        this_span = low
    else:
        this_span = min(this_span, low)

    # Causes are below 16 and weights below 2^16; evidence stays below 2^33 before it is capped.
    weight: uint256 = unsafe_mul(
        (WEIGHTS >> unsafe_mul(16, convert(cause, uint256))) & 65535, beta_score.ONE // 16
    )
    # Credit and engagement as they are; a member that is paid may well lead another task.
    above: uint256 = slot >> ENGAGED_AT
    if cause < SILENT:
        good = min(unsafe_add(good, weight), EVIDENCE_MAX)
        assert (slot >> CREDIT_AT) + figure < 2**112, "reputation: credit too large"
        # No overflow: the sum fits its 112 bits.
        above = unsafe_add(above, figure << (CREDIT_AT - ENGAGED_AT))
        if cause == TASK_SETTLED:
            # A settlement ends the executor's engagement.
            above = (above >> 1) << 1
    elif cause == EXCUSED:
        # What is left of the silence by now; rounding must not make it more than all.
        bad = unsafe_sub(bad, min(bad, beta_score.decayed(weight, figure, HALF_LIFE)))
    else:
        bad = min(unsafe_add(bad, weight), EVIDENCE_MAX)
    self.slots[node] = (
        good
        | (bad << 32)
        | (block.number << 64)
        | (last_span << 104)
        | (this_span << 120)
        | (above << ENGAGED_AT)
    )
    log IReputationLedger.ReputationChanged(
        node=node, task=task, before=before, after=beta_score.mean(good, bad), cause=cause
    )
