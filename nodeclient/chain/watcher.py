"""The chain's events in order, from a cursor on, for ever.

Backfill is the normal path: every poll asks for the logs between the cursor and the head, whether
the head is one block ahead or a million. There is no subscription that could die unnoticed.

Order: events by (block, log index), then one `BlockSeen` for the head they reach. A reorganisation
is told as `ChainReorganised(to_block)`; what lies above it follows again. Nothing is raised to the
consumer: an endpoint that is down, slow, lagging or wrong is asked again, more and more slowly.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from nodeclient.chain.decode import Decoder, block_of
from nodeclient.chain.deployment import Deployment
from nodeclient.chain.errors import ChainUnavailable, RpcRefused
from nodeclient.chain.rpc import Rpc, blob, quantity
from nodeclient.chain.trail import Trail
from nodeclient.core.events import BlockSeen, ChainEvent, ChainReorganised
from nodeclient.core.types import BlockRef

log = logging.getLogger(__name__)

Item = ChainEvent | BlockSeen | ChainReorganised


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How to watch. Defaults are those of the `embedded` profile.

    `confirmations`: blocks that must lie on top of a block before its events are told.
    `max_range`: blocks per `eth_getLogs`; halved whenever an endpoint refuses.
    `remember`: blocks whose hashes are kept; a reorganisation deeper than the oldest of them goes
    back to the deployment.
    `patience`: polls for which the head may lie below the cursor. A load-balanced endpoint lags
    for a moment; a chain that was restored from an older dump stays there.
    """

    poll_seconds: float = 0.5
    confirmations: int = 0
    max_range: int = 2000
    remember: int = 256
    patience: int = 20
    slowest_seconds: float = 10.0


