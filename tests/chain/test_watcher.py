"""The chain's events: complete, in order, over restarts, outages and reorganisations."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest

from agent.formats.taskspec import commit
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.rpc import Rpc
from nodeclient.chain.watcher import Item, Watcher, WatchSettings
from nodeclient.core.events import BlockSeen, ChainEvent, ChainReorganised, TaskPosted
from nodeclient.core.types import BlockRef
from tests.chain.conftest import World

pytestmark = pytest.mark.chain

QUICK = WatchSettings(poll_seconds=0.05, slowest_seconds=0.2, patience=4)


class Listener:
    """Collects what a watcher tells until a condition holds."""

    def __init__(self, stream: AsyncIterator[Item]) -> None:
        self._stream = stream
        self.items: list[Item] = []

    async def until_block(self, number: int) -> list[Item]:
        """Everything up to the `BlockSeen` of at least that number."""
        return await self._until(lambda i: isinstance(i, BlockSeen) and i.block.number >= number)

    async def until_reorganised(self) -> ChainReorganised:
        """Everything up to the next reorganisation."""
        last = (await self._until(lambda i: isinstance(i, ChainReorganised)))[-1]
        assert isinstance(last, ChainReorganised)
        return last

    async def _until(self, over) -> list[Item]:  # type: ignore[no-untyped-def]
        found: list[Item] = []
        async with asyncio.timeout(180):
            while not found or not over(found[-1]):
                found.append(await anext(self._stream))
        self.items += found
        return found

    async def silent(self, seconds: float) -> bool:
        """Whether nothing comes for that long (the stream cannot be used afterwards)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                self.items.append(await anext(self._stream))
                return False
        return True


def listen(
    world: World,
    after: int = 0,
    settings: WatchSettings = QUICK,
    known: Sequence[BlockRef] = (),
    rpc: Rpc | None = None,
) -> Listener:
    watcher = Watcher(rpc or world.rpc, world.deployment, settings, known)
    return Listener(watcher.events(after))


async def post(world: World, *numbers: int) -> None:
    sender = world.sender(SqliteJournal(":memory:"))
    for number in numbers:
        await sender.execute(world.post(number))


def commitments(items: Sequence[Item]) -> list[int]:
    """The numbers under which the tasks were posted."""
    return [number_of(one) for one in items if isinstance(one, TaskPosted)]


def number_of(posted: TaskPosted) -> int:
    return next(
        number
        for number in range(10)
        if commit(number.to_bytes(32, "big"), posted.requester, number) == posted.commitment
    )


async def test_events__from_the_start__typed_and_in_order(world: World) -> None:
    await post(world, 7, 8, 9)
    items = await listen(world).until_block(world.node.height())
    assert commitments(items) == [7, 8, 9]
    first = next(one for one in items if isinstance(one, TaskPosted))
    assert first.task == 1
    assert first.requester == world.sender(SqliteJournal(":memory:")).address
    assert (first.executor_fee, first.member_fee, first.committee_size) == (10, 5, 3)
    assert (
        first.block.hash.hex()
        == world.node.rpc("eth_getBlockByNumber", hex(first.block.number), False)["hash"][2:]
    )
    places = [(i.block.number, i.log_index) for i in items if isinstance(i, ChainEvent)]
    assert places == sorted(places)


async def test_events__several_in_one_block__by_log_index(world: World) -> None:
    world.node.rpc("evm_setAutomine", False)
    senders = [world.sender(SqliteJournal(":memory:"), who) for who in (1, 2, 3)]
    orders = [
        asyncio.create_task(sender.execute(world.post(n))) for n, sender in enumerate(senders, 1)
    ]
    await asyncio.to_thread(world.node.wait_for_pending, 3)
    world.node.mine()
    await asyncio.gather(*orders)
    items = await listen(world).until_block(world.node.height())
    posted = [one for one in items if isinstance(one, TaskPosted)]
    assert [one.log_index for one in posted] == [0, 1, 2]
    assert [one.task for one in posted] == [1, 2, 3]


async def test_events__ranges_smaller_than_the_backlog__one_block_seen_at_the_end(
    world: World,
) -> None:
    await post(world, 1)
    world.node.mine(40)
    await post(world, 2)
    settings = WatchSettings(poll_seconds=0.05, max_range=3)
    items = await listen(world, settings=settings).until_block(world.node.height())
    assert commitments(items) == [1, 2]
    assert [type(one) for one in items] == [TaskPosted, TaskPosted, BlockSeen]


async def test_events__live__block_seen_after_its_events(world: World) -> None:
    listener = listen(world)
    await listener.until_block(world.node.height())
    await post(world, 5)
    items = await listener.until_block(world.node.height())
    assert commitments(items) == [5]
    assert isinstance(items[-1], BlockSeen)
    assert items[-1].block.timestamp > 1_700_000_000


