# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Attestation records of tasks
@license AGPL-3.0-only
@notice Per task one record BEFORE and one AFTER: verdict, evidence root, votes. This is all that
        stays on chain of a task, and nothing in it says what ran or on which data.
@dev    AN AFFIRMING RECORD NEEDS TWO THINGS: a header signed by the hardware root of the executor's
        node (P-256), and a quorum of votes for the digest of exactly that header. A contraindicated
        record needs the quorum only: a node that answers nothing signs no header.

        ONE SLOT A RECORD. The evidence root has 31 bytes (its last byte is zero on and off chain);
        the free byte holds the number of votes and, in its highest bit, whether the verdict is
        CONTRAINDICATED. 2^124 work for a collision of roots is enough. An affirming AFTER record
        stands in the market, in the slot that the settled task needs no more: 22,100 gas less.

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
from .modules import votes

implements: IAttestationLedger

# Verdicts use the tiers of AR4SI (draft-ietf-rats-ar4si).
AFFIRMING: constant(uint8) = 2
CONTRAINDICATED: constant(uint8) = 96
BEFORE: constant(uint8) = 1
AFTER: constant(uint8) = 3
EQUIVOCATION: constant(uint8) = 8
HEADER_DOMAIN: constant(bytes32) = keccak256("sealrun/attestation-header/v1")

# @notice The `NodeRegistry`.
registry: public(immutable(address))
# @notice The `ReputationLedger`.
reputation: public(immutable(address))

# @notice May call `connect` once; no other power.
owner: public(address)
# @notice The `TaskMarket`.
market: public(address)

records: HashMap[uint256, uint256]
proven: HashMap[bytes32, bool]


@deploy
def __init__(registry_: address, reputation_: address):
    """
    @notice Fixes the neighbours; the deployer may call `connect` once.
    @param registry_ The `NodeRegistry`.
    @param reputation_ The `ReputationLedger`.
    """
    assert registry_.is_contract and reputation_.is_contract, "attestation: not a contract"
    registry = registry_
    reputation = reputation_
    self.owner = msg.sender


@external
def connect(market: address):
    """
    @notice Names the market; once, by the deployer.
    @param market The `TaskMarket`.
    """
    assert msg.sender == self.owner, "attestation: only the owner"
    assert self.market == empty(address), "attestation: already connected"
    assert market.is_contract, "attestation: not a contract"
    assert (
        staticcall ITaskMarket(market).attestation() == self
    ), "attestation: market of another ledger"
    self.market = market
    log IAttestationLedger.Connected(market=market)


@external
def attest(
    task: uint256,
    commitment: bytes32,
    node: address,
    phase: uint8,
    committee: DynArray[address, 11],
    quorum: uint256,
    statement: IAttestationLedger.Statement,
    ballot: IAttestationLedger.Ballot,
):
    """
    @notice Market only: checks and stores an affirming record; reverts if anything is wrong.
    @param task The task's id.
    @param commitment Its commitment.
    @param node Its executor, whose root must have signed.
    @param phase 1 BEFORE or 3 AFTER.
    @param committee The members by seat, as drawn.
    @param quorum Votes needed.
    @param statement The header's own part and its signature.
    @param ballot Votes for that header.
    """
    assert msg.sender == self.market, "attestation: only the market"
    assert ballot.verdict == AFFIRMING, "attestation: verdict does not affirm"
    assert (
        convert(statement.evidence_root, uint256) & 255 == 0
    ), "attestation: evidence root has 31 bytes"
    header: bytes32 = self._header(
        IAttestationLedger.Header(
            task=task,
            commitment=commitment,
            node=node,
            phase=phase,
            attempt=statement.attempt,
            nonce_root=statement.nonce_root,
            evidence_root=statement.evidence_root,
            session_key_hash=statement.session_key_hash,
            r=statement.r,
            s=statement.s,
        )
    )
    self._check_root(header, node, statement.r, statement.s)
    number: uint256 = self._count(
        task, phase, statement.attempt, header, committee, quorum, ballot
    )
    # AFTER: the market keeps it, see the title.
    if phase == BEFORE:
        self.records[task * 4 + convert(phase, uint256)] = (
            convert(statement.evidence_root, uint256) | number
        )
    log IAttestationLedger.AttestationRecorded(
        task=task,
        phase=phase,
        verdict=AFFIRMING,
        evidence_root=statement.evidence_root,
        header=header,
        voters=ballot.voters,
    )


