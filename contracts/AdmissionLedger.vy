# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Admission: which hardware takes part
@license Apache-2.0
@notice A node with a TPM or a Zymkey is PENDING until nodes that were drawn for it have checked its
        hardware. The same way hardware that is found broken is barred: one chip, or all of a maker.
@dev    A MOTION is opened, gets a committee, and is decided by its votes:

            request | propose --(draw of its round)--> decide --> CARRIED or REJECTED
                                                        +-- no quorum in time: void

        ROUNDS. Motions share a draw. A round's entropy is the prevrandao of one fixed block e, at
        least D blocks after each of its motions; whoever draws, and when, changes nothing. From
        `lookahead` blocks before e until it is drawn, or until the draw window is over, the draw
        structure of `NodeRegistry` stands still (`hold`): else whoever knows the seed could pause
        and resume nodes until the committee suits. There is one round at a time, and e is divisible
        by 2 * (lookahead + 1), as for tasks: so the freezes of rounds and tasks fall together, and
        at least half of all blocks stay free as soon as what can be drawn is drawn.

        COMMITTEES. A round draws up to 11 nodes by Deposit. All of them decide about bars and
        admitters, the first `size` of them about admissions (a beginning of a draw without
        replacement is such a draw). Who is barred already does not vote, nor whom the motion would
        bar unless that is half of the seats; of the m that are left (3 at least, and most of the
        seats) ceil(2m/3) must agree.

        A TPM shows by its maker's certificates where its key lives. A Zymkey has none: what it
        answers can be answered by a program. So a Zymkey also needs the signature of an admitter,
        somebody who saw the device. Admitters are named and dismissed by vote.

        MONEY. None is kept here. A fee is burned at once: nobody earns by drawing more committees,
        or by a verdict. No decision takes a Deposit; a barred node withdraws its own.

        THE BOOTSTRAP ADMITTER can admit nodes (the first ones, whom nobody could vote for) and is
        an admitter. It cannot bar, and moves no money; once it has renounced or a vote has dismissed
        it, nobody has its power.
