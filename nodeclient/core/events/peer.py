"""What other Nodes, and the Node's own operator, ask."""

from __future__ import annotations

from dataclasses import dataclass

from nodeclient.core.incidents import Kind
from nodeclient.core.types import Address, Commitment, Phase, Statement, Vote


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
class IncidentReported(PeerEvent):
    """A Node tells a member what it noticed on its own Machine, and whether it gave the boot up.

    ``phase`` and ``attempt`` name the boot.
    """

    commitment: Commitment
    phase: Phase
    attempt: int
    kind: Kind
    text: str
    ended: bool


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