@external
def dissent(
    task: uint256,
    phase: uint8,
    attempt: uint8,
    header: bytes32,
    committee: DynArray[address, 11],
    quorum: uint256,
    ballot: IAttestationLedger.Ballot,
):
    """
    @notice Market only: checks and stores a contraindicated record.
    @param task The task's id.
    @param phase 1 BEFORE, 2 DURING or 3 AFTER.
    @param attempt The attempt that the votes are about.
    @param header Digest of its header, or zero if there was none.
    @param committee The members by seat, as drawn.
    @param quorum Votes needed.
    @param ballot The votes.
    """
    assert msg.sender == self.market, "attestation: only the market"
    assert ballot.verdict == CONTRAINDICATED, "attestation: verdict does not contraindicate"
    number: uint256 = self._count(task, phase, attempt, header, committee, quorum, ballot)
    self.records[task * 4 + convert(phase, uint256)] = 128 | number
    log IAttestationLedger.AttestationRecorded(
        task=task,
        phase=phase,
        verdict=CONTRAINDICATED,
        evidence_root=empty(bytes32),
        header=header,
        voters=ballot.voters,
    )


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
    node: address = votes.signer(votes.digest(vote_a), signature_a)
    assert node == votes.signer(
        votes.digest(vote_b), signature_b
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
    digest_a: bytes32 = self._header(header_a)
    digest_b: bytes32 = self._header(header_b)
    assert digest_a != digest_b, "attestation: headers agree"
    self._check_root(digest_a, header_a.node, header_a.r, header_a.s)
    self._check_root(digest_b, header_b.node, header_b.r, header_b.s)
    self._punish(header_a.task, header_a.node, header_a.phase, header_a.attempt, True)


@external
@view
def record(task: uint256, phase: uint8) -> (uint8, bytes32, uint8):
    """
    @notice The record of a task's phase.
    @param task The task's id.
    @param phase 1 BEFORE, 3 AFTER (2 DURING has one only if the committee refused there).
    @return Verdict (0 none, 2 affirming, 96 contraindicated), evidence root, number of votes.
    """
    # A higher number would read the record of another task.
    assert phase >= BEFORE and phase <= AFTER, "attestation: unknown phase"
    packed: uint256 = self.records[task * 4 + convert(phase, uint256)]
    root: bytes32 = empty(bytes32)
    if packed == 0:
        number: uint8 = 0
        if phase == AFTER:
            root, number = staticcall ITaskMarket(self.market).final_record(task)
        return AFFIRMING if number != 0 else 0, root, number
    verdict: uint8 = CONTRAINDICATED if packed & 128 != 0 else AFFIRMING
    root = convert((packed >> 8) << 8, bytes32)
    return verdict, root, convert(packed & 127, uint8)


@internal
@view
def _header(header: IAttestationLedger.Header) -> bytes32:
    """
    @dev What the hardware root signs; without r and s.
    """
    return sha256(
        abi_encode(
            HEADER_DOMAIN,
            chain.id,
            self,
            header.task,
            header.commitment,
            header.node,
            header.phase,
            header.attempt,
            header.nonce_root,
            header.evidence_root,
            header.session_key_hash,
        )
    )


@internal
@view
def _check_root(digest: bytes32, node: address, r: uint256, s: uint256):
    x: uint256 = 0
    y: uint256 = 0
    x, y = staticcall INodeRegistry(registry).root_key(node)
    assert p256.verify(digest, r, s, x, y), "attestation: not signed by the node's root"


@internal
@view
def _count(
    task: uint256,
    phase: uint8,
    attempt: uint8,
    header: bytes32,
    committee: DynArray[address, 11],
    quorum: uint256,
    ballot: IAttestationLedger.Ballot,
) -> uint256:
    assert convert(ballot.valid_until, uint256) >= block.number, "attestation: votes are out of date"
    signed: bytes32 = votes.digest(
        IAttestationLedger.Vote(
            task=task,
            phase=phase,
            attempt=attempt,
            header=header,
            verdict=ballot.verdict,
            valid_until=ballot.valid_until,
        )
    )
    number: uint256 = votes.count(signed, committee, ballot.voters, ballot.signatures)
    assert number >= quorum, "attestation: no quorum"
    return number


@internal
def _punish(task: uint256, node: address, phase: uint8, attempt: uint8, headers: bool):
    assert staticcall INodeRegistry(registry).node_id(node) != 0, "attestation: not a node"
    fault: bytes32 = keccak256(abi_encode(task, node, phase, attempt, headers))
    assert not self.proven[fault], "attestation: already proven"
    self.proven[fault] = True
    extcall IReputationLedger(reputation).penalise(task, node, EQUIVOCATION)
    extcall INodeRegistry(registry).slash(node, max_value(uint256), msg.sender, "EQUIVOCATION")
