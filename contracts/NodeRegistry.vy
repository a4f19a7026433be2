# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Nodes: identity, deposits, the draw
@license Apache-2.0
@notice Who takes part: P-256 root key, VRF key, hardware id, root-signed contact, Deposit, status,
        and the structure from which committees are drawn.
@dev    DEPOSITS. Every wei that came with `register` and `top_up` belongs to one account and leaves
        by `withdraw_deposit` to that account, or by `slash` to the zero address (a small part to
        who reported). The sum of deposits is this contract's balance (wei forced upon it by a
        selfdestruct stays). Nobody owns this contract: its neighbours are fixed by its creation,
        at addresses computed in advance, and the market's creation reverts unless all name each
        other. Before the market is there nobody can register.

        SEATS NEED NO LOCK. A Deposit leaves only `unbonding` blocks after `exit`, which is longer
        than the longest task (`TaskMarket` checks it when it is deployed): whoever was drawn can
        be slashed until the task is over.

        THE DRAW STANDS STILL while somebody could know a committee's seed before it is drawn
        ("registry: draw task N first"). A slash never waits for that: it lowers the Deposit at
        once and leaves the place in the draw; `sync` takes it away later. Otherwise a slash could
        be used to move the draw, and a task in its window could hold up another's refund.

        ADMISSION. Only somebody who asks the hardware can tell a TPM or a Zymkey from a key in a
        file. So such a node is PENDING, outside the draw, until `AdmissionLedger` says `admit`; and
        only then is its hardware id taken: a claim to somebody else's chip holds up nobody. A
        SOFTWARE root's id is its key's, which its signature proves.

        A hardware id has one admitted registration; it is free again after the exit, and never
        again after the node was barred.

        BARRED BY VOTE. `bar` and `bar_maker` take a node's powers at once, and its place in the
        draw as a slash does: at once, or by `sync` after the draws that could be known already. They
        take no wei: what is deposited can be withdrawn after the unbonding time.
