# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title The life of tasks
@license AGPL-3.0-only
@notice Escrow, the race for the executor, the draw of the committee, deadlines, settlement,
        slashing and `withdraw`.
@dev    POSTED -claim*-> POSTED -draw-> DRAWN -accept-> ACCEPTED -admit-> ADMITTED -finish-> SETTLED
           |               |              |               |               |
           |               +------- draw by a leader that accepts -^      |
           +-expire-> EXPIRED             +---- expire ---+---- refuse ---+-> FAILED

        ONE SLOT A TASK. Its low byte is the state (3 bits), whether somebody leads (1 bit) and
        votes (4 bits); then follow the block of the posting (32 bits) and 216 bits of the hash of
        the whole `Task`, which each later call brings as calldata. State and posting stand beside
        the hash because `undrawn` must see them without calldata. For a forged Task somebody
        would have to find two Tasks with the same 216 bits, one of which can be posted (2^108 work,
        anew for each id and block, which both stand in the hash). Once SETTLED the other 31 bytes are the AFTER record: its
        evidence root, with the number of votes in the low byte.

        BLOCKS of a task posted at b, with D the entropy delay and w = b + D + claim window:
            entropy of the race     prevrandao of block b + D
            claims                  b + D + 1 .. w
            entropy of the draw     prevrandao of block e, the first from w + D on whose number
                                    is divisible by 2 * (lookahead + 1)
            draw                    e + 1 .. e + draw window
        Each entropy is that of one fixed block, proved by its header: who calls, and when, changes
        nothing. From `lookahead` blocks before e until it is drawn, a led task freezes the draw
        structure (`undrawn`). A task nobody leads, or whose window is over, never does. Tasks
        wait for a common e because the freezes of a task every few blocks would otherwise join
        into one without end, and no Deposit could leave or enter: so, once what can be drawn is
        drawn (anybody can), at least half of all blocks are free. A task for which there are too
        few nodes cannot be drawn: anybody can expire it from e + 1 on.

        MONEY. Wei come in with `post` (and with `reward`, from a slash). Every wei is in escrow of
        one task, or owed to one account (a refund here, a fee in `ReputationLedger`), or burned: a
        posting fee stays here, out of everybody's reach. So escrow + owed + burned == balance.
        Wei leave by `withdraw` alone, to whom they are owed. Each state has a deadline after which
        anybody can call `expire`; nothing there depends on another party's code or on the draw.

        BARRED HARDWARE. What a vote barred claims no task. A task that runs there, or that was
        drawn to judges of whom too few are left, is ended by anybody (`fail_barred`): refund, nobody is
        slashed or loses reputation. Nor does `finish` pay it. A look at each voter would cost every
        task a tenth more, for what seldom happens; so the registry notes the block of the latest
        bar here, and `finish` looks only if that is not before the posting: who was barred before
        could not claim. A member whose maker was barred before, and whom nobody had taken out of
        the draw by `sync`, is seen by `fail_barred` alone.
        `draw`, `accept` and `admit` do not look. A draw ends the freeze, whoever leads; none of
        them pays; the task can be ended in each state. Whoever gives inputs to an ADMITTED task
        asks `NodeRegistry.barred_by_vote` first, which costs no gas.

        WHO GAINS BY A FAILURE: nobody. The requester gets back what it paid in, members are not
        paid, of a slash 5 % go to who reported it and the rest is burned.
