"""Values that every part of a Node speaks: identifiers, the on-chain Task, parameters.

Addresses are 20 bytes, hashes and keys 32 bytes; hex strings exist only at the edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NewType

Address = NewType("Address", bytes)
TaskId = NewType("TaskId", int)
Commitment = NewType("Commitment", bytes)

ZERO_ADDRESS = Address(bytes(20))
ZERO_HASH = bytes(32)


class TaskState(IntEnum):
    """Life of a Task on chain (the low byte of its storage slot in ``TaskMarket``)."""

    POSTED = 1
    DRAWN = 2
    ACCEPTED = 3
    ADMITTED = 4
    SETTLED = 5
    FAILED = 6
    EXPIRED = 7

    @property
    def over(self) -> bool:
        """True when nothing can happen to the Task any more."""
        return self >= TaskState.SETTLED


class Phase(IntEnum):
    """When Evidence is asked for. DURING leaves no record of its own: AFTER carries its root."""

    BEFORE = 1
    DURING = 2
    AFTER = 3


class Verdict(IntEnum):
    """Tiers of draft-ietf-rats-ar4si that are in use here."""

    AFFIRMING = 2
    CONTRAINDICATED = 96


class NodeStatus(IntEnum):
    """Status of a Node in ``NodeRegistry``; only ACTIVE nodes can be drawn."""

    PENDING = 1
    ACTIVE = 2
    PAUSED = 3
    EXITING = 4
    EXITED = 5
    BARRED = 6


class RootClass(IntEnum):
    """What holds a Node's root key."""

    SOFTWARE = 1
    ZYMKEY = 2
    TPM2 = 3


@dataclass(frozen=True, slots=True)
class BlockRef:
    """One block of the chain. ``timestamp`` in seconds since 1970."""

    number: int
    hash: bytes
    timestamp: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """The struct that ``TaskMarket`` keeps only the hash of; folded from its events.

    Fees in wei, ``posted_at`` and ``step_at`` in blocks. ``executor`` is the leader of the
    claims until the Committee is drawn; ``ticket`` and ``beta`` are zero from then on, and
    ``root_x`` and ``root_y`` are the Executor's root key (P-256).
    """

    id: TaskId
    commitment: Commitment
    requester: Address
    posted_at: int
    executor_fee: int
    member_fee: int
    committee_size: int
    class_id: int
    executor: Address = ZERO_ADDRESS
    ticket: int = 0
    beta: bytes = ZERO_HASH
    committee: bytes = ZERO_HASH
    root_x: int = 0
    root_y: int = 0
    step_at: int = 0


@dataclass(frozen=True, slots=True)
class DeadlineClass:
    """Deadlines of one class of tasks, in blocks since the previous step."""

    accept_blocks: int
    admit_blocks: int
    finish_blocks: int


@dataclass(frozen=True, slots=True)
class Parameters:
    """Immutables of ``TaskMarket`` that the rules need. Windows in blocks, fees in wei."""

    chain_id: int
    market: Address
    ledger: Address
    entropy_delay: int
    claim_window: int
    draw_window: int
    lookahead: int
    posting_fee: int
    classes: tuple[DeadlineClass, ...]

    def entropy_block(self, task: Task) -> int:
        """The block whose prevrandao enters alpha."""
        return task.posted_at + self.entropy_delay

    def claim_end(self, task: Task) -> int:
        """The last block in which a claim is taken."""
        return self.entropy_block(task) + self.claim_window

    def draw_entropy_block(self, task: Task) -> int:
        """The block whose prevrandao enters the Committee's seed.

        Tasks share such blocks, a stride apart, so that the draw is not frozen without end.
        """
        stride = 2 * (self.lookahead + 1)
        return -(-(self.claim_end(task) + self.entropy_delay) // stride) * stride

    def draw_end(self, task: Task) -> int:
        """The last block in which the Committee can be drawn."""
        return self.draw_entropy_block(task) + self.draw_window

    def deadline(self, task: Task, state: TaskState) -> int:
        """The last block in which the next step of a Task in ``state`` is taken."""
        terms = self.classes[task.class_id]
        match state:
            case TaskState.POSTED:
                no_leader = task.executor == ZERO_ADDRESS
                return self.claim_end(task) if no_leader else self.draw_end(task)
            case TaskState.DRAWN:
                return task.step_at + terms.accept_blocks
            case TaskState.ACCEPTED:
                return task.step_at + terms.admit_blocks
            case TaskState.ADMITTED:
                return task.step_at + terms.finish_blocks
            case _:
                raise ValueError(f"a task that is {state.name} has no deadline")


def quorum_of(committee_size: int) -> int:
    """Votes needed for a record: two thirds of the Committee, rounded up."""
    return (2 * committee_size + 2) // 3


@dataclass(frozen=True, slots=True)
class Statement:
    """The root-signed header of one phase, without what the contract knows itself."""

    attempt: int
    nonce_root: bytes
    evidence_root: bytes
    session_key_hash: bytes
    r: int
    s: int


@dataclass(frozen=True, slots=True)
class Vote:
    """One member's EIP-712 vote. ``valid_until`` is a block; the signature is EIP-2098 compact."""

    task: TaskId
    phase: Phase
    attempt: int
    header: bytes
    verdict: Verdict
    valid_until: int
    member: Address
    r: bytes
    vs: bytes


@dataclass(frozen=True, slots=True)
class Ballot:
    """The votes that a record needs: one digest, a bitmap over seats, a signature per set bit."""

    valid_until: int
    voters: int
    signatures: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What ``NodeRegistry.node(address)`` says. Deposit in wei."""

    id: int
    address: Address
    status: NodeStatus
    root_class: RootClass
    root_public: bytes
    vrf_public: bytes
    hardware_id: bytes
    attestation_key: bytes
    contact_digest: bytes
    deposit: int
    tier: int
    engaged: bool
    fixed_at: int


@dataclass(frozen=True, slots=True)
class Record:
    """What ``AttestationLedger.record(task, phase)`` says."""

    verdict: Verdict
    evidence_root: bytes
    votes: int
