"""The questions of the picture, put to the contracts of a deployment."""

from __future__ import annotations

from nodeclient.chain.reader import Reader
from nodeclient.core.health import Approval
from nodeclient.core.types import Address, BlockRef, NodeRecord


class HealthChain:
    """Implements ``gather.Chain``. Every method may raise ``ChainUnavailable``."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def head(self) -> BlockRef:
        """The newest block."""
        return await self._reader.head()

    async def node(self, address: Address) -> NodeRecord | None:
        """What the registry says of a Node."""
        return await self._reader.node(address)

    async def reputation(self, address: Address) -> int:
        """In basis points."""
        return await self._reader.reputation(address)

    async def unit(self) -> int:
        """The least Deposit of an ACTIVE Node, in wei."""
        return await self._reader.registry.unit()

    async def approval(self, image: bytes) -> Approval | None:
        """What stands in ``ImageRegistry``."""
        found = await self._reader.images.image(image)
        if found is None:
            return None
        return Approval(
            int(found.kind),
            found.not_before,
            found.not_after,
            found.effective_at,
            found.revoked,
        )
