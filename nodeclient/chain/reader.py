"""All views that the rules need, in one place: implements `nodeclient.ports.ChainReader`."""

from __future__ import annotations

from nodeclient.chain.deployment import Deployment
from nodeclient.chain.errors import CallReverted, ChainUnavailable
from nodeclient.chain.headers import fetch_header
from nodeclient.chain.images import ImageRegistry
from nodeclient.chain.ledger import AttestationLedger
from nodeclient.chain.market import TaskMarket
from nodeclient.chain.registry import NodeRegistry
from nodeclient.chain.reputation import ReputationLedger
from nodeclient.chain.rpc import Rpc, blob, quantity
from nodeclient.core.images import ImageKind, ImageRecord
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


class Reader:
    """Every method may raise `ChainUnavailable`."""

    def __init__(self, rpc: Rpc, deployment: Deployment) -> None:
        """Raises `DeploymentInvalid` when a contract is missing."""
        self._rpc = rpc
        self._chain_id = deployment.chain_id
        self.registry = NodeRegistry(rpc, deployment)
        self.market = TaskMarket(rpc, deployment)
        self.ledger = AttestationLedger(rpc, deployment)
        self.ledger_of_reputation = ReputationLedger(rpc, deployment)
        self.images = ImageRegistry(rpc, deployment)
        self._parameters: Parameters | None = None

    async def parameters(self) -> Parameters:
        """The market's immutables; asked for once."""
        if self._parameters is None:
            self._parameters = await self.market.parameters(self._chain_id, self.ledger.address)
        return self._parameters

    async def head(self) -> BlockRef:
        """The latest block."""
        block = await self._rpc.block("latest")
        if block is None:
            raise ChainUnavailable("the RPC has no latest block", "check the node")
        try:
            return BlockRef(
                quantity(block["number"]), blob(block["hash"], 32), quantity(block["timestamp"])
            )
        except KeyError as error:
            raise ChainUnavailable("the RPC's block lacks a field", "check the RPC URL") from error

    async def block_header(self, number: int) -> tuple[bytes, bytes]:
        """(RLP header, prevrandao) of exactly that block; the RLP's keccak is the block hash."""
        return await fetch_header(self._rpc, number)

    async def node(self, address: Address) -> NodeRecord | None:
        """What the registry says of a Node; None: never registered."""
        return await self.registry.node(address)

    async def claim_weight(self, address: Address, posted_at: int) -> int:
        """Weight of a Ticket for a Task posted at that block; 0: not eligible."""
        try:
            return await self.registry.claim_weight(address, posted_at)
        except CallReverted:
            return 0

    async def ticket_of(self, beta: bytes, address: Address, posted_at: int) -> int:
        """The Ticket of an ECVRF output as the market computes it."""
        return await self.market.ticket_of(beta, address, posted_at)

    async def unit(self) -> int:
        """The smallest Deposit of an ACTIVE Node, in wei."""
        return await self.registry.unit()

    async def total_weight(self) -> int:
        """Weight of all ACTIVE Nodes."""
        return await self.registry.total_weight()

    async def reputation(self, address: Address) -> int:
        """0 to 10,000 basis points."""
        return await self.ledger_of_reputation.reputation(address)

    async def is_approved(self, image: bytes, kind: ImageKind) -> bool:
        """Whether an image may run now, as what it was approved for and nothing else."""
        return await self.images.is_approved(image, kind)

    async def image(self, image: bytes) -> ImageRecord | None:
        """The registry's entry of an image; None when nobody ever approved it."""
        return await self.images.image(image)

    async def record(self, task: TaskId, phase: Phase) -> Record | None:
        """The record of a phase; None as long as there is none."""
        return await self.ledger.record(task, phase)

    async def is_spent(self, requester: Address, number: int) -> bool:
        """Whether an account has posted a Task under a number."""
        return await self.market.is_spent(requester, number)

    async def task_state(self, task: TaskId) -> TaskState | None:
        """Where a Task stands; None: no such Task."""
        return await self.market.state(task)
