# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Attestation records of tasks
@license Apache-2.0
@notice Per task one record BEFORE and one AFTER: verdict, evidence root, votes. This is all that
        stays on chain of a task, and nothing in it says what ran or on which data. And what
        signatures prove outside a task's normal course: equivocation, and that a member recorded
        as silent did vote.
@dev    Roots sign and members vote in the name of this contract. The records are checked and kept
        by `TaskMarket`, in the transactions that act on them: handing committee, statement and
        ballot over to another contract cost more than checking them.

        EQUIVOCATION is proved by two signatures of one key that say different things about one
        (task, phase, attempt); it needs no other state and can be reported while the Deposit is
        there. Repeating a vote with a later last block is none: verdict or header must differ.
        Nor are headers for two commitments: a task id belongs to one of them only, and a chain that
        was reorganised right after the posting may have given it to the other before.
"""
from .interfaces import IAttestationLedger
from .interfaces import INodeRegistry
from .interfaces import IReputationLedger
from .interfaces import ITaskMarket
from .modules import p256_signature as p256
from .modules import records
from .modules import votes

implements: IAttestationLedger
initializes: p256
initializes: records[p256 := p256]

# Verdicts use the tiers of AR4SI (draft-ietf-rats-ar4si).
AFFIRMING: constant(uint8) = 2
CONTRAINDICATED: constant(uint8) = 96
DURING: constant(uint8) = 2
AFTER: constant(uint8) = 3
EQUIVOCATION: constant(uint8) = 8

# The `NodeRegistry`.
REGISTRY: immutable(address)
# The `ReputationLedger`.
REPUTATION: immutable(address)
# The `TaskMarket`.
MARKET: immutable(address)

proven: HashMap[bytes32, bool]


@deploy
def __init__(registry_: address, reputation_: address, market_: address):
    """
    @notice Fixes the neighbours for good; the market checks that all fit.
    @param registry_ The `NodeRegistry`.
    @param reputation_ The `ReputationLedger`.
    @param market_ Where the `TaskMarket` will be.
    """
    assert registry_.is_contract and reputation_.is_contract, "attestation: not a contract"
    REGISTRY = registry_
    REPUTATION = reputation_
    MARKET = market_
    p256.__init__(staticcall INodeRegistry(registry_).verifier())


@external
@nonreentrant
def prove_double_vote(
    vote_a: IAttestationLedger.Vote,
    signature_a: IAttestationLedger.Signature,
    vote_b: IAttestationLedger.Vote,
    signature_b: IAttestationLedger.Signature,
):
    """
    @notice Anyone: shows two votes of one node about one (task, phase, attempt) that differ in
            verdict or header. Its whole Deposit is slashed; 5 % of it are owed to the caller.
    @param vote_a One vote.
    @param signature_a Its signature.
    @param vote_b The other.
    @param signature_b Its signature.
    """
    assert (
        vote_a.task == vote_b.task
        and vote_a.phase == vote_b.phase
        and vote_a.attempt == vote_b.attempt
    ), "attestation: votes about different things"
    assert (
        vote_a.verdict != vote_b.verdict or vote_a.header != vote_b.header
    ), "attestation: votes agree"
    node: address = votes.signer(votes.digest(self, vote_a), signature_a)
    assert node == votes.signer(
        votes.digest(self, vote_b), signature_b
    ), "attestation: votes of different nodes"
    self._punish(vote_a.task, node, vote_a.phase, vote_a.attempt, False)


@external
@nonreentrant
def prove_double_header(
    header_a: IAttestationLedger.Header, header_b: IAttestationLedger.Header
):
    """
    @notice Anyone: shows two different headers that one node's root signed for one (task, phase,
            attempt). Its whole Deposit is slashed; 5 % of it are owed to the caller.
    @param header_a One header.
    @param header_b The other.
    """
    assert (
        header_a.task == header_b.task
        and header_a.commitment == header_b.commitment
        and header_a.node == header_b.node
        and header_a.phase == header_b.phase
        and header_a.attempt == header_b.attempt
    ), "attestation: headers about different things"
    x: uint256 = 0
    y: uint256 = 0
    x, y = staticcall INodeRegistry(REGISTRY).root_key(header_a.node)
    assert records.signed_header(self, header_a, x, y) != records.signed_header(
        self, header_b, x, y
    ), "attestation: headers agree"
    self._punish(header_a.task, header_a.node, header_a.phase, header_a.attempt, True)


@external
def excuse(
    members: DynArray[address, 11],
    seat: uint256,
    vote: IAttestationLedger.Vote,
    signature: IAttestationLedger.Signature,
):
    """
    @notice Anyone: shows that a member whom a settled task recorded as silent did vote, so that
            nobody loses reputation for a dissent, nor because the executor left a vote out. Within
            `ReputationLedger.window` blocks of the settlement; it is not paid.
    @dev What the vote says does not matter. It is public from now on: whoever signs one thing for
         the executor and another one here has equivocated.
    @param members The committee by seat.
    @param seat The member's seat.
    @param vote Its vote on the phase DURING or AFTER.
    @param signature Its signature.
    """
    assert vote.phase == DURING or vote.phase == AFTER, "attestation: not a vote on the run"
    assert seat < len(members), "attestation: no such seat"
    assert (
        votes.signer(votes.digest(self, vote), signature) == members[seat]
    ), "attestation: signer does not hold the seat"
    extcall IReputationLedger(REPUTATION).excuse(vote.task, members, seat)


@external
@view
def registry() -> address:
    """
    @notice The `NodeRegistry`, whose nodes sign and vote.
    @return Its address.
    """
    return REGISTRY


@external
@view
def reputation() -> address:
    """
    @notice The `ReputationLedger`.
    @return Its address.
    """
    return REPUTATION


@external
@view
def market() -> address:
    """
    @notice The `TaskMarket`, whose tasks are recorded.
    @return Its address.
    """
    return MARKET


@external
@view
def record(task: uint256, phase: uint8) -> (uint8, bytes32, uint8):
    """
    @notice The record of a task's phase.
    @param task The task's id.
    @param phase 1 BEFORE, 3 AFTER (2 DURING has one only if the committee refused there).
    @return Verdict (0 none, 2 affirming, 96 contraindicated), evidence root, number of votes.
    """
    packed: uint256 = staticcall ITaskMarket(MARKET).packed_record(task, phase)
    verdict: uint8 = CONTRAINDICATED if packed & 128 != 0 else AFFIRMING
    if packed == 0:
        verdict = 0
    return verdict, convert((packed >> 8) << 8, bytes32), convert(packed & 127, uint8)


@internal
def _punish(task: uint256, node: address, phase: uint8, attempt: uint8, headers: bool):
    assert staticcall INodeRegistry(REGISTRY).node_id(node) != 0, "attestation: not a node"
    fault: bytes32 = keccak256(abi_encode(task, node, phase, attempt, headers))
    assert not self.proven[fault], "attestation: already proven"
    self.proven[fault] = True
    extcall IReputationLedger(REPUTATION).penalise(task, node, EQUIVOCATION)
    extcall INodeRegistry(REGISTRY).slash(node, max_value(uint256), msg.sender, "EQUIVOCATION")
