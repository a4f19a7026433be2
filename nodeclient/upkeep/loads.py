"""Tells the chain, once for each image, that this Node booted or started it.

Once and not at every boot: peers only look whether it was told at all, each report costs gas, and
what a Node boots when is its tasks' business. A runtime image is never reported; the contract
refuses it, too.

A reorganisation can undo a report. So at the first block, and at the first after each
reorganisation, what counts as reported is held against the history of the chain, and what is not
there is sent again: by the same order key, so that one which is only mined later is not sent twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from nodeclient.chain import images
from nodeclient.chain.errors import OrderReverted
from nodeclient.core import events as ev
from nodeclient.core.images import ImageKind
from nodeclient.core.types import Address
from nodeclient.errors import ChainUnavailable, Reverted
from nodeclient.ports import ChainSender
from nodeclient.store.database import Store

log = logging.getLogger(__name__)
FIRST_RETRY, LAST_RETRY = 1.0, 600.0  # seconds; a Node that is not registered yet waits for long
Seen = ev.ChainEvent | ev.BlockSeen | ev.ChainReorganised
REPORTED = frozenset({ImageKind.BOOT, ImageKind.SERVICE})


class LoadBook:
    """Who reported which load, from the chain's whole history; held in memory, some 100 bytes for
    each Node and image. Only approved images can be reported, so strangers cannot make it grow.
    """

    def __init__(self) -> None:
        self._loads: dict[tuple[Address, bytes], int] = {}  # the newest block that says so

    def on_event(self, event: Seen) -> None:
        """One item of the chain's watcher."""
        if isinstance(event, ev.ImageLoaded):
            self._loads[event.node, event.image] = event.block.number
        elif isinstance(event, ev.ChainReorganised):
            last = event.to_block
            self._loads = {load: block for load, block in self._loads.items() if block <= last}

    def reported(self, node: Address, image: bytes) -> bool:
        """Whether the Node reported that it loaded the image."""
        return (node, image) in self._loads


class Loads:
    """``add`` notes a load and returns at once; ``run`` carries the reports out, over restarts.

    ``book``: the chain's history, told of each event before ``on_event`` is. ``account``: this
    Node's.
    """

    def __init__(self, store: Store, sender: ChainSender, book: LoadBook, account: Address) -> None:
        self._store, self._sender = store, sender
        self._book, self._account = book, account
        self._due = asyncio.Event()
        self._in_doubt = True  # what the chain undid while no daemon ran is told by no event
        self._used_up: Counter[bytes] = Counter()

    def on_event(self, event: Seen) -> None:
        """One item of the chain's watcher."""
        if isinstance(event, ev.ChainReorganised):
            self._in_doubt = True
        elif isinstance(event, ev.BlockSeen) and self._in_doubt:
            self._in_doubt = False
            for image in self._store.loads(reported=True):
                if not self._book.reported(self._account, image):
                    self._store.load_reported(image, reported=False)
                    self._due.set()

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
            failed = [
                image
                for image in self._store.loads(reported=False)
                if not await self._report(image)
            ]
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
        """Whether the chain knows now. The order's key makes the sender send it once, as long as
        the chain keeps it."""
        # A key whose transaction was mined and failed says so for ever: the next one is tried.
        tries = self._used_up[image]
        key = f"load/{image.hex()}" + (f"/{tries}" if tries else "")
        try:
            await self._sender.execute(images.report_load(key, image))
        except (ChainUnavailable, Reverted) as error:
            mined = isinstance(error, OrderReverted) and error.tx_hash is not None
            self._used_up[image] += mined
            log.info("load of %s… is not reported yet: %s", image.hex()[:16], error)
            return False
        self._store.load_reported(image)
        log.info("load of image %s… reported", image.hex()[:16])
        return True
