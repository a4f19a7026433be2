"""Past facts that drive a Node. Frozen; named in the past tense with the contracts' nouns.

Three sources: the chain (``ChainEvent``), other Nodes (``PeerEvent``), own adapters reporting what
became of an action (``OutcomeEvent``). Chance and clocks reach the rules only inside events.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodeclient.core.types import (
    Address,
    BlockRef,
    Commitment,
    NodeStatus,
    Phase,
    Statement,
    TaskId,
    Verdict,
    Vote,
)

# ------------------------------------------------------------------------------ from the chain


@dataclass(frozen=True, slots=True)
class BlockSeen:
    """The head moved. Comes after every event of the blocks up to and including it."""

    block: BlockRef


@dataclass(frozen=True, slots=True)
class ChainReorganised:
    """Blocks above ``to_block`` are gone; events above it will be told again."""

    to_block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainEvent:
    """A log of one of the deployment's contracts."""

    block: BlockRef
    log_index: int
    tx_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEvent(ChainEvent):
    """A log of ``TaskMarket`` about one Task."""

    task: TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPosted(TaskEvent):
    """A requester posted a Task; fees in wei."""

    requester: Address
    commitment: Commitment
    executor_fee: int
    member_fee: int
    committee_size: int
    class_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskClaimed(TaskEvent):
    """A Node leads with this ticket."""

    leader: Address
    ticket: int
    beta: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitteeDrawn(TaskEvent):
    """Executor and Committee are fixed; the order of ``members`` is the order of seats."""

    executor: Address
    members: tuple[Address, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAccepted(TaskEvent):
    """The Executor said that it holds the TaskSpec."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAdmitted(TaskEvent):
    """The BEFORE record is on chain."""

    evidence_root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSettled(TaskEvent):
    """The AFTER record is on chain, everybody is paid."""

    evidence_root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailed(TaskEvent):
    """The Task failed for a cause of ``ReputationLedger``'s list; the fees went back."""

    cause: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskExpired(TaskEvent):
    """Nobody could be drawn in time; the fees went back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRegistered(ChainEvent):
    """A Node registered."""

    node: Address
    node_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactPublished(ChainEvent):
    """A Node's contact record (bytes of ``nodeclient.p2p.contact``), root-signed."""

    node: Address
    contact: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChanged(ChainEvent):
    """A Node's status in the registry changed."""

    node: Address
    status: NodeStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRevoked(ChainEvent):
    """An image hash is no longer approved."""

    image: bytes


# --------------------------------------------------------------------------- from other Nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerEvent:
    """A request of an authenticated peer. ``request`` names the answer that it waits for."""

    sender: Address
    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentAsked(PeerEvent):
    """Somebody asks this Node, as data owner, to agree to a TaskSpec.

    ``reasons`` is the owner policy's answer, computed by the adapter that knows the policy and
    the uses left; empty means permitted.
    """

    commitment: Commitment
    spec: bytes
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BriefReceived(PeerEvent):
    """The opening of a commitment, with the owners' consents, already checked against both."""

    commitment: Commitment
    spec: bytes
    consents: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NonceAsked(PeerEvent):
    """The Executor asks a member for its nonce; ``fresh`` is used if it is the first."""

    commitment: Commitment
    phase: Phase
    attempt: int
    fresh: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AppraisalAsked(PeerEvent):
    """The Executor shows a member the Evidence of a phase and asks for its vote."""

    commitment: Commitment
    phase: Phase
    statement: Statement
    evidence: bytes
    nonces: tuple[tuple[Address, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteReceived(PeerEvent):
    """A fellow member's contraindicated vote, its signature already checked."""

    commitment: Commitment
    vote: Vote


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyOffered(PeerEvent):
    """A data owner hands the Executor a content key sealed to the Machine's session key."""

    commitment: Commitment
    cid: str
    sealed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultAnnounced(PeerEvent):
    """The Executor says that a result for this Node exists."""

    commitment: Commitment


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOrdered(PeerEvent):
    """The Node's own operator orders a Task. Fees in wei."""

    commitment: Commitment
    spec: bytes
    committee_size: int
    class_id: int
    executor_fee: int
    member_fee: int
    post: bool = True


# ------------------------------------------------------------------- outcomes of own actions


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeEvent:
    """What became of an action; closes its outbox row in the same transaction."""

    commitment: Commitment


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionMined(OutcomeEvent):
    """The order was executed. What it changed comes as a ``ChainEvent`` of its own."""

    order: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionRejected(OutcomeEvent):
    """Simulation or execution reverted; ``reason`` is the contract's string."""

    order: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketEvaluated(OutcomeEvent):
    """This Node's ticket; ``claim_at`` is None when the Node is not eligible."""

    ticket: int
    claim_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskVetted(OutcomeEvent):
    """The Executor looked whether it can and may run the TaskSpec; empty reasons: it can."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineBooted(OutcomeEvent):
    """The Machine runs a fresh Agent. ``resume`` is the root-sealed record to find it again."""

    phase: Phase
    attempt: int
    session_hpke: bytes
    session_signing: bytes
    resume: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineLost(OutcomeEvent):
    """The Machine or its session is gone, or a step on it failed for good.

    ``resume`` names the boot that is lost; empty: a boot that did not come to be.
    """

    reason: str
    resume: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPrepared(OutcomeEvent):
    """The Machine holds TaskSpec and runtime image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoncesCollected(OutcomeEvent):
    """At least a quorum of members gave their nonces."""

    phase: Phase
    attempt: int
    nonces: tuple[tuple[Address, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceTaken(OutcomeEvent):
    """The Machine answered and the root signed the header. Evidence lies under its root."""

    phase: Phase
    statement: Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class BallotCollected(OutcomeEvent):
    """A quorum of affirming votes over one digest."""

    phase: Phase
    verdict: Verdict
    valid_until: int
    voters: int
    signatures: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDelivered(OutcomeEvent):
    """The Agent took a content key."""

    cid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRan(OutcomeEvent):
    """The function ended and enough questions were answered. ``outcome`` is canonical CBOR."""

    outcome: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineCleaned(OutcomeEvent):
    """The Agent cleaned and answers no more; the transcript is signed by the old session key.

    ``during``: (member, nonce, evidence root) of every question that was answered.
    """

    transcript: bytes
    during: tuple[tuple[Address, bytes, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionDone(OutcomeEvent):
    """An action without a result of its own is complete."""

    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceAppraised(OutcomeEvent):
    """A member's own appraisal of a phase's Evidence, and its signature over the vote."""

    phase: Phase
    vote: Vote
    evidence_root: bytes
    reasons: tuple[str, ...]
    summary: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BeforeLearned(OutcomeEvent):
    """A member that was late for BEFORE holds the Evidence that the record on chain names."""

    evidence_root: bytes
    summary: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionDrawn(OutcomeEvent):
    """A member is about to ask this nonce: kept first, so that it knows its own questions."""

    nonce: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionAnswered(OutcomeEvent):
    """One answer during the run; an empty ``evidence_root`` means silence."""

    nonce: bytes
    evidence_root: bytes
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DissentSigned(OutcomeEvent):
    """The member's contraindicated vote about a phase without a header of its own."""

    vote: Vote


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentsGathered(OutcomeEvent):
    """Every owner agreed."""

    consents: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRefused(OutcomeEvent):
    """An owner said no, or could not be reached in time."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineQueried(OutcomeEvent):
    """A broker's own appraisal of the Machine; empty reasons: it affirms."""

    session_hpke: bytes
    evidence_root: bytes
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysSealed(OutcomeEvent):
    """Content keys sealed to the session key: (cid, sealed bytes)."""

    keys: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeLearned(OutcomeEvent):
    """A quorum of members says how the run ended, and which Capsule, if any, is the result."""

    outcome: bytes
    owner: bytes
    name: str = ""
    cid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultOpened(OutcomeEvent):
    """The result lies in the receiver's folder."""

    path: str


Event = BlockSeen | ChainReorganised | ChainEvent | PeerEvent | OutcomeEvent