"""
from .interfaces import INodeRegistry
from .interfaces import IReputationLedger
from .interfaces import ITaskMarket
from .modules import class_grid
from .modules import p256_signature as p256

implements: INodeRegistry
initializes: class_grid
initializes: p256

PENDING: constant(uint256) = 1
ACTIVE: constant(uint256) = 2
PAUSED: constant(uint256) = 3
EXITING: constant(uint256) = 4
EXITED: constant(uint256) = 5
BARRED: constant(uint256) = 6

SOFTWARE: constant(uint256) = 1
ZYMKEY: constant(uint256) = 2
TPM2: constant(uint256) = 3
# Makers that a record's 7 bits can tell apart; 0 is none.
MAX_MAKERS: constant(uint256) = 127

TOP_TIER: constant(uint256) = 9
# What a reporter gets of a slashed amount; the rest is burned. Below the 10 % that the design
# allows, so that provoking a failure is never a trade.
REWARD_BPS: constant(uint256) = 500
SECP256K1_P: constant(uint256) = (
    115792089237316195423570985008687907853269984665640564039457584007908834671663
)
REGISTRATION_DOMAIN: constant(bytes32) = keccak256("sealrun/registration/v1")
CONTACT_DOMAIN: constant(bytes32) = keccak256("sealrun/contact/v1")
# In front of X and Y, what the hardware id of a SOFTWARE root is the hash of.
SOFTWARE_ID: constant(Bytes[24]) = b"sealrun/software-root/v1"

# The hot part of a node, one slot: status 4, root_class 4, tier 4, vrf_prefix 3, joins 1, place 20,
# id 32, maker 7, by_vote 1, fixed_at 40, exit_at 40, deposit 100 bits, from the lowest bit on.
# `place` is where it stands in the draw; a slash while the draw stands still lowers the tier alone,
# until `sync`. `joins`: a PENDING node wants into the draw once it is admitted. `maker` is a number
# from `makers`, `by_vote` says that a vote barred this node's hardware.
struct Record:
    status: uint256
    root_class: uint256
    tier: uint256
    vrf_prefix: uint256
    joins: uint256
    place: uint256
    id: uint256
    maker: uint256
    by_vote: uint256
    fixed_at: uint256
    exit_at: uint256
    deposit: uint256


# What a node is known by; written at registration.
struct Identity:
    root_x: uint256
    root_y: uint256
    vrf_x: uint256
    hardware_id: bytes32
    attestation_key: bytes32
    contact_digest: bytes32


# Deposit of tier 0 in wei; tier c needs unit * 2^c.
UNIT: immutable(uint256)
# Blocks between `exit` and `withdraw_deposit`.
UNBONDING: immutable(uint256)
# Whether roots without hardware may register.
ALLOW_SOFTWARE: immutable(bool)

# The `TaskMarket`.
MARKET: immutable(address)
# The `AttestationLedger`.
ATTESTATION: immutable(address)
# The `ReputationLedger`.
REPUTATION: immutable(address)
# The `AdmissionLedger`.
ADMISSION: immutable(address)

records: HashMap[address, uint256]
identities: HashMap[address, Identity]
accounts: HashMap[uint256, address]
# Who holds a hardware id; this contract itself where a vote barred an id that nobody held.
hardware: HashMap[bytes32, address]
last_id: uint256
# The makers of admitted hardware; a maker's number is its position from 1.
makers: DynArray[bytes32, MAX_MAKERS]
maker_numbers: HashMap[bytes32, uint256]
# One bit for each maker's number.
barred_makers: uint256
# While an admission round could be known and is not drawn: its last block 40, its first 40 bits.
round_held: uint256


@deploy
def __init__(
    unit_: uint256,
    unbonding_: uint256,
    allow_software_: bool,
    verifier: address,
    reputation_: address,
    attestation_: address,
    market_: address,
    admission_: address,
):
    """
    @notice Fixes parameters and neighbours for good; the market checks that all fit.
    @param unit_ Deposit of tier 0 in wei.
    @param unbonding_ Blocks a Deposit stays after `exit`; longer than the longest task.
    @param allow_software_ Whether SOFTWARE roots may register: never where it matters.
    @param verifier The `P256Verifier`.
    @param reputation_ Where the `ReputationLedger` will be.
    @param attestation_ Where the `AttestationLedger` will be.
    @param market_ Where the `TaskMarket` will be.
    @param admission_ Where the `AdmissionLedger` will be.
    """
    assert unit_ != 0 and unit_ < 2**90, "registry: unit out of range"
    assert unbonding_ < 2**32, "registry: unbonding out of range"
    UNIT = unit_
    UNBONDING = unbonding_
    ALLOW_SOFTWARE = allow_software_
    p256.__init__(verifier)
    REPUTATION = reputation_
    ATTESTATION = attestation_
    MARKET = market_
    ADMISSION = admission_


@external
@payable
@nonreentrant
def register(
    registration: INodeRegistry.Registration,
    contact: Bytes[2048],
    join: bool,
    r: uint256,
    s: uint256,
) -> uint256:
    """
    @notice Registers the caller as a node; the value is its Deposit. A TPM2 or ZYMKEY root makes
            it PENDING, until `AdmissionLedger` has its hardware checked.
    @dev (r, s) proves possession of the root key: a signature over sha256(abi.encode(
         keccak256("sealrun/registration/v1"), chain id, this contract, caller, the seven words of
         `registration`, keccak256(contact))). The hardware id of a SOFTWARE root is
         keccak256("sealrun/software-root/v1" | root_x | root_y), that of a ZYMKEY
         keccak256(root_x | root_y), that of a TPM2 the hash of its EK: its committee checks it.
    @param registration Keys, root class and hardware id.
    @param contact Root-signed contact record, published in an event.
    @param join True: into the draw (for PENDING: once it is admitted), needs one unit. False:
           PAUSED, a peer that is never drawn.
    @param r P-256 signature, r.
    @param s P-256 signature, s, low.
    @return The node's id, from 1.
    """
    former: uint256 = self._load(msg.sender).status
    assert former == 0 or former == EXITED, "registry: account already registered"
    root_class: uint256 = registration.root_class
    assert root_class >= SOFTWARE and root_class <= TPM2, "registry: unknown root class"
    assert root_class != SOFTWARE or ALLOW_SOFTWARE, "registry: software roots not allowed"
    # Else Deposits could come in first, and anything that slashes them be created there afterwards.
    assert MARKET.is_contract, "registry: market not deployed yet"
    assert registration.hardware_id != empty(bytes32), "registry: hardware id is empty"
    assert (
        self.hardware[registration.hardware_id] == empty(address)
    ), "registry: hardware id already registered"
    self._check_vrf_key(registration.vrf_x, registration.vrf_prefix)
    contact_digest: bytes32 = self._check_contact(contact)
    signed: bytes32 = sha256(
        abi_encode(
            REGISTRATION_DOMAIN,
            chain.id,
            self,
            msg.sender,
            registration,
            contact_digest,
        )
    )
    assert p256.verify(
        signed, r, s, registration.root_x, registration.root_y
    ), "registry: not signed by the root key"
    # The id of a root without hardware is that of its key, which the signature proves: nobody can
    # take another's id (that would cost nothing), and no key stands behind two nodes. So is that of
    # a Zymkey, whose root key is its only one. A TPM's is its EK's, which its committee checks.
    if root_class != TPM2:
        key: Bytes[64] = concat(
            convert(registration.root_x, bytes32), convert(registration.root_y, bytes32)
        )
        own: bytes32 = keccak256(key)
        if root_class == SOFTWARE:
            own = keccak256(concat(SOFTWARE_ID, key))
        assert registration.hardware_id == own, "registry: hardware id is not the root key's"

    id: uint256 = self.last_id + 1
    self.last_id = id
    self.accounts[id] = msg.sender
    self.identities[msg.sender] = Identity(
        root_x=registration.root_x,
        root_y=registration.root_y,
        vrf_x=registration.vrf_x,
        hardware_id=registration.hardware_id,
        attestation_key=registration.attestation_key,
        contact_digest=contact_digest,
    )
    record: Record = Record(
        status=PENDING,
        root_class=root_class,
        tier=self._tier(msg.value),
        vrf_prefix=registration.vrf_prefix,
        joins=1 if join else 0,
        place=0,
        id=id,
        maker=0,
        by_vote=0,
        fixed_at=block.number,
        exit_at=0,
        deposit=self._bounded(msg.value),
    )
    if join:
        assert msg.value >= UNIT, "registry: deposit below one unit"
    if root_class == SOFTWARE:
        self.hardware[registration.hardware_id] = msg.sender
        record.status = ACTIVE if join else PAUSED
    self._place(msg.sender, record)
    extcall IReputationLedger(REPUTATION).open(msg.sender)
    log INodeRegistry.NodeRegistered(
        node=msg.sender,
        id=id,
        root_class=root_class,
        hardware_id=registration.hardware_id,
        deposit=msg.value,
    )
    log INodeRegistry.ContactPublished(node=msg.sender, contact=contact)
    log INodeRegistry.VrfKeyChanged(
        node=msg.sender, vrf_x=registration.vrf_x, vrf_prefix=registration.vrf_prefix
    )
    log INodeRegistry.DepositChanged(
        node=msg.sender, deposit=record.deposit, tier=record.tier
    )
    log INodeRegistry.StatusChanged(node=msg.sender, status=record.status)
    return id


@external
def set_contact(contact: Bytes[2048], r: uint256, s: uint256):
    """
    @notice Publishes a new contact record.
    @dev (r, s) signs sha256(abi.encode(keccak256("sealrun/contact/v1"), chain id, this contract,
         caller, keccak256(contact))) with the root key.
    @param contact The record.
    @param r P-256 signature, r.
    @param s P-256 signature, s, low.
    """
    self._live(msg.sender)
    digest: bytes32 = self._check_contact(contact)
    x: uint256 = self.identities[msg.sender].root_x
    y: uint256 = self.identities[msg.sender].root_y
    signed: bytes32 = sha256(abi_encode(CONTACT_DOMAIN, chain.id, self, msg.sender, digest))
    assert p256.verify(signed, r, s, x, y), "registry: not signed by the root key"
    self.identities[msg.sender].contact_digest = digest
    log INodeRegistry.ContactPublished(node=msg.sender, contact=contact)


@external
def rotate_vrf(vrf_x: uint256, vrf_prefix: uint256):
    """
    @notice Replaces the caller's VRF key. It counts for tasks posted from now on.
    @param vrf_x x of the compressed secp256k1 key.
    @param vrf_prefix 2 or 3.
    """
    record: Record = self._live(msg.sender)
    self._check_vrf_key(vrf_x, vrf_prefix)
    record.vrf_prefix = vrf_prefix
    record.fixed_at = block.number
    self.identities[msg.sender].vrf_x = vrf_x
    self._store(msg.sender, record)
    log INodeRegistry.VrfKeyChanged(node=msg.sender, vrf_x=vrf_x, vrf_prefix=vrf_prefix)


@external
@payable
def top_up():
    """
    @notice Adds the value to the caller's Deposit. A new tier counts for tasks posted from now on.
    """
    record: Record = self._live(msg.sender)
    assert record.status != EXITING, "registry: node is exiting"
    assert msg.value != 0, "registry: no value"
    record.deposit = self._bounded(record.deposit + msg.value)
    tier: uint256 = self._tier(record.deposit)
    if tier != record.tier:
        record.tier = tier
        record.fixed_at = block.number
    self._place(msg.sender, record)
    log INodeRegistry.DepositChanged(node=msg.sender, deposit=record.deposit, tier=tier)


@external
def pause():
    """
    @notice Takes the caller out of the draw; a running task still has to be finished.
    """
    record: Record = self._live(msg.sender)
    assert record.status == ACTIVE, "registry: node not active"
    self._set_status(msg.sender, record, PAUSED)


@external
def resume():
    """
    @notice Puts the caller into the draw again; counts for tasks posted from now on.
    """
    record: Record = self._live(msg.sender)
    assert record.status == PAUSED, "registry: node not paused"
    assert record.deposit >= UNIT, "registry: deposit below one unit"
    self._set_status(msg.sender, record, ACTIVE)


@external
def exit():
    """
    @notice Leaves for good; the Deposit can be withdrawn after the unbonding time.
    """
    record: Record = self._live(msg.sender)
    assert record.status != EXITING, "registry: node is exiting"
    record.exit_at = block.number + UNBONDING
    self._set_status(msg.sender, record, EXITING)


@external
@nonreentrant
def withdraw_deposit():
    """
    @notice Pays the caller's Deposit back: after the unbonding time of `exit`, or what a slash
            left of it as long after it barred the node.
    """
    record: Record = self._load(msg.sender)
    assert record.status == EXITING or record.status == BARRED, "registry: node not exiting"
    assert block.number >= record.exit_at, "registry: still unbonding"
    assert not self._engaged(msg.sender), "registry: node is engaged"
    amount: uint256 = record.deposit
    record.deposit = 0
    record.tier = 0
    if record.status == EXITING:
        record.status = EXITED
        # A node that was never admitted holds no id: another may.
        if self.hardware[self.identities[msg.sender].hardware_id] == msg.sender:
            self.hardware[self.identities[msg.sender].hardware_id] = empty(address)
        log INodeRegistry.StatusChanged(node=msg.sender, status=EXITED)
    else:
        assert amount != 0, "registry: nothing to withdraw"
    # Whom a slash barred while the draw stood still may stand in it yet: never without a Deposit.
    self._place(msg.sender, record)
    log INodeRegistry.DepositChanged(node=msg.sender, deposit=0, tier=0)
    raw_call(msg.sender, b"", value=amount)


@external
def sync(node: address):
    """
    @notice Brings a node's place in the draw in line with its status and Deposit, for a node that
            was slashed, barred or admitted while the draw stood still; and makes a node BARRED
            whose maker is. Anyone may call it.
    @param node The node.
    """
    record: Record = self._load(node)
    assert record.status != 0, "registry: unknown node"
    if record.status != BARRED and record.status != EXITED and self._is_maker_barred(record.maker):
        record = self._barred(node, record)
    self._place(node, record)


@external
@nonreentrant
def slash(node: address, amount: uint256, beneficiary: address, cause: String[32]) -> uint256:
    """
    @notice Market and ledger only: takes a part of a Deposit for an objective fault. 5 % are owed
            to the beneficiary by the market, the rest goes to the zero address.
    @dev Never reverts for the state of the node or of the draw: see the title.
    @param node The node at fault.
    @param amount Wei to take at most.
    @param beneficiary Who reported it.
    @param cause Why, for the log.
    @return What was taken, in wei.
    """
    assert (
        msg.sender == MARKET or msg.sender == ATTESTATION
    ), "registry: only market and ledger"
    record: Record = self._load(node)
    if record.status == 0 or record.status == EXITED:
        return 0
    slashed: uint256 = min(amount, record.deposit)
    record.deposit -= slashed
    tier: uint256 = self._tier(record.deposit)
    if tier != record.tier:
        record.tier = tier
        record.fixed_at = block.number
    if record.deposit < UNIT and record.status != BARRED:
        record = self._barred(node, record)
    self._put(node, record)
    log INodeRegistry.Slashed(node=node, amount=slashed, cause=cause)
    log INodeRegistry.DepositChanged(node=node, deposit=record.deposit, tier=tier)
    share: uint256 = slashed * REWARD_BPS // 10000
    if slashed != 0:
        extcall ITaskMarket(MARKET).reward(beneficiary, value=share)
        raw_call(empty(address), b"", value=slashed - share)
    return slashed


@external
def admit(node: address, id: uint256, maker: bytes32):
    """
    @notice Admission ledger only: a PENDING node's hardware has been checked. It gets its hardware
            id, and the place in the draw that it asked for (if the draw stands still: by `sync`).
    @param node The node.
    @param id Its id: an account can exit and come back as another node.
    @param maker Digest of who made its root; what `bar_maker` names.
    """
    assert msg.sender == ADMISSION, "registry: only the admission ledger"
    record: Record = self._load(node)
    assert record.status == PENDING and record.id == id, "registry: node not pending"
    hardware_id: bytes32 = self.identities[node].hardware_id
    assert self.hardware[hardware_id] == empty(address), "registry: hardware id already registered"
    record.maker = self._maker(maker)
    assert not self._is_maker_barred(record.maker), "registry: maker is barred"
    self.hardware[hardware_id] = node
    record.status = PAUSED
    if record.joins == 1 and record.deposit >= UNIT:
        record.status = ACTIVE
    record.fixed_at = block.number
    self._put(node, record)
    log INodeRegistry.NodeAdmitted(node=node, maker=maker)
    log INodeRegistry.StatusChanged(node=node, status=record.status)


@external
def bar(hardware_id: bytes32):
    """
    @notice Admission ledger only: bars a piece of hardware for good, with the node that holds it.
    @param hardware_id Its id; nobody need hold it.
    """
    assert msg.sender == ADMISSION, "registry: only the admission ledger"
    holder: address = self.hardware[hardware_id]
    log INodeRegistry.HardwareBarred(hardware_id=hardware_id, holder=holder)
    if holder == empty(address):
        self.hardware[hardware_id] = self
        return
    record: Record = self._load(holder)
    if record.status == 0:
        # Barred before, without a holder.
        return
    record.by_vote = 1
    if record.status != BARRED:
        record = self._barred(holder, record)
    self._put(holder, record)
    extcall ITaskMarket(MARKET).note_bar()


@external
def bar_maker(maker: bytes32):
    """
    @notice Admission ledger only: bars all hardware of a maker for good. No such node claims or
            votes from now on; each leaves the draw by `sync`.
    @param maker Its digest; none of its hardware need be admitted.
    """
    assert msg.sender == ADMISSION, "registry: only the admission ledger"
    self.barred_makers |= 1 << self._maker(maker)
    log INodeRegistry.MakerBarred(maker=maker)
    extcall ITaskMarket(MARKET).note_bar()


@external
def hold(first: uint256, last: uint256):
    """
    @notice Admission ledger only: the draw stands still from one block to another, for a round
            whose entropy could be known.
    @param first The first such block.
    @param last The last; 0 once the round is drawn.
    """
    assert msg.sender == ADMISSION, "registry: only the admission ledger"
    self.round_held = (first << 40) | last


@external
@view
def unit() -> uint256:
    """
    @notice Deposit of tier 0; tier c needs unit * 2^c.
    @return Wei.
    """
    return UNIT


@external
@view
def unbonding() -> uint256:
    """
    @notice How long a Deposit stays after `exit`: longer than the longest task.
    @return Blocks.
    """
    return UNBONDING


@external
@view
def allow_software() -> bool:
    """
    @notice Whether roots without hardware may register.
    @return False on a network for real work.
    """
    return ALLOW_SOFTWARE


@external
@view
def market() -> address:
    """
    @notice The `TaskMarket`, which engages and slashes nodes.
    @return Its address.
    """
    return MARKET


@external
@view
def attestation() -> address:
    """
    @notice The `AttestationLedger`, which slashes who contradicted itself.
    @return Its address.
    """
    return ATTESTATION


@external
@view
def admission() -> address:
    """
    @notice The `AdmissionLedger`, which has hardware checked before it takes part.
    @return Its address.
    """
    return ADMISSION


@external
@view
def verifier() -> address:
    """
    @notice The `P256Verifier`, which checks signatures where the chain has no precompile.
    @return Its address.
    """
    return p256.VERIFIER


@external
@view
def reputation() -> address:
    """
    @notice The `ReputationLedger`: ask it for the reputation of a node.
    @return Its address.
    """
    return REPUTATION


@external
@view
def draw(seed: bytes32, k: uint256, exclude: address) -> DynArray[address, 11]:
    """
    @notice Draws k distinct nodes by Deposit (2^tier), without replacement.
    @param seed The randomness.
    @param k How many, at most 11; reverts if there are not so many.
    @param exclude Who must not be drawn: the executor.
    @return The members by seat.
    """
    return class_grid.draw(seed, k, exclude)


@external
@view
def terms(node: address, posted_at: uint256) -> INodeRegistry.Terms:
    """
    @notice What a claim is measured by; reverts if key, Deposit or status do not allow one.
    @dev Whether the node has a task already is known to `ReputationLedger.engage`.
    @param node The claiming node.
    @param posted_at Block of the posting.
    @return Its VRF key and its weight in the race (2^tier).
    """
    packed: uint256 = self.records[node]
    self._check_claim(packed, posted_at)
    return INodeRegistry.Terms(
        vrf_x=self.identities[node].vrf_x,
        vrf_prefix=(packed >> 12) & 7,
        weight=1 << ((packed >> 8) & 15),
    )


@external
@view
def claim_weight(node: address, posted_at: uint256) -> uint256:
    """
    @notice A node's weight in the race for a task (2^tier); reverts if it must not claim.
    @param node The node.
    @param posted_at Block of the posting.
    @return The weight, before the reputation factor.
    """
    packed: uint256 = self.records[node]
    self._check_claim(packed, posted_at)
    assert not self._engaged(node), "registry: node is engaged"
    return 1 << ((packed >> 8) & 15)


@external
@view
def frozen_by() -> uint256:
    """
    @notice The task that must be drawn before the draw may change.
    @return Its id, or 0.
    """
    return self._frozen_by()


@external
@view
def is_held() -> bool:
    """
    @notice Whether an admission round must be drawn before the draw may change.
    @return True from before its entropy exists until it is drawn, or its window is over.
    """
    return self._is_held()


@external
@view
def barred_by_vote(account: address) -> bool:
    """
    @notice Whether a vote barred a node: its hardware, or all of its maker's. Not: a slash.
    @param account The node's account.
    @return True from that vote on.
    """
    packed: uint256 = self.records[account]
    return (packed >> 75) & 1 == 1 or self._is_maker_barred((packed >> 68) & 127)


@external
@view
def is_maker_barred(maker: bytes32) -> bool:
    """
    @notice Whether a vote barred all hardware of a maker.
    @param maker Its digest.
    @return True from that vote on.
    """
    return self._is_maker_barred(self.maker_numbers[maker])


@external
@view
def maker_of(account: address) -> bytes32:
    """
    @notice Who made a node's root, as its admission said.
    @param account The node's account.
    @return The maker's digest; zero for a SOFTWARE root and before admission.
    """
    number: uint256 = self._load(account).maker
    return empty(bytes32) if number == 0 else self.makers[number - 1]


@external
@view
def holder(hardware_id: bytes32) -> address:
    """
    @notice Which node holds a hardware id.
    @param hardware_id The id.
    @return Its account; zero if nobody does, the registry if it is barred and nobody did.
    """
    return self.hardware[hardware_id]


@external
@view
def total_weight() -> uint256:
    """
    @notice Weight of all nodes in the draw.
    @return The sum of 2^tier.
    """
    return class_grid.total_weight()


@external
@view
def drawable() -> uint256:
    """
    @notice How many nodes are in the draw.
    @return Their number.
    """
    return class_grid.count()


@external
@view
def tiers() -> uint256[10]:
    """
    @notice How many nodes of each tier are in the draw: all that the odds of a committee need.
    @return By tier; a node of tier c weighs 2^c.
    """
    return class_grid.tiers()


@external
@view
def can_draw(k: uint256, exclude: address) -> bool:
    """
    @notice Whether there are enough nodes for `draw`.
    @param k How many.
    @param exclude Who must not be drawn.
    @return True if `draw` gives a committee.
    """
    present: bool = self._load(exclude).place != 0
    return class_grid.count() >= k + (1 if present else 0)


@external
@view
def node(account: address) -> INodeRegistry.Node:
    """
    @notice All that is stored of a node.
    @param account The node's account.
    @return The node; all zero if there is none.
    """
    record: Record = self._load(account)
    identity: Identity = self.identities[account]
    return INodeRegistry.Node(
        id=record.id,
        status=record.status,
        root_class=record.root_class,
        root_x=identity.root_x,
        root_y=identity.root_y,
        vrf_x=identity.vrf_x,
        vrf_prefix=record.vrf_prefix,
        hardware_id=identity.hardware_id,
        attestation_key=identity.attestation_key,
        contact_digest=identity.contact_digest,
        deposit=record.deposit,
        tier=record.tier,
        engaged=self._engaged(account),
        fixed_at=record.fixed_at,
        exit_at=record.exit_at,
    )


@external
@view
def node_id(account: address) -> uint256:
    """
    @notice The id of a node.
    @param account The node's account.
    @return Its id from 1, or 0.
    """
    return self._load(account).id


@external
@view
def node_at(id: uint256) -> address:
    """
    @notice The account behind an id.
    @param id From 1, without gaps.
    @return The account, or zero. After an exit and a new registration an account has two ids.
    """
    return self.accounts[id]


@external
@view
def root_key(account: address) -> (uint256, uint256):
    """
    @notice The P-256 key of a node's hardware root.
    @param account The node's account.
    @return X and Y; zero if there is no such node.
    """
    return self.identities[account].root_x, self.identities[account].root_y


@external
@view
def deposit(account: address) -> uint256:
    """
    @notice The Deposit of a node.
    @param account The node's account.
    @return Wei.
    """
    return self._load(account).deposit


@external
@view
def status(account: address) -> uint256:
    """
    @notice The status of a node.
    @param account The node's account.
    @return 0 unknown, 1 PENDING, 2 ACTIVE, 3 PAUSED, 4 EXITING, 5 EXITED, 6 BARRED.
    """
    return self.records[account] & 15


@internal
@view
def _check_claim(packed: uint256, posted_at: uint256):
    assert packed & 15 == ACTIVE, "registry: node not active"
    # Fixed before the posting: no key and no Deposit can be chosen for a known alpha.
    assert (packed >> 76) & (2**40 - 1) < posted_at, "registry: node changed after the posting"
    maker: uint256 = (packed >> 68) & 127
    # Only a node that has a maker pays for the look.
    if maker != 0:
        assert not self._is_maker_barred(maker), "registry: node is barred"


@internal
@view
def _engaged(node: address) -> bool:
    return staticcall IReputationLedger(REPUTATION).engaged(node)


@internal
@view
def _frozen_by() -> uint256:
    return staticcall ITaskMarket(MARKET).undrawn()


@internal
@view
def _is_held() -> bool:
    held: uint256 = self.round_held
    return block.number >= held >> 40 and block.number <= held & (2**40 - 1)


@internal
@view
def _is_maker_barred(number: uint256) -> bool:
    # Nobody has the number 0: its bit is never set.
    return (self.barred_makers >> number) & 1 == 1


@internal
def _maker(digest: bytes32) -> uint256:
    """
    @dev The number of a maker; a new one's is noted.
    """
    assert digest != empty(bytes32), "registry: maker is empty"
    number: uint256 = self.maker_numbers[digest]
    if number == 0:
        assert len(self.makers) < MAX_MAKERS, "registry: too many makers"
        self.makers.append(digest)
        number = len(self.makers)
        self.maker_numbers[digest] = number
    return number


@internal
def _barred(node: address, record: Record) -> Record:
    """
    @dev The record of a node that is barred from now on; the caller stores it.
    """
    changed: Record = record
    # An exit that has begun keeps its date.
    if changed.status != EXITING:
        changed.exit_at = block.number + UNBONDING
    changed.status = BARRED
    changed.fixed_at = block.number
    log INodeRegistry.StatusChanged(node=node, status=BARRED)
    return changed


@internal
@view
def _check_movable():
    """
    @dev Reverts while the draw stands still.
    """
    assert not self._is_held(), "registry: draw the admission round first"
    task: uint256 = self._frozen_by()
    if task != 0:
        raw_revert(
            abi_encode(
                concat("registry: draw task ", uint2str(task), " first"),
                method_id=method_id("Error(string)"),
            )
        )


@internal
def _place(node: address, record: Record):
    """
    @dev Stores the record with the place in the draw that status and tier ask for; reverts if
         that is another one and the draw stands still.
    """
    placed: Record = record
    wanted: bool = record.status == ACTIVE
    stands: bool = record.place != 0
    if stands != wanted or (stands and class_grid.tier_of(record.place) != record.tier):
        self._check_movable()
        self._vacate(record.place)
        placed.place = 0
        if wanted:
            placed.place = class_grid.add(node, record.tier)
    self._store(node, placed)


@internal
def _put(node: address, record: Record):
    """
    @dev Stores a record that others change: its place follows if the draw can move, else `sync`
         brings it. Never reverts for the state of the draw.
    """
    self._store(node, record)
    if self._frozen_by() == 0 and not self._is_held():
        self._replace(node, record)


@internal
def _replace(node: address, record: Record):
    """
    @dev `_place` for `_put`: where it would revert because the lower tier is full, the node
         leaves the draw until a `sync` finds room.
    """
    stays: bool = record.place != 0 and class_grid.tier_of(record.place) == record.tier
    if record.status != ACTIVE or stays or class_grid.has_room(record.tier):
        self._place(node, record)
    else:
        self._vacate(record.place)
        outside: Record = record
        outside.place = 0
        self._store(node, outside)


@internal
def _vacate(place: uint256):
    """
    @dev Frees a place, if it is one, and tells the node that fills it.
    """
    if place == 0:
        return
    moved: address = class_grid.remove(place)
    if moved != empty(address):
        filled: Record = self._load(moved)
        filled.place = place
        self._store(moved, filled)


@internal
def _set_status(node: address, record: Record, status: uint256):
    changed: Record = record
    changed.status = status
    changed.fixed_at = block.number
    self._place(node, changed)
    log INodeRegistry.StatusChanged(node=node, status=status)


@internal
@view
def _live(node: address) -> Record:
    record: Record = self._load(node)
    assert record.status != 0 and record.status != EXITED, "registry: unknown node"
    assert record.status != BARRED, "registry: node is barred"
    if record.maker != 0:
        assert not self._is_maker_barred(record.maker), "registry: node is barred"
    return record


@internal
@pure
def _check_vrf_key(vrf_x: uint256, vrf_prefix: uint256):
    # Whether x lies on the curve shows with the first proof: ecrecover refuses any other.
    assert vrf_x != 0 and vrf_x < SECP256K1_P, "registry: VRF key out of range"
    assert vrf_prefix | 1 == 3, "registry: VRF key prefix"


@internal
@pure
def _check_contact(contact: Bytes[2048]) -> bytes32:
    assert len(contact) != 0, "registry: contact is empty"
    return keccak256(contact)


@internal
@pure
def _bounded(amount: uint256) -> uint256:
    assert amount < 2**100, "registry: deposit too large"
    return amount


@internal
@view
def _tier(amount: uint256) -> uint256:
    tier: uint256 = 0
    units: uint256 = amount // UNIT
    for _: uint256 in range(TOP_TIER):
        units = units >> 1
        if units == 0:
            break
        tier += 1
    return tier


@internal
@view
def _load(node: address) -> Record:
    packed: uint256 = self.records[node]
    return Record(
        status=packed & 15,
        root_class=(packed >> 4) & 15,
        tier=(packed >> 8) & 15,
        vrf_prefix=(packed >> 12) & 7,
        joins=(packed >> 15) & 1,
        place=(packed >> 16) & (2**20 - 1),
        id=(packed >> 36) & (2**32 - 1),
        maker=(packed >> 68) & 127,
        by_vote=(packed >> 75) & 1,
        fixed_at=(packed >> 76) & (2**40 - 1),
        exit_at=(packed >> 116) & (2**40 - 1),
        deposit=packed >> 156,
    )


@internal
def _store(node: address, record: Record):
    self.records[node] = (
        record.status
        | (record.root_class << 4)
        | (record.tier << 8)
        | (record.vrf_prefix << 12)
        | (record.joins << 15)
        | (record.place << 16)
        | (record.id << 36)
        | (record.maker << 68)
        | (record.by_vote << 75)
        | (record.fixed_at << 76)
        | (record.exit_at << 116)
        | (record.deposit << 156)
    )
