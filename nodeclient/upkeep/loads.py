"""Tells the chain, once for each image, that this Node booted or started it.

Once and not at every boot: peers only look whether it was told at all, each report costs gas, and
what a Node boots when is its tasks' business. A runtime image is never reported; the contract
refuses it, too.
"""

from __future__ import annotations

import asyncio
import logging

from nodeclient.chain import images
from nodeclient.core import events as ev
from nodeclient.core.images import ImageKind
from nodeclient.core.types import Address
from nodeclient.errors import ChainUnavailable, Reverted
from nodeclient.ports import ChainSender
from nodeclient.store.database import Store

log = logging.getLogger(__name__)
FIRST_RETRY, LAST_RETRY = 1.0, 600.0  # seconds; a Node that is not registered yet waits for long
REPORTED = frozenset({ImageKind.BOOT, ImageKind.SERVICE})


class LoadBook:
    """Who reported which load, from the chain's whole history; held in memory, some 100 bytes for
    each Node and image. Only approved images can be reported, so strangers cannot make it grow.
    """

    def __init__(self) -> None:
        self._loads: set[tuple[Address, bytes]] = set()

    def on_event(self, event: ev.ChainEvent | ev.BlockSeen | ev.ChainReorganised) -> None:
        """One item of the chain's watcher. A report that a reorganisation undid stays known until
        the daemon starts anew: the Node did say so."""
        if isinstance(event, ev.ImageLoaded):
            self._loads.add((event.node, event.image))

    def reported(self, node: Address, image: bytes) -> bool:
        """Whether the Node reported that it loaded the image."""
        return (node, image) in self._loads


class Loads:
    """``add`` notes a load and returns at once; ``run`` carries the reports out, over restarts."""

    def __init__(self, store: Store, sender: ChainSender) -> None:
        self._store, self._sender = store, sender
        self._due = asyncio.Event()

    def add(self, image: bytes, kind: ImageKind) -> None:
        """Durable before it returns. Raises ValueError for a kind that is not reported."""
        if kind not in REPORTED:
            raise ValueError(f"{kind.name} loads are not reported; leave it out")
        self._store.add_load(image, kind)
        self._due.set()

    def knows(self, image: bytes) -> bool:
        """Whether its load was noted before."""
        return self._store.has_load(image)

    async def run(self) -> None:
        """Report what is not reported. Ends only by cancellation."""
        self._due.set()  # what an earlier life did not report, or this one before it failed
        delay = FIRST_RETRY
        while True:
            await self._due.wait()
            self._due.clear()
            failed = [image for image in self._store.unreported() if not await self._report(image)]
            if not failed:
                delay = FIRST_RETRY
                continue
            try:
                async with asyncio.timeout(delay):
                    await self._due.wait()
            except TimeoutError:
                self._due.set()
            delay = min(delay * 2, LAST_RETRY)

    async def _report(self, image: bytes) -> bool:
        """Whether the chain knows now. The order's key makes the sender send it once for ever."""
        try:
            await self._sender.execute(images.report_load(f"load/{image.hex()}", image))
        except (ChainUnavailable, Reverted) as error:
            log.info("load of %s… is not reported yet: %s", image.hex()[:16], error)
            return False
        self._store.load_reported(image)
        log.info("load of image %s… reported", image.hex()[:16])
        return True