async def test_events__restart_from_cursor__nothing_missed_nothing_twice(world: World) -> None:
    await post(world, 1, 2)
    first = await listen(world).until_block(world.node.height())
    seen = first[-1]
    assert isinstance(seen, BlockSeen)
    await post(world, 3, 4)  # while the Node is down
    again = await listen(world, seen.block.number, known=[seen.block]).until_block(
        world.node.height()
    )
    assert commitments(first) == [1, 2]
    assert commitments(again) == [3, 4]


async def test_events__anvil_restarted_from_its_state__goes_on(world: World) -> None:
    listener = listen(world)
    await post(world, 1)
    await listener.until_block(world.node.height())
    world.node.stop()
    waiting = asyncio.create_task(listener.until_block(world.node.height_when_stopped + 1))
    await asyncio.sleep(0.5)
    world.node.start()
    await post(world, 2)
    assert commitments(await waiting) == [2]
    assert not [one for one in listener.items if isinstance(one, ChainReorganised)]


async def test_events__reorganised_while_watching__rewinds_and_tells_the_new_chain(
    world: World,
) -> None:
    listener = listen(world)
    await post(world, 1)
    await listener.until_block(world.node.height())
    kept = world.node.height()
    snapshot = world.node.rpc("evm_snapshot")
    await post(world, 2, 3)
    assert commitments(await listener.until_block(world.node.height())) == [2, 3]
    world.node.rpc("evm_revert", snapshot)
    await post(world, 4, 5, 6)
    assert (await listener.until_reorganised()).to_block == kept
    assert commitments(await listener.until_block(world.node.height())) == [4, 5, 6]


async def test_events__reorganised_at_the_same_height__noticed(world: World) -> None:
    listener = listen(world)
    await listener.until_block(world.node.height())
    kept = world.node.height()
    snapshot = world.node.rpc("evm_snapshot")
    await post(world, 2)
    await listener.until_block(world.node.height())
    world.node.rpc("evm_revert", snapshot)
    await post(world, 4)
    assert (await listener.until_reorganised()).to_block == kept
    assert commitments(await listener.until_block(world.node.height())) == [4]


async def test_events__reorganised_while_down__noticed_by_known_blocks(world: World) -> None:
    listener = listen(world)
    await listener.until_block(world.node.height())
    snapshot = world.node.rpc("evm_snapshot")
    await post(world, 1, 2)
    await listener.until_block(world.node.height())
    known = [one.block for one in listener.items if isinstance(one, BlockSeen | ChainEvent)]
    world.node.rpc("evm_revert", snapshot)
    await post(world, 3, 4, 5)
    world.node.mine(5)  # the head is no neighbour of what is known
    restarted = listen(world, known[-1].number, known=known)
    assert (await restarted.until_reorganised()).to_block == known[0].number
    assert commitments(await restarted.until_block(world.node.height())) == [3, 4, 5]


async def test_events__chain_restored_from_an_older_state__rewinds_after_patience(
    world: World,
) -> None:
    listener = listen(world)
    await listener.until_block(world.node.height())
    snapshot, kept = world.node.rpc("evm_snapshot"), world.node.height()
    await post(world, 1, 2)
    await listener.until_block(world.node.height())
    world.node.rpc("evm_revert", snapshot)  # and nobody mines
    assert (await listener.until_reorganised()).to_block == kept


async def test_events__head_below_the_cursor_for_a_moment__no_reorganisation(
    world: World,
) -> None:
    patient = WatchSettings(poll_seconds=0.05, patience=1000)
    listener = listen(world, settings=patient)
    await post(world, 1)
    await listener.until_block(world.node.height())
    future = world.node.height() + 5
    ahead = listen(world, future, patient)
    assert await ahead.silent(0.5)


async def test_events__confirmations__told_only_below_them(world: World) -> None:
    await post(world, 1)
    settings = WatchSettings(poll_seconds=0.05, confirmations=3)
    at = world.node.height()
    listener = listen(world, settings=settings)
    early = await listener.until_block(at - 3)
    assert commitments(early) == []
    world.node.mine(3)
    assert commitments(await listener.until_block(at)) == [1]


class _Limited(Rpc):
    """A real endpoint that refuses more than three blocks of logs, as providers do."""

    refused = 0

    async def request(self, method, params=()):  # type: ignore[no-untyped-def]
        if method == "eth_getLogs" and "fromBlock" in params[0]:
            asked = int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) + 1
            if asked > 3:
                self.refused += 1
                params = [{**params[0], "fromBlock": "no number"}]  # which anvil refuses
        return await super().request(method, params)


async def test_events__endpoint_limits_the_range__halved_until_taken(world: World) -> None:
    await post(world, 1)
    world.node.mine(30)
    await post(world, 2)
    rpc = _Limited(world.node.url)
    items = await listen(world, rpc=rpc).until_block(world.node.height())
    await rpc.close()
    assert rpc.refused > 0
    assert commitments(items) == [1, 2]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://127.0.0.1:9/nothing"])
async def test_events__no_endpoint__silent_and_never_raises(world: World, url: str) -> None:
    rpc = Rpc(url, timeout=0.2)
    assert await listen(world, rpc=rpc).silent(1.0)
    await rpc.close()
