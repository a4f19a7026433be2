"""What became of the Node's own actions."""

from __future__ import annotations

from dataclasses import dataclass

from nodeclient.core.incidents import Kind
from nodeclient.core.types import Address, Commitment, Phase, Statement, Vote


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
class IncidentNoticed(OutcomeEvent):
    """The Pi noticed something on its own Machine. ``at`` in seconds since 1970; ``text`` is for
    people."""

    kind: Kind
    text: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentHandled(OutcomeEvent):
    """What was ordered about the incident of that number is done."""

    number: int


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
    """One answer during the run; an empty ``evidence_root`` means silence. ``at``: milliseconds of
    the member's own clock."""

    nonce: bytes
    evidence_root: bytes
    reasons: tuple[str, ...]
    at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionDeclined(OutcomeEvent):
    """The Executor says that its Machine does not run this Task now. ``asked``, ``told``:
    milliseconds of the member's own clock."""

    asked: int
    told: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesBarred(OutcomeEvent):
    """These of a Task's Nodes, and no others, are barred by vote. ``at``: the block."""

    nodes: tuple[Address, ...]
    at: int


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
class OutcomeDenied(OutcomeEvent):
    """So many members keep saying that they have nothing for this Node that no quorum is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultOpened(OutcomeEvent):
    """The result lies in the receiver's folder."""

    path: str
