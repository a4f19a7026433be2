"""Keeps the directory of peers in step with the registry's events.

An event only says *that* something changed; what holds now is asked of the registry, because the
digest there decides which contact record is the valid one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from nodeclient.chain.deployment import Deployment
from nodeclient.chain.rpc import Rpc
from nodeclient.chain.watcher import Watcher
from nodeclient.core import events as ev
from nodeclient.core.types import Address
from nodeclient.errors import ChainUnavailable
from nodeclient.p2p.directory import Directory
from nodeclient.p2p.errors import ContactInvalid
from nodeclient.ports import ChainReader

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0


class PeerBook:
    """Feeds a ``Directory``. Before ``load`` is done no peer is known."""

    def __init__(self, directory: Directory, chain: ChainReader) -> None:
        self._directory = directory
        self._chain = chain
        self._records: dict[Address, bytes] = {}
        self._jobs: set[asyncio.Task[None]] = set()

    async def load(
        self,
        rpc: Rpc,
        deployed: Deployment,
        also: Callable[[ev.ChainEvent], None] = lambda _: None,
    ) -> None:
        """Read the whole history once; later changes come through ``on_event``.

        ``also`` is told every event of that history: who else needs it shall not ask again.
        """
        watcher = Watcher(rpc, deployed)
        async for event in watcher.events(deployed.deploy_block - 1):
            if isinstance(event, ev.BlockSeen):
                break
            if isinstance(event, ev.ContactPublished):
                self._records[event.node] = event.contact
            if isinstance(event, ev.ChainEvent):
                also(event)
        for node in list(self._records):
            await self._refresh(node)

    def on_event(self, event: ev.ChainEvent | ev.BlockSeen | ev.ChainReorganised) -> None:
        """Take over a registry event."""
        if isinstance(event, ev.ContactPublished):
            self._records[event.node] = event.contact
        if isinstance(event, ev.ContactPublished | ev.StatusChanged):
            job = asyncio.get_running_loop().create_task(self._refresh(event.node))
            self._jobs.add(job)
            job.add_done_callback(self._jobs.discard)

    async def _refresh(self, node: Address) -> None:
        while True:
            try:
                entry = await self._chain.node(node)
                break
            except ChainUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
        if entry is None:
            return
        self._directory.set_status(node, entry.status)
        record = self._records.get(node)
        if record is None:
            return
        try:
            self._directory.publish(record, entry)
        except ContactInvalid as error:
            log.warning("contact of 0x%s: %s", node.hex(), error)
