"""Orders that the rules give to the adapters. Frozen; named as imperatives.

Every action but ``Reply`` is an outbox row: written in the transaction that decided it, executed
until an ``OutcomeEvent`` closes it, executed again after a restart. Executing twice must
therefore be harmless; each adapter says in its docstring why it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodeclient.core.incidents import Kind
from nodeclient.core.responses import Response
from nodeclient.core.types import Address, Ballot, Commitment, Phase, Statement, Task, Vote


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Base of all actions; ``commitment`` names the case that it belongs to."""

    commitment: Commitment


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(Action):
    """Answer a waiting peer. Lost at a restart: the peer asks again and gets the same answer."""

    request: int
    body: object = None
    refusal: str = ""


# ------------------------------------------------------------------------------- transactions


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitPost(Action):
    """Post the hash of the TaskSpec under the requester's number. Fees in wei."""

    spec_hash: bytes
    number: int
    committee_size: int
    class_id: int
    executor_fee: int
    member_fee: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitClaim(Action):
    """Claim with this Node's ECVRF proof. ``at`` tells later tries from the first."""

    task: Task
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitDraw(Action):
    """Draw the Committee. ``accept``: this Node leads, and takes the Task with the draw. ``at``
    tells later tries from the first."""

    task: Task
    at: int
    accept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitAccept(Action):
    """Say that the TaskSpec is here."""

    task: Task


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitRecord(Action):
    """``admit`` (BEFORE) or ``finish`` (AFTER)."""

    task: Task
    members: tuple[Address, ...]
    phase: Phase
    statement: Statement
    ballot: Ballot


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitRefuse(Action):
    """Bring a quorum of contraindicated votes."""

    task: Task
    members: tuple[Address, ...]
    phase: Phase
    attempt: int
    header: bytes
    ballot: Ballot


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitExcuse(Action):
    """Show on chain that this member voted, though the settlement counted it as silent."""

    members: tuple[Address, ...]
    seat: int
    vote: Vote


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitExpire(Action):
    """End a Task whose deadline is over. ``at`` tells later tries from the first."""

    task: Task
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitFailBarred(Action):
    """End a Task whose Nodes a vote has barred. ``at`` tells later tries from the first."""

    task: Task
    members: tuple[Address, ...]
    at: int


# ------------------------------------------------------------------------------ the Executor


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateTicket(Action):
    """Compute the ECVRF output over alpha and when to claim."""

    task: Task


@dataclass(frozen=True, slots=True, kw_only=True)
class VetTask(Action):
    """Look whether this Node can and may run the TaskSpec."""

    spec: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BootMachine(Action):
    """Boot from an approved image with a fresh boot secret."""

    phase: Phase
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareTask(Action):
    """Give the Agent TaskSpec, context and runtime image."""

    task: Task
    spec: bytes
    resume: bytes
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectNonces(Action):
    """Ask the Committee for its nonces until a quorum gave them."""

    task: Task
    members: tuple[Address, ...]
    phase: Phase
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeEvidence(Action):
    """Put the folded nonces to the Agent and sign the header with the root key."""

    task: Task
    phase: Phase
    attempt: int
    nonces: tuple[tuple[Address, bytes], ...]
    resume: bytes
    session_hash: bytes
    during: tuple[tuple[Address, bytes, bytes], ...] = ()
    transcript: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectVotes(Action):
    """Show Evidence to the members that gave nonces until a quorum affirmed."""

    task: Task
    members: tuple[Address, ...]
    phase: Phase
    statement: Statement
    nonces: tuple[tuple[Address, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverKey(Action):
    """Hand a sealed content key to the Agent."""

    cid: str
    sealed: bytes
    resume: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchMachine(Action):
    """Follow the Agent until the function ended and DURING is over."""

    task: Task
    resume: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorMachine(Action):
    """Ask the own Machine at own times, from the Task's arrival on it until it is cleaned."""

    task: Task
    spec: bytes
    resume: bytes
    session_hash: bytes
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportIncident(Action):
    """Tell the Committee what happened on the own Machine, and whether that boot was given up.

    ``number`` tells incidents of one Task apart.
    """

    members: tuple[Address, ...]
    phase: Phase
    attempt: int
    number: int
    kind: Kind
    text: str
    ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RespondToIncident(Action):
    """Do to the own Machine what the operator's table says, in order."""

    resume: bytes
    number: int
    kind: Kind
    text: str
    responses: tuple[Response, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanMachine(Action):
    """Let the Agent clean; keep its signed transcript; erase the RAM; power the Machine off.

    ``before``: root of the Evidence whose memory map says what to erase.
    """

    resume: bytes
    before: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerOff(Action):
    """End whatever runs on the Machine for this Task."""

    resume: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnounceResults(Action):
    """Tell each receiver that its result exists."""

    task: Task
    spec: bytes


# ------------------------------------------------------------------------------ the Committee


@dataclass(frozen=True, slots=True, kw_only=True)
class AppraiseEvidence(Action):
    """Appraise a phase's Evidence and sign the vote."""

    task: Task
    spec: bytes
    members: tuple[Address, ...]
    phase: Phase
    statement: Statement
    evidence: bytes
    nonces: tuple[tuple[Address, bytes], ...]
    own_nonce: bytes
    asked: tuple[bytes, ...]
    answers: tuple[tuple[bytes, bytes], ...]
    before: bytes
    findings: tuple[str, ...]
    longest: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnBefore(Action):
    """Fetch the Evidence behind the BEFORE record and hold it against the root on chain."""

    task: Task
    evidence_root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AskDuring(Action):
    """Put questions to the Executor's Machine at own, memoryless times."""

    task: Task
    spec: bytes
    before: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignDissent(Action):
    """Sign a contraindicated vote about a phase."""

    task: Task
    phase: Phase
    attempt: int
    header: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareVote(Action):
    """Send a contraindicated vote to the fellow members."""

    members: tuple[Address, ...]
    vote: Vote


# ------------------------------------------------------------- data owners, requesters, receivers


@dataclass(frozen=True, slots=True, kw_only=True)
class SignConsent(Action):
    """Countersign a commitment. Harmless twice: the signature covers the same bytes."""

    request: int
    cids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryMachine(Action):
    """Appraise the Executor's Machine over the owner's own nonce and policy. ``at`` tells the
    question after a reorganisation from the one before it."""

    task: Task
    spec: bytes
    evidence_root: bytes
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SealKeys(Action):
    """Seal this owner's content keys to the session key."""

    task: Task
    cids: tuple[str, ...]
    session_hpke: bytes
    evidence_root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SendKeys(Action):
    """Send the journalled bytes to the Executor."""

    executor: Address
    keys: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WarnOwner(Action):
    """Tell the owner: a Task failed after release, the Capsules count as exposed."""

    cids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherConsents(Action):
    """Ask every data owner of the TaskSpec."""

    spec: bytes
    committee_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendBrief(Action):
    """Send the TaskSpec, sealed, to Executor and members; repeated until the Task moves on."""

    task: Task
    executor: Address
    members: tuple[Address, ...]
    spec: bytes
    consents: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnOutcome(Action):
    """Learn from the Committee how the run ended, and which Capsule is this Node's result."""

    task: Task
    members: tuple[Address, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchResult(Action):
    """Fetch this Node's RESULT Capsule and open it. ``owner`` is the session key that signed it."""

    task: Task
    members: tuple[Address, ...]
    name: str
    cid: str
    owner: bytes
