"""What the chain tells: logs of the deployment's contracts, heads, reorganisations."""

from __future__ import annotations

from dataclasses import dataclass

from nodeclient.core.types import Address, BlockRef, Commitment, NodeStatus, TaskId


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
    """Executor and Committee are fixed; the order of ``members`` is the order of seats.

    ``accepted``: the Executor drew itself, and accepted in the same transaction. ``root_x`` and
    ``root_y``: the Executor's root key, P-256.
    """

    executor: Address
    members: tuple[Address, ...]
    accepted: bool
    root_x: int
    root_y: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAccepted(TaskEvent):
    """The Executor said that it holds the TaskSpec."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAdmitted(TaskEvent):
    """The BEFORE record is on chain."""

    evidence_root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSettled(TaskEvent):
    """The AFTER record is on chain, everybody is paid. ``voters``: bitmap of the seats that
    stand in it; the others are unpaid and count as silent.
    """

    evidence_root: bytes
    voters: int


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
class NodeAdmitted(ChainEvent):
    """A Node's hardware was checked; ``maker`` made its root of trust."""

    node: Address
    maker: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareBarred(ChainEvent):
    """A vote barred one piece of hardware. ``holder``: its Node, or an account that is none."""

    holder: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class MakerBarred(ChainEvent):
    """A vote barred all hardware of a maker."""

    maker: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRevoked(ChainEvent):
    """An image may not be used any more."""

    image: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLoaded(ChainEvent):
    """A Node states that it booted or started an image."""

    node: Address
    image: bytes
