"""Barred Nodes leave the draw: ``NodeRegistry.sync`` for each, which anybody may call.

A bar takes a Node's place at once only if the draw can change just then, and a maker's bar is too
wide for one call. So every daemon looks after each barred Node some blocks later, by chance, and
pays for the call where nobody has yet: a maker's thousands are shared out. The more Nodes there
are, the longer each waits: about one looks in a block, or hundreds would pay for the same call. A
Node looks after itself first; its Deposit stays bound until it is BARRED.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from nodeclient.chain import registry
from nodeclient.chain.errors import OrderReverted
from nodeclient.chain.registry import NodeRegistry
from nodeclient.core.types import Address, NodeStatus
from nodeclient.errors import ChainUnavailable, Reverted
from nodeclient.ports import ChainSender

log = logging.getLogger(__name__)
SPREAD = 16  # blocks over which all daemons look at one Node, at least
OUT = frozenset({NodeStatus.PENDING, NodeStatus.EXITED})


class Leavers:
    """``take`` notes who is barred; ``run`` does the rest. Harmless twice, and after a kill: each
    look begins with what the registry says. ``others``: how many Nodes look, too."""

    def __init__(
        self,
        me: Address,
        view: NodeRegistry,
        sender: ChainSender,
        head: Callable[[], int],
        others: Callable[[], int],
    ) -> None:
        self._me, self._view, self._sender, self._head = me, view, sender, head
        self._others = others
        self._due: dict[Address, int] = {}
        self._noted: dict[Address, int] = {}
        self._refused = 0
        self._news = asyncio.Event()

    def take(self, barred: frozenset[Address], block: int) -> None:
        """All that are barred now; each is looked at once."""
        spread = self._spread()
        for node in barred - self._noted.keys():
            self._due[node] = block if node == self._me else later(block, spread)
            self._noted[node] = block
        for node in self._noted.keys() - barred:  # undone by a reorganisation
            del self._noted[node]
            self._due.pop(node, None)
        self._news.set()

    async def run(self, pause: float) -> None:
        """Ends only by cancellation. ``pause``: seconds between two looks at the head."""
        while True:
            if not self._due:
                self._news.clear()
                await self._news.wait()
            await self.step()
            await asyncio.sleep(pause)

    async def step(self) -> None:
        """Look after every Node that is due."""
        spread = self._spread()
        for node in [each for each, at in self._due.items() if at <= self._head()]:
            try:
                if await self.stays(node):
                    await self._sync(node)
            except (ChainUnavailable, Reverted) as error:
                # The draw stands still, most likely: others wait for the same block.
                log.info("barred node 0x%s is not synced yet: %s", node.hex(), error)
                if node in self._due:
                    self._due[node] = later(self._head(), spread)
                continue
            self._due.pop(node, None)

    def _spread(self) -> int:
        return max(SPREAD, self._others())

    async def stays(self, node: Address) -> bool:
        """Whether a barred Node still counts as another, or has a place in the draw."""
        record = await self._view.node(node)
        if record is None or record.status in OUT:
            return False
        return record.status is not NodeStatus.BARRED or await self._view.is_drawable(node)

    async def _sync(self, node: Address) -> None:
        key = f"sync/{node.hex()}/{self._noted.get(node)}/{self._refused}"
        try:
            await self._sender.execute(registry.sync(key, node))
        except OrderReverted as error:
            self._refused += error.tx_hash is not None  # the journal tells the same key the same
            raise
        log.info("barred node 0x%s synced", node.hex())


def later(block: int, spread: int) -> int:
    """Some block after this one; where many wait, few take the same."""
    return block + random.randint(1, spread)  # noqa: S311  (no lottery)
