"""The borders of a Node: what the rules need from the world, as protocols.

Adapters implement them; a profile only picks which. Simulators in the tests implement the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from nodeclient.core.claims import Region
from nodeclient.core.events import BlockSeen, ChainEvent, ChainReorganised
from nodeclient.core.images import ImageKind, ImageRecord
from nodeclient.core.roothealth import RootHealth
from nodeclient.core.types import (
    Address,
    BlockRef,
    NodeRecord,
    Parameters,
    Phase,
    Record,
    TaskId,
    TaskState,
)

BlockGetter = Callable[[str], Awaitable[bytes]]
BlockPutter = Callable[[str, bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Order:
    """One transaction that the Node wants: ``key`` names it for ever, so it is sent once.

    ``contract`` is the deployment's name (``TaskMarket``), ``value`` in wei.
    """

    key: str
    contract: str
    function: str
    args: tuple[object, ...]
    value: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """A mined order."""

    order: str
    tx_hash: bytes
    block: int
    gas_used: int


class Journal(Protocol):
    """Where the sender remembers what it signed, before it sends it."""

    def load(self, key: str) -> tuple[int, bytes, bytes] | None:
        """(nonce, tx hash, raw transaction) of the last attempt for this order key."""

    def save(self, key: str, nonce: int, tx_hash: bytes, raw: bytes) -> None:
        """Durable before it returns. Replaces an earlier attempt of the same key."""

    def next_nonce(self, chain_nonce: int) -> int:
        """The lowest nonce at or above ``chain_nonce`` that no unfinished order holds."""

    def finish(self, key: str) -> None:
        """The order is mined or given up; its nonce is no longer reserved."""


class ChainReader(Protocol):
    """Views of the deployment. Every method may raise ``ChainUnavailable``."""

    async def parameters(self) -> Parameters: ...
    async def head(self) -> BlockRef: ...
    async def block_header(self, number: int) -> tuple[bytes, bytes]:
        """(RLP header, prevrandao) of one block; the RLP's keccak is the block hash."""

    async def node(self, address: Address) -> NodeRecord | None: ...
    async def claim_weight(self, address: Address, posted_at: int) -> int:
        """Weight of a ticket; 0 when the Node is not eligible."""

    async def ticket_of(self, beta: bytes, address: Address, posted_at: int) -> int:
        """The Ticket that the market would compute for an ECVRF output; the lowest leads."""

    async def total_weight(self) -> int: ...
    async def reputation(self, address: Address) -> int: ...
    async def is_approved(self, image: bytes, kind: ImageKind) -> bool:
        """Whether an image may be used now, and as this: a RUNTIME runs anybody's function."""

    async def image(self, image: bytes) -> ImageRecord | None:
        """The registry's entry of an image; None when nobody ever approved it."""

    async def record(self, task: TaskId, phase: Phase) -> Record | None: ...
    async def is_spent(self, requester: Address, number: int) -> bool:
        """Whether an account has posted a Task under a number."""

    async def task_state(self, task: TaskId) -> TaskState | None: ...


class ChainWatcher(Protocol):
    """The chain's events, complete and in order, from a cursor on."""

    def events(
        self, after_block: int
    ) -> AsyncIterator[ChainEvent | BlockSeen | ChainReorganised]: ...


class ChainSender(Protocol):
    """Executes orders: simulates, journals, sends, confirms; never twice for one key."""

    async def execute(self, order: Order) -> Receipt:
        """Raises ``Reverted`` (with the contract's reason) or ``ChainUnavailable``."""

    def forget(self) -> None:
        """Overwrite the account's key: nothing is signed any more."""


class BlockStore(Protocol):
    """Content-addressed blocks."""

    def put(self, cid: str, block: bytes) -> None: ...
    def get(self, cid: str) -> bytes: ...
    def has(self, cid: str) -> bool: ...
    def remove(self, cid: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Session:
    """A booted Machine: keys born in it, what the Pi measured, how to find it again."""

    hpke: bytes
    signing: bytes
    image: bytes
    resume: bytes


class Machine(Protocol):
    """One Machine behind its Pi. Every method may raise ``MachineError``."""

    async def boot(self, boot_count: int) -> Session: ...
    async def resume(self, resume: bytes) -> Session:
        """Raises also ``MachineErased``: that boot's memory is or was being erased."""

    async def call(self, method: str, body: object) -> object: ...
    async def erase(self, resume: bytes, memory: tuple[Region, ...], quoted: bool, /) -> bytes:
        """Have the RAM of one boot overwritten: an encoded ``ErasureProof``, empty where none can
        be had. ``memory`` is the map that this boot's Evidence stated; ``quoted``: a TPM vouched
        for it, so a proof without a quote is none. Harmless twice. Cancelled, it ends soon; the
        Machine may be on then."""

    async def power_off(self) -> None: ...


class Root(Protocol):
    """A hardware root of trust (or its software stand-in). The root key never leaves.

    Every method may raise ``RootError``; it may be called from any thread, one call at a time is
    served.
    """

    @property
    def class_id(self) -> int:
        """``core.types.RootClass``."""

    @property
    def simulated(self) -> bool:
        """True where no hardware that protects a key stands behind it."""

    def public_key(self) -> bytes:
        """P-256 point X‖Y, 64 bytes."""

    def hardware_id(self) -> bytes:
        """32 bytes that name the device, the same for every key in it."""

    def sign(self, digest: bytes) -> bytes:
        """ECDSA over a 32-byte digest, r‖s, low s; verified before it is given away."""

    def random(self, size: int) -> bytes:
        """``size`` bytes of the device's generator."""

    def seal(self, plain: bytes, label: str) -> bytes:
        """Bytes that only this root opens, and only under the same label."""

    def unseal(self, sealed: bytes, label: str) -> bytes:
        """What ``seal`` was given. Raises ``UnsealError`` for anything else."""

    def health(self) -> RootHealth:
        """Ask the device how it is, now. What a device says by an error stands in the answer;
        ``RootError`` only for what says nothing about the device."""

    def endorsement(self) -> bytes:
        """Deterministic CBOR: what those look at who admit a Node. Public, proves nothing alone."""

    def close(self) -> None:
        """Forget what is in memory, let go of the device. Every later call raises ``RootError``.
        Harmless twice."""