"""
from .interfaces import IAdmissionLedger
from .interfaces import IAttestationLedger
from .interfaces import INodeRegistry
from .interfaces import IReputationLedger
from .interfaces import ITaskMarket
from .modules import ecvrf
from .modules import entropy
from .modules import p256_signature as p256
from .modules import records
from .modules import ticket

implements: ITaskMarket
initializes: p256
initializes: records[p256 := p256]

POSTED: constant(uint256) = 1
DRAWN: constant(uint256) = 2
ACCEPTED: constant(uint256) = 3
ADMITTED: constant(uint256) = 4
SETTLED: constant(uint256) = 5
FAILED: constant(uint256) = 6
EXPIRED: constant(uint256) = 7
# In the low byte beside the state: somebody leads a POSTED task; votes of the AFTER record.
STATE_BITS: constant(uint256) = 7
LED: constant(uint256) = 8
VOTES_AT: constant(uint256) = 4

NO_ACCEPT: constant(uint8) = 4
NO_ADMIT: constant(uint8) = 5
REFUSED: constant(uint8) = 6
NOT_FINISHED: constant(uint8) = 7
NO_DRAW: constant(uint8) = 9
# 10 is EXCUSED, a cause of the `ReputationLedger`.
BARRED: constant(uint8) = 11

BEFORE: constant(uint8) = 1
DURING: constant(uint8) = 2
AFTER: constant(uint8) = 3
# Verdicts use the tiers of AR4SI (draft-ietf-rats-ar4si).
AFFIRMING: constant(uint8) = 2
CONTRAINDICATED: constant(uint8) = 96
# In the low byte of a record, beside the number of votes.
REFUSING: constant(uint256) = 128

MIN_SIZE: constant(uint256) = 3
MAX_SIZE: constant(uint256) = 11
# A fee's bound keeps the credit of a node (112 bits) from overflowing: more wei than there are.
MAX_FEE: constant(uint256) = 2**96
# Blocks of a step: a week of 12-second blocks bounds how long money can stand in a task.
MAX_STEP: constant(uint256) = 50400
# How far one posting moves the freeze's pointer: as many tasks as it adds, and more once it has
# fallen behind.
POST_STEPS: constant(uint256) = 1
CATCH_UP_STEPS: constant(uint256) = 8
CATCH_UP_FROM: constant(uint256) = 32
# How far one call looks: 256 cold slots are half a million gas.
SCAN_STEPS: constant(uint256) = 256
COMMITMENT_DOMAIN: constant(bytes32) = keccak256("sealrun/commitment/v1")
ALPHA_DOMAIN: constant(bytes32) = keccak256("sealrun/alpha/v1")
SEED_DOMAIN: constant(bytes32) = keccak256("sealrun/seed/v1")

REGISTRY: immutable(INodeRegistry)
REPUTATION: immutable(IReputationLedger)
ATTESTATION: immutable(address)
UNIT: immutable(uint256)
ENTROPY_DELAY: immutable(uint256)
CLAIM_WINDOW: immutable(uint256)
DRAW_WINDOW: immutable(uint256)
LOOKAHEAD: immutable(uint256)
# Distance of the blocks whose entropy draws: the freeze takes half of it.
STRIDE: immutable(uint256)
POSTING_FEE: immutable(uint256)
CLASSES: immutable(uint256[3][4])

# By id: hash 216, posted_at 32, low byte 8 bits; once settled evidence root 248, low byte 8.
tasks: HashMap[uint256, uint256]
# By requester and number // 256: one bit for each number that a posting of it used.
spent: HashMap[address, HashMap[uint256, uint256]]
# By 4 * id + phase: evidence root 248, contraindicated 1, votes 7 bits.
kept: HashMap[uint256, uint256]
refunds: HashMap[address, uint256]
# Block of the latest bar by vote.
barred_at: uint256
# Burned wei 128, head 64 (the first task that can still freeze the draw), last id 64 bits.
counters: uint256


@deploy
def __init__(
    registry: address,
    reputation: address,
    attestation_: address,
    entropy_delay: uint256,
    claim_window: uint256,
    draw_window: uint256,
    lookahead: uint256,
    posting_fee: uint256,
    classes: uint256[3][4],
):
    """
    @notice Fixes neighbours and parameters for good; nobody owns the market.
    @param registry The `NodeRegistry`.
    @param reputation The `ReputationLedger`.
    @param attestation_ The `AttestationLedger`.
    @param entropy_delay D in blocks: nobody may know prevrandao so far ahead.
    @param claim_window Blocks in which claims are taken.
    @param draw_window Blocks in which the draw is taken.
    @param lookahead Blocks before the draw's entropy from which it might be guessed; below D.
    @param posting_fee Wei, kept whatever happens.
    @param classes By class id: blocks to accept, to admit, to finish.
    """
    assert (
        registry.is_contract and reputation.is_contract and attestation_.is_contract
    ), "market: not a contract"
    # Each was created with the addresses of the others in advance, this one's included.
    assert (
        staticcall INodeRegistry(registry).market() == self
        and staticcall INodeRegistry(registry).reputation() == reputation
        and staticcall INodeRegistry(registry).attestation() == attestation_
    ), "market: registry of another market"
    assert (
        staticcall IReputationLedger(reputation).market() == self
        and staticcall IReputationLedger(reputation).registry() == registry
        and staticcall IReputationLedger(reputation).attestation() == attestation_
    ), "market: reputation ledger of another market"
    assert (
        staticcall IAttestationLedger(attestation_).market() == self
        and staticcall IAttestationLedger(attestation_).registry() == registry
        and staticcall IAttestationLedger(attestation_).reputation() == reputation
    ), "market: attestation ledger of another market"
    p256.__init__(staticcall INodeRegistry(registry).verifier())
    assert entropy_delay != 0 and lookahead < entropy_delay, "market: lookahead not below the delay"
    assert claim_window != 0 and draw_window != 0, "market: window is empty"
    stride: uint256 = 2 * (lookahead + 1)
    # The history contract answers for 8,191 blocks: headers must be provable in the whole window.
    assert entropy_delay + claim_window < 8000 and draw_window < 8000, "market: window too long"
    assert posting_fee < MAX_FEE, "market: posting fee too large"
    longest: uint256 = 0
    for steps: uint256[3] in classes:
        for blocks: uint256 in steps:
            assert blocks != 0 and blocks <= MAX_STEP, "market: class out of range"
        longest = max(longest, steps[0] + steps[1] + steps[2])
    assert (
        staticcall INodeRegistry(registry).unbonding()
        > 2 * entropy_delay + claim_window + stride + draw_window + longest
    ), "market: unbonding shorter than a task"
    assert (
        staticcall IReputationLedger(reputation).window() >= entropy_delay + claim_window
    ), "market: reputation window shorter than the race"
    admission: address = staticcall INodeRegistry(registry).admission()
    assert admission.is_contract, "market: not a contract"
    same: IAdmissionLedger.Parameters = staticcall IAdmissionLedger(admission).parameters()
    # With other distances its freezes would fall between those of the tasks, and join them.
    assert (
        staticcall IAdmissionLedger(admission).registry() == registry
        and same.entropy_delay == entropy_delay
        and same.lookahead == lookahead
    ), "market: admission ledger of another market"
    REGISTRY = INodeRegistry(registry)
    REPUTATION = IReputationLedger(reputation)
    ATTESTATION = attestation_
    UNIT = staticcall INodeRegistry(registry).unit()
    ENTROPY_DELAY = entropy_delay
    CLAIM_WINDOW = claim_window
    DRAW_WINDOW = draw_window
    LOOKAHEAD = lookahead
    STRIDE = stride
    POSTING_FEE = posting_fee
    CLASSES = classes
    self.counters = 1 << 64


@external
@payable
def post(
    spec_hash: bytes32,
    number: uint256,
    committee_size: uint256,
    class_id: uint256,
    executor_fee: uint256,
    member_fee: uint256,
) -> uint256:
    """
    @notice Posts a task. The value is exactly the posting fee and all fees.
    @dev The commitment is a hash over the caller and a number that the caller can use once, so no
         two tasks have the same one and nobody can post another's.
    @param spec_hash keccak256 of the salted TaskSpec.
    @param number One that the caller has not used yet; in order, 255 of 256 share a slot.
    @param committee_size Members, 3..11.
    @param class_id Class of deadlines, 0..3.
    @param executor_fee Wei for the executor of a settled task.
    @param member_fee Wei for each member that votes for its AFTER record.
    @return The task's id, from 1.
    """
    assert block.number < 2**32, "market: block number out of range"
    used: uint256 = self.spent[msg.sender][number >> 8]
    bit: uint256 = 1 << (number & 255)
    assert used & bit == 0, "market: number already used"
    assert (
        committee_size >= MIN_SIZE and committee_size <= MAX_SIZE
    ), "market: committee size out of range"
    assert class_id < 4, "market: unknown class"
    assert executor_fee < MAX_FEE and member_fee < MAX_FEE, "market: fee too large"
    assert (
        msg.value == POSTING_FEE + executor_fee + committee_size * member_fee
    ), "market: value is not the posting fee and all fees"
    self.spent[msg.sender][number >> 8] = used | bit

    commitment: bytes32 = keccak256(abi_encode(COMMITMENT_DOMAIN, spec_hash, msg.sender, number))
    counters: uint256 = self.counters
    id: uint256 = (counters & (2**64 - 1)) + 1
    head: uint256 = (counters >> 64) & (2**64 - 1)
    head = self._skip(head, id, POST_STEPS if id - head < CATCH_UP_FROM else CATCH_UP_STEPS)
    self.counters = (((counters >> 128) + POSTING_FEE) << 128) | (head << 64) | id
    task: ITaskMarket.Task = empty(ITaskMarket.Task)
    task.id = id
    task.commitment = commitment
    task.requester = msg.sender
    task.posted_at = block.number
    task.executor_fee = executor_fee
    task.member_fee = member_fee
    task.committee_size = committee_size
    task.class_id = class_id
    self._store(task, POSTED)
    log ITaskMarket.TaskPosted(
        task=id,
        requester=msg.sender,
        commitment=commitment,
        executor_fee=executor_fee,
        member_fee=member_fee,
        committee_size=committee_size,
        class_id=class_id,
    )
    return id


@external
def claim(
    task: ITaskMarket.Task,
    block_header: Bytes[1024],
    proof: ecvrf.Proof,
    roots: DynArray[uint256, 40],
):
    """
    @notice A node shows its ticket; it leads if the ticket is below the leader's.
    @param task The task, POSTED.
    @param block_header Header of block posted_at + D.
    @param proof ECVRF proof of the caller's key over alpha.
    @param roots For each counter that the proof rejects, the proof that it is invalid.
    """
    self._check(task, POSTED)
    opens: uint256 = task.posted_at + ENTROPY_DELAY + 1
    assert block.number >= opens, "market: claims not open yet"
    assert block.number < opens + CLAIM_WINDOW, "market: claims are closed"
    terms: INodeRegistry.Terms = staticcall REGISTRY.terms(msg.sender, task.posted_at)
    factor: uint256 = extcall REPUTATION.engage(msg.sender, task.posted_at)
    # The caller is part of alpha: VRF keys are registered without a proof of possession, and a node
    # that names another's key must not be able to show the other's proof as its own.
    alpha: bytes32 = keccak256(
        abi_encode(
            ALPHA_DOMAIN,
            chain.id,
            self,
            task.id,
            msg.sender,
            entropy.prevrandao_of(task.posted_at + ENTROPY_DELAY, block_header),
        )
    )
    beta: bytes32 = ecvrf.verify(terms.vrf_x, terms.vrf_prefix, alpha, proof, roots)
    value: uint256 = ticket.ticket_of(beta, terms.weight * factor)
    if task.executor != empty(address):
        assert value < task.ticket, "market: ticket not below the leader's"
        extcall REPUTATION.release(task.executor)
    led: ITaskMarket.Task = task
    led.executor = msg.sender
    led.ticket = value
    led.beta = beta
    self._store(led, POSTED | LED)
    log ITaskMarket.TaskClaimed(task=task.id, leader=msg.sender, ticket=value, beta=beta)


@external
def draw(task: ITaskMarket.Task, block_header: Bytes[1024], accept: bool):
    """
    @notice Anyone: draws the committee of a task whose race is over. The leader, which becomes the
            executor, may accept in the same transaction.
    @param task The task, POSTED and led.
    @param block_header Header of block e (see the title).
    @param accept True: what `accept` says; only the leader can say it.
    """
    self._check(task, POSTED)
    assert task.executor != empty(address), "market: nobody leads"
    assert not accept or msg.sender == task.executor, "market: only the executor"
    at: uint256 = self._seed_block(task.posted_at)
    assert block.number > at, "market: draw not open yet"
    assert block.number <= at + DRAW_WINDOW, "market: draw is closed"
    seed: bytes32 = keccak256(
        abi_encode(SEED_DOMAIN, task.beta, entropy.prevrandao_of(at, block_header))
    )
    members: DynArray[address, MAX_SIZE] = staticcall REGISTRY.draw(
        seed, task.committee_size, task.executor
    )
    drawn: ITaskMarket.Task = task
    drawn.committee = keccak256(abi_encode(members))
    # Nothing needs them any more, and as zeros they are cheaper in each later call.
    drawn.ticket = 0
    drawn.beta = empty(bytes32)
    # The Task keeps what signs both records: an account gets another root key only by a new
    # registration, and a node that a task engages cannot take its Deposit out and be EXITED.
    drawn.root_x, drawn.root_y = staticcall REGISTRY.root_key(task.executor)
    self._store(drawn, ACCEPTED if accept else DRAWN)
    log ITaskMarket.CommitteeDrawn(
        task=task.id,
        executor=task.executor,
        members=members,
        accepted=accept,
        root_x=drawn.root_x,
        root_y=drawn.root_y,
    )


@external
def accept(task: ITaskMarket.Task):
    """
    @notice The executor says that it holds the opening of the commitment and begins; one that
            drew the committee itself can say it there.
    @param task The task, DRAWN.
    """
    self._check(task, DRAWN)
    assert msg.sender == task.executor, "market: only the executor"
    self._check_deadline(task, DRAWN)
    self._store(task, ACCEPTED)
    log ITaskMarket.TaskAccepted(task=task.id)


@external
def admit(
    task: ITaskMarket.Task,
    committee: DynArray[address, MAX_SIZE],
    statement: IAttestationLedger.Statement,
    ballot: IAttestationLedger.Ballot,
):
    """
    @notice The executor brings the BEFORE record; the Machine may now be given its inputs.
    @dev Only the executor: anybody else could choose whose votes are left out.
    @param task The task, ACCEPTED.
    @param committee The members by seat.
    @param statement Header of phase BEFORE, signed by the executor's root.
    @param ballot Affirming votes of a quorum.
    """
    self._check(task, ACCEPTED)
    header: bytes32 = self._attest(task, ACCEPTED, BEFORE, committee, statement, ballot)
    self.kept[task.id * 4 + convert(BEFORE, uint256)] = (
        convert(statement.evidence_root, uint256) | len(ballot.signatures)
    )
    self._store(task, ADMITTED)
    log ITaskMarket.TaskAdmitted(
        task=task.id,
        evidence_root=statement.evidence_root,
        header=header,
        voters=ballot.voters,
    )


@external
def finish(
    task: ITaskMarket.Task,
    committee: DynArray[address, MAX_SIZE],
    statement: IAttestationLedger.Statement,
    ballot: IAttestationLedger.Ballot,
):
    """
    @notice The executor brings the AFTER record: fees and reputation are credited, what silent
            members did not earn is owed to the requester. Not where a vote has barred the executor
            since the posting, or so many members that `fail_barred` can end the task.
    @param task The task, ADMITTED.
    @param committee The members by seat.
    @param statement Header of phase AFTER, signed by the executor's root.
    @param ballot Affirming votes of a quorum; those that stand in it are paid.
    """
    self._check(task, ADMITTED)
    header: bytes32 = self._attest(task, ADMITTED, AFTER, committee, statement, ballot)
    if self.barred_at >= task.posted_at:
        assert not self._is_barred(task.executor), "market: executor is barred"
    self._check_judges(task, committee)
    # The task's hash is needed no more; 31 bytes of root and 4 bits of votes fill its slot.
    self.tasks[task.id] = (
        convert(statement.evidence_root, uint256)
        | (len(ballot.signatures) << VOTES_AT)
        | SETTLED
    )
    silent: uint256 = task.committee_size - len(ballot.signatures)
    if silent != 0 and task.member_fee != 0:
        self.refunds[task.requester] += silent * task.member_fee
    extcall REPUTATION.settle(
        task.id, task.executor, task.executor_fee, committee, ballot.voters, task.member_fee
    )
    log ITaskMarket.TaskSettled(
        task=task.id,
        evidence_root=statement.evidence_root,
        header=header,
        voters=ballot.voters,
    )


@external
@nonreentrant
def refuse(
    task: ITaskMarket.Task,
    committee: DynArray[address, MAX_SIZE],
    phase: uint8,
    attempt: uint8,
    header: bytes32,
    ballot: IAttestationLedger.Ballot,
):
    """
    @notice Anyone: ends a task that a quorum of its committee contradicts. The requester is
            refunded; after `admit` the executor is slashed by one unit. After it not where votes
            have barred so many members since the posting that `fail_barred` can end the task.
    @param task The task, DRAWN, ACCEPTED (phase BEFORE) or ADMITTED (DURING or AFTER).
    @param committee The members by seat.
    @param phase 1 BEFORE, 2 DURING, 3 AFTER.
    @param attempt The attempt that the votes are about.
    @param header Digest of its header, or zero if there was none.
    @param ballot Contraindicating votes of a quorum.
    """
    state: uint256 = self._open(task)
    if state == ADMITTED:
        assert phase == DURING or phase == AFTER, "market: phase does not fit the state"
    else:
        assert state == DRAWN or state == ACCEPTED, "market: no committee can refuse now"
        assert phase == BEFORE, "market: phase does not fit the state"
    assert keccak256(abi_encode(committee)) == task.committee, "market: not the committee"
    if state == ADMITTED:
        self._check_judges(task, committee)
    number: uint256 = records.count(
        ATTESTATION,
        IAttestationLedger.Vote(
            task=task.id,
            phase=phase,
            attempt=attempt,
            header=header,
            verdict=CONTRAINDICATED,
            valid_until=ballot.valid_until,
        ),
        self._quorum(task),
        committee,
        ballot,
    )
    self.kept[task.id * 4 + convert(phase, uint256)] = REFUSING | number
    self._store(task, FAILED)
    self._refund(task)
    log ITaskMarket.TaskRefused(task=task.id, phase=phase, header=header, voters=ballot.voters)
    log ITaskMarket.TaskFailed(task=task.id, cause=REFUSED)
    extcall REPUTATION.release(task.executor)
    # Before `accept` the executor has promised nothing: the refusal is no fault of it.
    if state != DRAWN:
        extcall REPUTATION.penalise(task.id, task.executor, REFUSED)
    if state == ADMITTED:
        extcall REGISTRY.slash(task.executor, UNIT, msg.sender, "REFUSED")


@external
@nonreentrant
def expire(task: ITaskMarket.Task):
    """
    @notice Anyone: ends a task whose deadline is over and refunds the requester. An executor that
            admitted the task and never finished it is slashed by a quarter of a unit. A bar leaves
            one claim window for `fail_barred`, whoever chose its block.
    @param task The task in any state that is not final.
    """
    state: uint256 = self._open(task)
    if state == POSTED:
        self._expire_posted(task)
        return
    assert (
        block.number > max(self._deadline(task, state), self.barred_at + CLAIM_WINDOW)
    ), "market: deadline not over"
    if self._is_barred(task.executor):
        self._fail_barred(task)
        return
    cause: uint8 = NO_ACCEPT
    if state == ACCEPTED:
        cause = NO_ADMIT
    elif state == ADMITTED:
        cause = NOT_FINISHED
    self._store(task, FAILED)
    self._refund(task)
    log ITaskMarket.TaskFailed(task=task.id, cause=cause)
    extcall REPUTATION.release(task.executor)
    extcall REPUTATION.penalise(task.id, task.executor, cause)
    if state == ADMITTED:
        extcall REGISTRY.slash(task.executor, UNIT // 4, msg.sender, "NOT_FINISHED")


@external
@nonreentrant
def fail_barred(task: ITaskMarket.Task, committee: DynArray[address, MAX_SIZE]):
    """
    @notice Anyone: ends a task whose leader or executor a vote has barred, or so many of its
            members that others cannot judge it: before `admit` any one, after it all but fewer than
            a quorum. The requester is refunded, nobody is slashed or loses reputation.
    @dev Before `admit` nothing was released and a new posting costs little; after it an honest
         executor is owed its run as long as unbarred members can attest it.
    @param task The task in any state that is not final.
    @param committee The members by seat; none while it is POSTED.
    """
    state: uint256 = self._open(task)
    if not self._is_barred(task.executor):
        assert state != POSTED, "market: nobody is barred"
        assert keccak256(abi_encode(committee)) == task.committee, "market: not the committee"
        assert self._lacks_judges(task, state, committee), "market: enough are not barred"
    if state == POSTED:
        self._store(task, EXPIRED)
        self._refund(task)
        log ITaskMarket.TaskExpired(task=task.id)
        extcall REPUTATION.release(task.executor)
    else:
        self._fail_barred(task)


@external
@nonreentrant
def withdraw():
    """
    @notice Pays the caller what it is owed: refunds, rewards and fees earned as a node.
    """
    amount: uint256 = self.refunds[msg.sender]
    self.refunds[msg.sender] = 0
    amount += extcall REPUTATION.collect(msg.sender)
    assert amount != 0, "market: nothing owed"
    log ITaskMarket.Withdrawn(who=msg.sender, amount=amount)
    raw_call(msg.sender, b"", value=amount)


@external
@payable
def reward(beneficiary: address):
    """
    @notice Registry only: brings a reporter's part of a slash.
    @dev Not locked: it runs inside `refuse` and `expire`, and sends nothing.
    @param beneficiary To whom the value is owed.
    """
    assert msg.sender == REGISTRY.address, "market: only the registry"
    self.refunds[beneficiary] += msg.value


@external
def note_bar():
    """
    @notice Registry only: a vote has barred a node, or all of a maker.
    @dev Not locked: it sends nothing.
    """
    assert msg.sender == REGISTRY.address, "market: only the registry"
    self.barred_at = block.number


@external
def advance() -> uint256:
    """
    @notice Anyone: moves the freeze's pointer over tasks that can no longer freeze the draw. Only
            needed after more than 256 such tasks in a row without a posting after them.
    @return The first task that still can, or the next id.
    """
    counters: uint256 = self.counters
    last: uint256 = counters & (2**64 - 1)
    head: uint256 = self._skip((counters >> 64) & (2**64 - 1), last + 1, SCAN_STEPS)
    self.counters = ((counters >> 128) << 128) | (head << 64) | last
    return head


@external
@view
def state(id: uint256) -> uint256:
    """
    @notice The state of a task.
    @param id The task.
    @return 0 unknown, 1 POSTED, 2 DRAWN, 3 ACCEPTED, 4 ADMITTED, 5 SETTLED, 6 FAILED, 7 EXPIRED.
    """
    return self.tasks[id] & STATE_BITS


@external
@view
def is_spent(requester: address, number: uint256) -> bool:
    """
    @notice Whether a requester has posted a task under a number.
    @param requester The account.
    @param number The number.
    @return True if it can post none under it any more.
    """
    return self.spent[requester][number >> 8] & (1 << (number & 255)) != 0


@external
@view
def packed_record(id: uint256, phase: uint8) -> uint256:
    """
    @notice The record of a task's phase, as it is kept; `AttestationLedger.record` shows it.
    @dev An affirming AFTER record stands in the slot that the settled task needs no more: 22,100
         gas less.
    @param id The task.
    @param phase 1 BEFORE, 2 DURING, 3 AFTER.
    @return Evidence root 248, contraindicated 1, votes 7 bits; zero if there is none.
    """
    # A higher number would read the record of another task.
    assert phase >= BEFORE and phase <= AFTER, "market: unknown phase"
    slot: uint256 = self.tasks[id]
    if phase == AFTER and slot & STATE_BITS == SETTLED:
        return ((slot >> 8) << 8) | ((slot >> VOTES_AT) & 15)
    return self.kept[id * 4 + convert(phase, uint256)]


@external
@view
def owed(who: address) -> uint256:
    """
    @notice What `withdraw` would pay.
    @param who The account.
    @return Wei: refunds, rewards and fees.
    """
    return self.refunds[who] + staticcall REPUTATION.credit(who)


@external
@view
def undrawn() -> uint256:
    """
    @notice The task that must be drawn before the draw structure may change.
    @dev Tasks are ordered by posting, so are their windows: the first one that can still freeze
         the draw decides. If 256 steps do not reach it, the answer is a task (deny); `advance`.
    @return Its id, or 0.
    """
    counters: uint256 = self.counters
    end: uint256 = (counters & (2**64 - 1)) + 1
    start: uint256 = (counters >> 64) & (2**64 - 1)
    id: uint256 = self._skip(start, end, SCAN_STEPS)
    if id == end:
        return 0
    if id == start + SCAN_STEPS:
        return id
    posted_at: uint256 = (self.tasks[id] >> 8) & (2**32 - 1)
    if block.number + LOOKAHEAD < self._seed_block(posted_at):
        return 0
    return id


@external
@view
def ticket_of(beta: bytes32, node: address, posted_at: uint256) -> uint256:
    """
    @notice The ticket that a claim at this block would get; reverts if the node must not claim.
    @param beta The node's VRF output for the task.
    @param node The node.
    @param posted_at Block of the posting.
    @return The ticket; the lowest leads.
    """
    weight: uint256 = staticcall REGISTRY.claim_weight(node, posted_at)
    return ticket.ticket_of(beta, weight * staticcall REPUTATION.factor_at(node, posted_at))


@external
@view
def parameters() -> ITaskMarket.Parameters:
    """
    @notice All parameters.
    @return Wei and blocks, see `ITaskMarket`.
    """
    return ITaskMarket.Parameters(
        unit=UNIT,
        entropy_delay=ENTROPY_DELAY,
        claim_window=CLAIM_WINDOW,
        draw_window=DRAW_WINDOW,
        lookahead=LOOKAHEAD,
        posting_fee=POSTING_FEE,
        classes=CLASSES,
    )


@external
@view
def class_of(class_id: uint256) -> ITaskMarket.TaskClass:
    """
    @notice The deadlines of a class.
    @param class_id 0..3.
    @return Blocks to accept, to admit and to finish.
    """
    return ITaskMarket.TaskClass(
        accept_blocks=CLASSES[class_id][0],
        admit_blocks=CLASSES[class_id][1],
        finish_blocks=CLASSES[class_id][2],
    )


@external
@view
def burned() -> uint256:
    """
    @notice Posting fees that stay here for ever.
    @return Wei.
    """
    return self.counters >> 128


@external
@view
def registry() -> address:
    """
    @notice The `NodeRegistry`.
    @return Its address.
    """
    return REGISTRY.address


@external
@view
def reputation() -> address:
    """
    @notice The `ReputationLedger`.
    @return Its address.
    """
    return REPUTATION.address


@external
@view
def attestation() -> address:
    """
    @notice The `AttestationLedger`.
    @return Its address.
    """
    return ATTESTATION


@internal
def _store(task: ITaskMarket.Task, state: uint256):
    """
    @dev Every step passes here, so `step_at` is the block of the last step by construction.
    """
    stepped: ITaskMarket.Task = task
    stepped.step_at = block.number
    self.tasks[task.id] = (
        ((convert(keccak256(abi_encode(stepped)), uint256) >> 40) << 40)
        | (task.posted_at << 8)
        | state
    )


@internal
@view
def _open(task: ITaskMarket.Task) -> uint256:
    """
    @dev The state of a task that is not over; reverts if the Task is not the stored one.
    """
    slot: uint256 = self.tasks[task.id]
    state: uint256 = slot & STATE_BITS
    assert state < SETTLED, "market: task is over"
    assert (
        slot >> 40 == convert(keccak256(abi_encode(task)), uint256) >> 40
    ), "market: not the task as it stands"
    return state


@internal
@view
def _check(task: ITaskMarket.Task, state: uint256):
    assert self._open(task) == state, "market: wrong state"


@internal
@view
def _deadline(task: ITaskMarket.Task, state: uint256) -> uint256:
    return task.step_at + CLASSES[task.class_id][state - DRAWN]


@internal
@view
def _check_deadline(task: ITaskMarket.Task, state: uint256):
    assert block.number <= self._deadline(task, state), "market: deadline is over"


@internal
@pure
def _quorum(task: ITaskMarket.Task) -> uint256:
    return (2 * task.committee_size + 2) // 3


@internal
def _attest(
    task: ITaskMarket.Task,
    state: uint256,
    phase: uint8,
    committee: DynArray[address, MAX_SIZE],
    statement: IAttestationLedger.Statement,
    ballot: IAttestationLedger.Ballot,
) -> bytes32:
    assert msg.sender == task.executor, "market: only the executor"
    self._check_deadline(task, state)
    assert keccak256(abi_encode(committee)) == task.committee, "market: not the committee"
    assert (
        convert(statement.evidence_root, uint256) & 255 == 0
    ), "attestation: evidence root has 31 bytes"
    header: bytes32 = records.signed_header(
        ATTESTATION,
        IAttestationLedger.Header(
            task=task.id,
            commitment=task.commitment,
            node=task.executor,
            phase=phase,
            attempt=statement.attempt,
            nonce_root=statement.nonce_root,
            evidence_root=statement.evidence_root,
            session_key_hash=statement.session_key_hash,
            r=statement.r,
            s=statement.s,
        ),
        task.root_x,
        task.root_y,
    )
    records.count(
        ATTESTATION,
        IAttestationLedger.Vote(
            task=task.id,
            phase=phase,
            attempt=statement.attempt,
            header=header,
            verdict=AFFIRMING,
            valid_until=ballot.valid_until,
        ),
        self._quorum(task),
        committee,
        ballot,
    )
    return header


@internal
def _refund(task: ITaskMarket.Task):
    self.refunds[task.requester] += task.executor_fee + task.committee_size * task.member_fee


@internal
def _fail_barred(task: ITaskMarket.Task):
    self._store(task, FAILED)
    self._refund(task)
    log ITaskMarket.TaskFailed(task=task.id, cause=BARRED)
    extcall REPUTATION.release(task.executor)


@internal
@view
def _is_barred(node: address) -> bool:
    return staticcall REGISTRY.barred_by_vote(node)


@internal
@view
def _check_judges(task: ITaskMarket.Task, committee: DynArray[address, MAX_SIZE]):
    """
    @dev An ADMITTED task's judges can be too few only by a bar since its posting. The committee is
         the task's.
    """
    if self.barred_at >= task.posted_at:
        assert not self._lacks_judges(
            task, ADMITTED, committee
        ), "market: too many judges are barred"


@internal
@view
def _lacks_judges(
    task: ITaskMarket.Task, state: uint256, committee: DynArray[address, MAX_SIZE]
) -> bool:
    """
    @dev Whether votes have barred so many members that the others cannot judge: before `admit` any
         one, after it all but fewer than a quorum. The committee is the task's.
    """
    able: uint256 = 0
    for member: address in committee:
        if not self._is_barred(member):
            able += 1
    needed: uint256 = task.committee_size
    if state == ADMITTED:
        needed = self._quorum(task)
    return able < needed


@internal
def _expire_posted(task: ITaskMarket.Task):
    closes: uint256 = task.posted_at + ENTROPY_DELAY + CLAIM_WINDOW
    leader: address = task.executor
    possible: bool = False
    if leader != empty(address):
        closes = self._seed_block(task.posted_at)
        # While the task freezes the draw, the number of nodes stands still too: a draw that is
        # not possible at the first moment is not at any later one. To wait would freeze for it.
        possible = staticcall REGISTRY.can_draw(task.committee_size, leader)
        if possible:
            closes += DRAW_WINDOW
    assert block.number > closes, "market: deadline not over"
    self._store(task, EXPIRED)
    self._refund(task)
    log ITaskMarket.TaskExpired(task=task.id)
    if leader != empty(address):
        extcall REPUTATION.release(leader)
        # With too few nodes no draw was possible, which is nobody's fault; nor is a bar.
        if possible and not self._is_barred(leader):
            extcall REPUTATION.penalise(task.id, leader, NO_DRAW)


@internal
@view
def _seed_block(posted_at: uint256) -> uint256:
    """
    @dev The block whose entropy draws the committee: e in the title.
    """
    first: uint256 = posted_at + 2 * ENTROPY_DELAY + CLAIM_WINDOW
    # `post` keeps blocks below 2^32, the constructor windows below 8,000 and STRIDE from 2 on: no
    # step leaves 256 bits.
    before: uint256 = unsafe_add(first, unsafe_sub(STRIDE, 1))
    return unsafe_sub(before, before % STRIDE)


@internal
@view
def _skip(start: uint256, end: uint256, steps: uint256) -> uint256:
    """
    @dev The first task from `start` on, below `end`, that can still freeze the draw, looking at
         no more than `steps`. A task cannot any more once it is drawn or over, once its claims
         are closed without a leader, and once its draw is closed.
    """
    id: uint256 = start
    for _: uint256 in range(steps, bound=SCAN_STEPS):
        if id == end:
            break
        slot: uint256 = self.tasks[id]
        if slot & STATE_BITS == POSTED:
            posted_at: uint256 = (slot >> 8) & (2**32 - 1)
            last: uint256 = posted_at + ENTROPY_DELAY + CLAIM_WINDOW
            if slot & LED != 0:
                last = self._seed_block(posted_at) + DRAW_WINDOW
            if block.number <= last:
                break
        id += 1
    return id