class Watcher:
    """Implements `nodeclient.ports.ChainWatcher` on one RPC endpoint."""

    def __init__(
        self,
        rpc: Rpc,
        deployment: Deployment,
        settings: WatchSettings | None = None,
        known: Sequence[BlockRef] = (),
    ) -> None:
        """`known` are blocks that the consumer stored with its state (those of `BlockSeen`, or of
        events): by them a reorganisation that happened while the Node was down is noticed."""
        self._rpc = rpc
        self._settings = settings or WatchSettings()
        self._first = deployment.deploy_block
        self._decoder = Decoder(deployment)
        self._filter = {
            "address": ["0x" + address.hex() for address in self._decoder.addresses],
            "topics": [["0x" + topic.hex() for topic in self._decoder.topics]],
        }
        self._known = tuple(known)
        self._trail = Trail(self._settings.remember)
        self._cursor = 0
        self._range = self._settings.max_range
        self._below = 0

    async def events(self, after_block: int) -> AsyncIterator[Item]:
        """Everything above `after_block`, without end. Blocks up to it count as told."""
        self._cursor = max(after_block, self._first - 1)
        self._trail = Trail(
            self._settings.remember,
            [ref for ref in self._known if self._first <= ref.number <= self._cursor],
        )
        failures = 0
        while True:
            try:
                items, more = await self._poll()
                if failures:
                    log.info("the chain answers again")
                failures = 0
            except ChainUnavailable as error:
                failures += 1
                if failures == 1:  # once per outage: an outage must not fill the disk
                    log.warning("the chain cannot be read: %s", error)
                items, more = [], False
            for item in items:
                yield item
            if not more:
                await asyncio.sleep(self._delay(failures))

    def _delay(self, failures: int) -> float:
        slower: float = self._settings.poll_seconds * 2 ** min(failures, 10)
        return min(slower, max(self._settings.slowest_seconds, self._settings.poll_seconds))

    async def _poll(self) -> tuple[list[Item], bool]:
        """One step: (what to tell, whether to go on at once). Raises `ChainUnavailable`.

        State moves only at the end, so a failure anywhere repeats the step.
        """
        head = await self._target()
        if head is None:
            return [], False
        if head.ref.number < self._cursor:
            return await self._behind(), False
        if not await self._continues(head):
            return [await self._rewind()], True
        if head.ref.number == self._cursor:
            self._below = 0
            return [], False
        end = min(head.ref.number, self._cursor + self._range)
        decoded = [self._decoder.decode(entry) for entry in await self._logs(end, head)]
        told = [event for event in decoded if event is not None]
        for event in told:
            self._trail.add(event.block)
        items: list[Item] = [*told]
        self._below = 0
        self._cursor = end
        if end < head.ref.number:
            return items, True
        self._trail.add(head.ref)
        self._range = min(self._range * 2, self._settings.max_range)
        items.append(BlockSeen(head.ref))
        return items, False

    async def _target(self) -> _Head | None:
        """The newest block that may be told; None while the chain is shorter than that."""
        block = await self._rpc.block("latest")
        if block is not None and self._settings.confirmations:
            number = _ref(block).number - self._settings.confirmations
            block = await self._rpc.block(number) if number >= 0 else None
        return None if block is None else _Head(_ref(block), blob(block["parentHash"], 32))

    async def _continues(self, head: _Head) -> bool:
        """Whether the newest remembered block is still part of the chain that ends in `head`."""
        last = self._trail.last
        if last is None:
            # Nothing remembered: what stands at the cursor now is what the consumer has seen.
            if self._cursor >= self._first:
                block = await self._rpc.block(self._cursor)
                if block is None:
                    raise ChainUnavailable("the RPC lost a block", "ask another endpoint")
                self._trail.add(_ref(block))
            return True
        if head.ref.number == last.number:
            return head.ref.hash == last.hash
        if head.ref.number == last.number + 1:
            return head.parent == last.hash
        return await self._stands(last)

    async def _stands(self, ref: BlockRef) -> bool:
        block = await self._rpc.block(ref.number)
        return block is not None and _ref(block).hash == ref.hash

    async def _rewind(self) -> ChainReorganised:
        """Go back to the newest remembered block that still stands."""
        kept = await self._trail.newest(self._stands)
        to_block = self._first - 1 if kept is None else kept.number
        self._trail.cut(to_block)
        self._cursor = to_block
        self._below = 0
        log.warning("the chain was reorganised: going back to block %d", to_block)
        return ChainReorganised(to_block)

    async def _behind(self) -> list[Item]:
        self._below += 1
        if self._below < self._settings.patience:
            return []
        return [await self._rewind()]

    async def _logs(self, end: int, head: _Head) -> list[dict[str, Any]]:
        """The wanted logs of (cursor, end], in order. Raises `ChainUnavailable`."""
        start = self._cursor + 1
        if start == head.ref.number:
            # By hash: no other block can slip in between the two requests.
            where = {"blockHash": "0x" + head.ref.hash.hex()}
        else:
            where = {"fromBlock": hex(start), "toBlock": hex(end)}
        try:
            found = await self._rpc.request("eth_getLogs", [{**self._filter, **where}])
        except RpcRefused:
            # Every provider has another limit on blocks or on results: find it by trying.
            self._range = max(1, (end - self._cursor) // 2)
            raise
        if not isinstance(found, list):
            raise ChainUnavailable("eth_getLogs: no list came back", "check the RPC URL")
        try:
            wanted = [entry for entry in found if not entry.get("removed")]
            wanted.sort(key=lambda e: (quantity(e["blockNumber"]), quantity(e["logIndex"])))
            for entry in wanted:
                block = block_of(entry)
                at_head = block.number == head.ref.number
                if not start <= block.number <= end or (at_head and block.hash != head.ref.hash):
                    raise ChainUnavailable("eth_getLogs: logs of other blocks", "asking again")
        except (KeyError, AttributeError, TypeError) as error:
            raise ChainUnavailable("eth_getLogs: malformed logs", "check the RPC URL") from error
        return wanted


@dataclass(frozen=True, slots=True)
class _Head:
    ref: BlockRef
    parent: bytes


def _ref(block: dict[str, Any]) -> BlockRef:
    try:
        return BlockRef(
            quantity(block["number"]), blob(block["hash"], 32), quantity(block["timestamp"])
        )
    except KeyError as error:
        raise ChainUnavailable("the RPC's block lacks a field", "check the RPC URL") from error