"""
from .interfaces import IAdmissionLedger
from .interfaces import IAttestationLedger
from .interfaces import INodeRegistry
from .modules import entropy
from .modules import votes

implements: IAdmissionLedger

ADMIT: constant(uint8) = 1
BAR: constant(uint8) = 2
BAR_MAKER: constant(uint8) = 3
NAME: constant(uint8) = 4
DISMISS: constant(uint8) = 5

OPEN: constant(uint256) = 1
CARRIED: constant(uint256) = 2
REJECTED: constant(uint256) = 3

PENDING: constant(uint256) = 1
ACTIVE: constant(uint256) = 2
ZYMKEY: constant(uint256) = 2

# Verdicts use the tiers of AR4SI (draft-ietf-rats-ar4si).
AFFIRMING: constant(uint8) = 2
CONTRAINDICATED: constant(uint8) = 96

MIN_SIZE: constant(uint256) = 3
MAX_SIZE: constant(uint256) = 11
# The lowest byte of a motion's slot is its state; the rest is of its hash.
STATE_BITS: constant(uint256) = 255

SEED_DOMAIN: constant(bytes32) = keccak256("sealrun/admission-seed/v1")
MOTION_TYPE: constant(bytes32) = keccak256(
    "MotionVote(uint256 motion,uint8 kind,address proposer,uint256 number,bytes32 subject,bytes32 maker,bytes32 evidence,uint8 verdict,uint64 validUntil)"
)
VOUCH_TYPE: constant(bytes32) = keccak256(
    "Vouch(address node,uint256 number,bytes32 hardwareId,bytes32 maker,bytes32 evidence,uint64 validUntil)"
)

REGISTRY: immutable(INodeRegistry)
ENTROPY_DELAY: immutable(uint256)
LOOKAHEAD: immutable(uint256)
# Distance of the blocks whose entropy draws.
STRIDE: immutable(uint256)
DRAW_WINDOW: immutable(uint256)
VOTE_WINDOW: immutable(uint256)
# Seats that decide about an admission.
SIZE: immutable(uint256)
FEE: immutable(uint256)

# Who admits the first nodes; zero once it renounced or was dismissed.
founder: address
admitters: HashMap[address, bool]
last_motion: uint256
# By motion: hash 248, state 8 bits.
motions: HashMap[uint256, uint256]
# The latest round: its block e, and in the lowest bit whether it is drawn.
latest: uint256
# By round: keccak256(abi.encode(address[])) of the committee.
committees: HashMap[uint256, bytes32]


@deploy
def __init__(
    registry_: address,
    bootstrap_: address,
    entropy_delay: uint256,
    lookahead: uint256,
    draw_window: uint256,
    vote_window: uint256,
    size: uint256,
    fee: uint256,
):
    """
    @notice Fixes registry and parameters for good; the market checks that they fit its own.
    @param registry_ The `NodeRegistry`.
    @param bootstrap_ Who admits the first nodes; may be zero.
    @param entropy_delay D in blocks, as of the market.
    @param lookahead Blocks before a round's entropy from which it might be guessed; below D.
    @param draw_window Blocks in which a round is drawn.
    @param vote_window Blocks after it in which its motions are decided.
    @param size Seats that decide about an admission, 3..11.
    @param fee Wei that each motion burns.
    """
    assert registry_.is_contract, "admission: registry is not a contract"
    assert (
        entropy_delay != 0 and lookahead < entropy_delay
    ), "admission: lookahead not below the delay"
    # The history contract answers for 8,191 blocks.
    assert draw_window != 0 and draw_window < 8000, "admission: window out of range"
    assert vote_window != 0 and vote_window < 2**32, "admission: window out of range"
    assert size >= MIN_SIZE and size <= MAX_SIZE, "admission: size out of range"
    assert fee < 2**96, "admission: fee too large"
    REGISTRY = INodeRegistry(registry_)
    ENTROPY_DELAY = entropy_delay
    LOOKAHEAD = lookahead
    STRIDE = 2 * (lookahead + 1)
    DRAW_WINDOW = draw_window
    VOTE_WINDOW = vote_window
    SIZE = size
    FEE = fee
    self.founder = bootstrap_


@external
@payable
def request(maker: bytes32, evidence: bytes32, vouch: IAdmissionLedger.Vouch) -> uint256:
    """
    @notice A PENDING node asks for its admission. The value is exactly the fee.
    @dev A vouch signs Vouch(node, number, hardwareId, maker, evidence, validUntil) (EIP-712).
    @param maker Digest of who made its root: of a TPM, SHA-256 of the root certificate of its EK.
    @param evidence keccak256 of the endorsement that it shows its committee.
    @param vouch What an admitter says of it: a ZYMKEY needs it, a TPM2 leaves it empty.
    @return The motion's id, from 1.
    """
    node: INodeRegistry.Node = staticcall REGISTRY.node(msg.sender)
    assert node.status == PENDING, "admission: node not pending"
    assert maker != empty(bytes32), "admission: maker is empty"
    assert not staticcall REGISTRY.is_maker_barred(maker), "admission: maker is barred"
    assert (
        staticcall REGISTRY.holder(node.hardware_id) == empty(address)
    ), "admission: hardware id already registered"
    id: uint256 = self._open(ADMIT, node.id, node.hardware_id, maker, evidence)
    if node.root_class == ZYMKEY:
        admitter: address = self._voucher(node, maker, evidence, vouch)
        log IAdmissionLedger.Vouched(motion=id, admitter=admitter)
    return id


@external
@payable
def propose(kind: uint8, subject: bytes32, evidence: bytes32) -> uint256:
    """
    @notice An ACTIVE node moves to bar hardware or a maker, or to name or dismiss an admitter. The
            value is exactly the fee.
    @param kind 2 BAR, 3 BAR_MAKER, 4 NAME, 5 DISMISS.
    @param subject Hardware id, maker, or account (left-padded to 32 bytes).
    @param evidence Digest of what it shows the others.
    @return The motion's id, from 1.
    """
    assert kind > ADMIT and kind <= DISMISS, "admission: unknown kind"
    assert staticcall REGISTRY.status(msg.sender) == ACTIVE, "admission: only active nodes"
    assert not staticcall REGISTRY.barred_by_vote(msg.sender), "admission: node is barred"
    assert subject != empty(bytes32), "admission: subject is empty"
    if kind >= NAME:
        assert convert(subject, uint256) < 2**160, "admission: subject is no account"
    return self._open(kind, 0, subject, empty(bytes32), evidence)


@external
def draw(block_header: Bytes[1024]):
    """
    @notice Anyone: draws the committee of the round, and ends its hold on the draw.
    @dev With fewer than three nodes the committee is empty, and its motions are void: the round
         must not wait for more, whose number could then be chosen.
    @param block_header Header of the round's block e.
    """
    latest: uint256 = self.latest
    round: uint256 = latest >> 1
    assert latest & 1 == 0 and round != 0, "admission: no round to draw"
    assert block.number > round, "admission: draw not open yet"
    assert block.number <= round + DRAW_WINDOW, "admission: draw is closed"
    seed: bytes32 = keccak256(
        abi_encode(
            SEED_DOMAIN, chain.id, self, round, entropy.prevrandao_of(round, block_header)
        )
    )
    size: uint256 = min(MAX_SIZE, staticcall REGISTRY.drawable())
    members: DynArray[address, MAX_SIZE] = []
    if size >= MIN_SIZE:
        members = staticcall REGISTRY.draw(seed, size, empty(address))
    self.latest = latest | 1
    self.committees[round] = keccak256(abi_encode(members))
    extcall REGISTRY.hold(0, 0)
    log IAdmissionLedger.RoundDrawn(round=round, members=members)


@external
def decide(
    motion: IAdmissionLedger.Motion,
    committee: DynArray[address, MAX_SIZE],
    verdict: uint8,
    ballot: IAttestationLedger.Ballot,
):
    """
    @notice Anyone: brings the votes of a quorum, which carry or reject a motion.
    @dev A vote signs MotionVote(motion, kind, proposer, number, subject, maker, evidence, verdict,
         validUntil) (EIP-712, domain sealrun 1 of this chain and contract).
    @param motion The motion, open.
    @param committee The committee of its round by seat.
    @param verdict 2 affirming, 96 contraindicated.
    @param ballot The votes that agree.
    """
    assert self.motions[motion.id] == self._slot(motion, OPEN), "admission: not an open motion"
    assert (
        keccak256(abi_encode(committee)) == self.committees[motion.round]
    ), "admission: not the committee"
    assert (
        block.number <= motion.round + DRAW_WINDOW + VOTE_WINDOW
    ), "admission: votes are closed"
    assert (
        convert(ballot.valid_until, uint256) >= block.number
    ), "admission: votes are out of date"
    assert verdict == AFFIRMING or verdict == CONTRAINDICATED, "admission: unknown verdict"
    able: uint256 = 0
    count: uint256 = 0
    able, count = self._able(motion, committee)
    assert count >= MIN_SIZE, "admission: too few members"
    assert ballot.voters & ~able == 0, "admission: seat does not vote on this"
    number: uint256 = votes.count(
        self._signed(self._vote(motion, verdict, ballot.valid_until)),
        committee,
        ballot.voters,
        ballot.signatures,
    )
    assert 3 * number >= 2 * count, "admission: no quorum"
    self.motions[motion.id] = self._slot(motion, CARRIED if verdict == AFFIRMING else REJECTED)
    log IAdmissionLedger.MotionDecided(motion=motion.id, verdict=verdict, voters=ballot.voters)
    if verdict == AFFIRMING:
        self._carry(motion)


@external
def admit_bootstrap(node: address, maker: bytes32):
    """
    @notice Bootstrap admitter only, until it renounces or is dismissed: admits a PENDING node.
    @param node The node.
    @param maker Digest of who made its root.
    """
    assert msg.sender == self.founder, "admission: only the bootstrap admitter"
    log IAdmissionLedger.AdmittedByBootstrap(node=node, maker=maker)
    extcall REGISTRY.admit(node, staticcall REGISTRY.node_id(node), maker)


@external
def renounce():
    """
    @notice Bootstrap admitter only: gives its powers up for good. From then on only votes admit.
    """
    assert msg.sender == self.founder, "admission: only the bootstrap admitter"
    self.founder = empty(address)
    log IAdmissionLedger.BootstrapRenounced()


@external
@view
def state(motion: uint256) -> uint8:
    """
    @notice The state of a motion.
    @param motion Its id.
    @return 0 unknown, 1 open (void once its windows are over), 2 carried, 3 rejected.
    """
    return convert(self.motions[motion] & STATE_BITS, uint8)


@external
@view
def round() -> (uint256, bool):
    """
    @notice The latest round.
    @return The block whose entropy draws it (0: there was none), and whether it is drawn.
    """
    return self.latest >> 1, self.latest & 1 == 1


@external
@view
def committee(round: uint256) -> bytes32:
    """
    @notice The committee of a round.
    @param round Its block.
    @return keccak256(abi.encode(address[])) of the members by seat; zero until it is drawn.
    """
    return self.committees[round]


@external
@view
def is_admitter(who: address) -> bool:
    """
    @notice Whether an account can vouch for a Zymkey.
    @param who The account.
    @return True for those that a vote named, and the bootstrap admitter until it renounces or is
            dismissed.
    """
    return self._is_admitter(who)


@external
@view
def bootstrap() -> address:
    """
    @notice Who can admit nodes without a vote.
    @return The account; zero once it has renounced or was dismissed.
    """
    return self.founder


@external
@view
def parameters() -> IAdmissionLedger.Parameters:
    """
    @notice All parameters.
    @return Blocks, seats and wei, see `IAdmissionLedger`.
    """
    return IAdmissionLedger.Parameters(
        entropy_delay=ENTROPY_DELAY,
        lookahead=LOOKAHEAD,
        draw_window=DRAW_WINDOW,
        vote_window=VOTE_WINDOW,
        size=SIZE,
        fee=FEE,
    )


@external
@view
def registry() -> address:
    """
    @notice The `NodeRegistry`, whose nodes are admitted and barred.
    @return Its address.
    """
    return REGISTRY.address


@internal
@payable
def _open(
    kind: uint8, number: uint256, subject: bytes32, maker: bytes32, evidence: bytes32
) -> uint256:
    """
    @dev Burns the fee and stores a motion of the caller in a round; returns its id.
    """
    assert msg.value == FEE, "admission: value is not the fee"
    id: uint256 = self.last_motion + 1
    self.last_motion = id
    motion: IAdmissionLedger.Motion = IAdmissionLedger.Motion(
        id=id,
        kind=kind,
        proposer=msg.sender,
        number=number,
        subject=subject,
        maker=maker,
        evidence=evidence,
        round=self._join(),
    )
    self.motions[id] = self._slot(motion, OPEN)
    log IAdmissionLedger.MotionOpened(
        motion=id,
        kind=kind,
        proposer=msg.sender,
        number=number,
        subject=subject,
        maker=maker,
        evidence=evidence,
        round=motion.round,
    )
    raw_call(empty(address), b"", value=FEE)
    return id


@internal
def _join() -> uint256:
    """
    @dev The round of a motion that is opened now: the latest while nobody can know its entropy, a
         new one once that is over.
    """
    latest: uint256 = self.latest
    round: uint256 = latest >> 1
    if block.number + ENTROPY_DELAY <= round:
        return round
    # A new round would end the hold of this one.
    assert (
        latest & 1 == 1 or block.number > round + DRAW_WINDOW or round == 0
    ), "admission: draw the round first"
    # One delay more than it needs, in which others can join.
    before: uint256 = block.number + 2 * ENTROPY_DELAY + STRIDE - 1
    round = before - before % STRIDE
    self.latest = round << 1
    extcall REGISTRY.hold(round - LOOKAHEAD, round + DRAW_WINDOW)
    return round


@internal
@view
def _able(
    motion: IAdmissionLedger.Motion, committee: DynArray[address, MAX_SIZE]
) -> (uint256, uint256):
    """
    @dev Who votes on a motion: bitmap of their seats, and their number. Nobody where most of the
         seats are barred. Where most are accused these vote, too: else two nodes of eleven could
         bar all the others and be the network.
    """
    size: uint256 = len(committee)
    if motion.kind == ADMIT:
        size = min(size, SIZE)
    everybody: uint256 = 0
    number: uint256 = 0
    able: uint256 = 0
    count: uint256 = 0
    for seat: uint256 in range(size, bound=MAX_SIZE):
        member: address = committee[seat]
        if staticcall REGISTRY.barred_by_vote(member):
            continue
        everybody |= 1 << seat
        number += 1
        accused: bool = False
        if motion.kind == BAR:
            accused = staticcall REGISTRY.holder(motion.subject) == member
        elif motion.kind == BAR_MAKER:
            accused = staticcall REGISTRY.maker_of(member) == motion.subject
        if not accused:
            able |= 1 << seat
            count += 1
    if 2 * count > size:
        return able, count
    return everybody, number if 2 * number > size else 0


@internal
def _carry(motion: IAdmissionLedger.Motion):
    if motion.kind == ADMIT:
        extcall REGISTRY.admit(motion.proposer, motion.number, motion.maker)
    elif motion.kind == BAR:
        extcall REGISTRY.bar(motion.subject)
    elif motion.kind == BAR_MAKER:
        extcall REGISTRY.bar_maker(motion.subject)
    else:
        who: address = convert(convert(motion.subject, uint160), address)
        self.admitters[who] = motion.kind == NAME
        if motion.kind == DISMISS and who == self.founder:
            self.founder = empty(address)
        log IAdmissionLedger.AdmitterChanged(who=who, admits=motion.kind == NAME)


@internal
@view
def _voucher(
    node: INodeRegistry.Node, maker: bytes32, evidence: bytes32, vouch: IAdmissionLedger.Vouch
) -> address:
    """
    @dev Who vouches for the caller; reverts unless it is an admitter.
    """
    assert (
        convert(vouch.valid_until, uint256) >= block.number
    ), "admission: vouch is out of date"
    admitter: address = votes.signer(
        self._signed(
            keccak256(
                abi_encode(
                    VOUCH_TYPE,
                    msg.sender,
                    node.id,
                    node.hardware_id,
                    maker,
                    evidence,
                    vouch.valid_until,
                )
            )
        ),
        vouch.signature,
    )
    assert self._is_admitter(admitter), "admission: not vouched by an admitter"
    return admitter


@internal
@view
def _is_admitter(who: address) -> bool:
    return self.admitters[who] or (who == self.founder and who != empty(address))


@internal
@pure
def _vote(motion: IAdmissionLedger.Motion, verdict: uint8, valid_until: uint64) -> bytes32:
    """
    @dev What a member says. Not only the motion's id: a chain that was reorganised may have given
         it to another motion before.
    """
    return keccak256(
        abi_encode(
            MOTION_TYPE,
            motion.id,
            motion.kind,
            motion.proposer,
            motion.number,
            motion.subject,
            motion.maker,
            motion.evidence,
            verdict,
            valid_until,
        )
    )


@internal
@view
def _signed(message: bytes32) -> bytes32:
    """
    @dev The EIP-712 digest of a message to this contract on this chain.
    """
    domain: bytes32 = keccak256(
        abi_encode(votes.DOMAIN_TYPE, votes.NAME, votes.VERSION, chain.id, self)
    )
    return keccak256(concat(x"1901", domain, message))


@internal
@pure
def _slot(motion: IAdmissionLedger.Motion, state: uint256) -> uint256:
    return ((convert(keccak256(abi_encode(motion)), uint256) >> 8) << 8) | state
