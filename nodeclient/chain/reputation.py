"""`ReputationLedger`: what a Node has earned."""

from __future__ import annotations

from dataclasses import dataclass

from nodeclient.chain.view import Contract
from nodeclient.core.types import Address


@dataclass(frozen=True, slots=True)
class History:
    """The beta score's two counters as stored, and the block up to which they are decayed."""

    alpha: int
    beta: int
    updated_at: int


class ReputationLedger(Contract):
    """Views of `ReputationLedger`."""

    NAME = "ReputationLedger"

    async def reputation(self, node: Address) -> int:
        """0 to 10,000 basis points, decayed until now."""
        return int(await self.view("reputation", node))

    async def factor_at(self, node: Address, block: int) -> int:
        """The factor in the Ticket of a Task posted at `block`, in basis points."""
        return int(await self.view("factor_at", node, block))

    async def credit(self, node: Address) -> int:
        """Fees earned and not withdrawn, in wei."""
        return int(await self.view("credit", node))

    async def history(self, node: Address) -> History:
        """The stored counters."""
        return History(*await self.view("history", node))
