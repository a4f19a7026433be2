"""Orders happen at most once, and a revert costs nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.formats.taskspec import commit
from nodeclient.chain import attempts as book
from nodeclient.chain import market
from nodeclient.chain.deployment import save
from nodeclient.chain.errors import ChainUnavailable, FeeTooHigh, OrderReverted, Unconfirmed
from nodeclient.chain.fees import FeeSettings
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.rpc import Rpc
from nodeclient.chain.sender import Sender, SendSettings
from nodeclient.core.types import Commitment, Task, TaskId
from nodeclient.ports import Order
from tests.chain.anvil_node import KEYS
from tests.chain.conftest import FAST, World

pytestmark = pytest.mark.chain


def sent(world: World, who: int = 1) -> int:
    """How many transactions of an account were mined."""
    address = "0x" + Sender(world.rpc, world.deployment, memory(), KEYS[who]).address.hex()
    return int(world.node.rpc("eth_getTransactionCount", address, "latest"), 16)


def memory() -> SqliteJournal:
    return SqliteJournal(":memory:")


async def test_execute__good_order__is_mined_and_journalled(world: World) -> None:
    journal = memory()
    receipt = await world.sender(journal).execute(world.post(1))
    assert receipt.order == "post/1"
    assert receipt.block == world.node.height()
    assert receipt.gas_used > 21_000
    stored = journal.load("post/1")
    assert stored is not None
    assert stored[1] == receipt.tx_hash


async def test_execute__contract_refuses__reverted_with_reason_and_nothing_sent(
    world: World,
) -> None:
    journal = memory()
    sender = world.sender(journal)
    await sender.execute(world.post(1))
    again = world.post(1)
    other_key = type(again)("another", again.contract, again.function, again.args, again.value)
    with pytest.raises(OrderReverted, match="market: ") as caught:
        await sender.execute(other_key)
    assert caught.value.tx_hash is None
    assert sent(world) == 1
    assert journal.load("another") is None


async def test_execute__same_key_again__same_receipt_and_nothing_sent(world: World) -> None:
    journal = memory()
    first = await world.sender(journal).execute(world.post(1))
    # A new sender on the same journal is what a restart looks like.
    second = await world.sender(journal).execute(world.post(1))
    assert second == first
    assert sent(world) == 1


async def test_execute__same_key_by_two_workers__sent_once(world: World) -> None:
    sender = world.sender(memory())
    first, second = await asyncio.gather(
        sender.execute(world.post(1)), sender.execute(world.post(1))
    )
    assert first == second
    assert sent(world) == 1


async def test_execute__many_orders_at_once__each_has_its_nonce(world: World) -> None:
    sender = world.sender(memory())
    receipts = await asyncio.gather(*(sender.execute(world.post(n)) for n in range(1, 9)))
    assert len({receipt.tx_hash for receipt in receipts}) == 8
    assert sent(world) == 8


async def test_execute__journalled_but_never_sent__the_same_bytes_are_sent(world: World) -> None:
    lost = memory()
    world.node.rpc("evm_setAutomine", False)
    impatient = SendSettings(poll_seconds=0.01, stuck_seconds=0.05, replacements=0)
    sender = Sender(world.rpc, world.deployment, lost, KEYS[1], impatient)
    with pytest.raises(Unconfirmed):
        await sender.execute(world.post(1))
    made = book.load(lost, "post/1")
    assert made is not None
    world.node.rpc("anvil_dropAllTransactions")
    world.node.rpc("evm_setAutomine", True)
    receipt = await world.sender(lost).execute(world.post(1))
    assert receipt.tx_hash == made.hashes[0]
    assert sent(world) == 1


CRASH = """
import asyncio, os, signal, sys
from pathlib import Path
from nodeclient.chain.deployment import load
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.rpc import Rpc
from nodeclient.chain.sender import Sender
from nodeclient.core.types import Commitment
from nodeclient.chain import market

url, folder, key, when = sys.argv[1:]
rpc = Rpc(url)
sender = Sender(rpc, load(Path(folder, "d.json")), SqliteJournal(Path(folder, "j")),
                bytes.fromhex(key))
send = sender._chain.broadcast

async def crash(raw):
    if when == "after":
        await send(raw)
    os.kill(os.getpid(), signal.SIGKILL)

sender._chain.broadcast = crash
order = market.post("post/1", (1).to_bytes(32, "big"), 1, committee_size=3, class_id=0,
                    executor_fee=10, member_fee=5, posting_fee=10**12)
asyncio.run(sender.execute(order))
"""


@pytest.mark.parametrize("when", ["before", "after"])
async def test_execute__sigkill_between_journal_and_receipt__happens_once(
    world: World, tmp_path: Path, when: str
) -> None:
    save(world.deployment, tmp_path / "d.json")
    arguments = [world.node.url, str(tmp_path), KEYS[1].hex(), when]
    crashed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", CRASH, *arguments],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."},
        timeout=300,
    )
    assert crashed.returncode == -signal.SIGKILL
    assert sent(world) == (1 if when == "after" else 0)
    journal = SqliteJournal(tmp_path / "j")
    made = book.load(journal, "post/1")
    assert made is not None
    receipt = await world.sender(journal).execute(world.post(1))
    assert receipt.tx_hash == made.hashes[0]
    assert sent(world) == 1


async def test_execute__stuck__replaced_under_the_same_nonce(world: World) -> None:
    world.node.rpc("evm_setAutomine", False)
    journal = memory()
    worker = asyncio.create_task(world.sender(journal).execute(world.post(1)))
    async with asyncio.timeout(180):
        while (made := book.load(journal, "post/1")) is None or len(made.raws) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    world.node.mine()
    receipt = await worker
    assert receipt.tx_hash != made.hashes[-1], "a replacement pays more and is mined"
    assert sent(world) == 1


async def test_execute__nonce_taken_by_another_transaction__signed_anew(world: World) -> None:
    journal = memory()
    world.node.rpc("evm_setAutomine", False)
    impatient = SendSettings(poll_seconds=0.01, stuck_seconds=0.05, replacements=0)
    sender = Sender(world.rpc, world.deployment, journal, KEYS[1], impatient)
    with pytest.raises(Unconfirmed):
        await sender.execute(world.post(1))
    made = book.load(journal, "post/1")
    assert made is not None
    world.node.rpc("anvil_dropAllTransactions")
    world.node.rpc("evm_setAutomine", True)
    await world.sender(memory()).execute(world.post(2))  # the same account, another program
    receipt = await world.sender(journal).execute(world.post(1))
    assert receipt.tx_hash not in made.hashes
    assert sent(world) == 2


async def test_execute__abandoned_order_left_a_gap__later_order_is_mined(world: World) -> None:
    journal = memory()
    abandoned = book.Attempts(0, (b"\x02\xc0",))
    book.save(journal, "abandoned", abandoned)  # holds nonce 0, was never sent
    receipt = await world.sender(journal).execute(world.post(1))
    assert receipt.gas_used > 21_000
    assert sent(world) == 2, "an empty transfer took nonce 0"


async def test_execute__base_fee_above_cap__nothing_signed(world: World) -> None:
    journal = memory()
    settings = SendSettings(fees=FeeSettings(cap=1, tip=1))
    sender = Sender(world.rpc, world.deployment, journal, KEYS[1], settings)
    with pytest.raises(FeeTooHigh, match="raise the cap"):
        await sender.execute(world.post(1))
    assert journal.load("post/1") is None


async def test_execute__chain_down__chain_unavailable_and_nothing_signed(world: World) -> None:
    world.node.stop()
    journal = memory()
    with pytest.raises(ChainUnavailable):
        await world.sender(journal).execute(world.post(1))
    assert journal.load("post/1") is None


async def test_execute__chain_restarts_while_waiting__mined_afterwards(world: World) -> None:
    world.node.rpc("evm_setAutomine", False)
    journal = memory()
    patient = SendSettings(poll_seconds=0.05, stuck_seconds=3.0, replacements=60)
    sender = Sender(world.rpc, world.deployment, journal, KEYS[1], patient)
    worker = asyncio.create_task(sender.execute(world.post(1)))
    await asyncio.to_thread(world.node.wait_for_pending, 1)
    world.node.stop()
    await asyncio.sleep(0.2)
    world.node.start()  # with an empty mempool: the bytes must be sent again
    receipt = await asyncio.wait_for(worker, 180)
    assert receipt.gas_used > 21_000
    assert sent(world) == 1


async def expiry(world: World) -> Order:
    """The order to end a task that nobody claimed: one of two that send it comes too late."""
    sender = world.sender(memory())
    receipt = await sender.execute(world.post(2))
    world.node.mine(20)
    committed = commit((2).to_bytes(32, "big"), sender.address, 2)
    task = Task(
        id=TaskId(1),
        commitment=Commitment(committed),
        requester=sender.address,
        posted_at=receipt.block,
        executor_fee=10,
        member_fee=5,
        committee_size=3,
        class_id=0,
        step_at=receipt.block,
    )
    return market.expire("expire", task)


async def test_execute__mined_but_failed__reverted_with_the_transaction(world: World) -> None:
    journal = memory()
    expire = await expiry(world)
    world.node.rpc("evm_setAutomine", False)
    settings = SendSettings(poll_seconds=0.05, stuck_seconds=180.0)
    one = Sender(world.rpc, world.deployment, journal, KEYS[1], settings)
    other = Sender(world.rpc, world.deployment, memory(), KEYS[2], settings)
    # anvil's pending block would show the first expiry to the second's simulation: sign both
    # before either is in the mempool.
    first = asyncio.create_task(one.execute(expire))
    await asyncio.to_thread(world.node.wait_for_pending, 1)
    held = world.node.rpc("txpool_content")["pending"]
    world.node.rpc("anvil_dropAllTransactions")
    second = asyncio.create_task(other.execute(expire))
    await asyncio.to_thread(world.node.wait_for_pending, 1)
    assert held
    made = book.load(journal, "expire")
    assert made is not None
    world.node.rpc("eth_sendRawTransaction", "0x" + made.raws[0].hex())
    world.node.mine()
    outcomes = await asyncio.gather(first, second, return_exceptions=True)
    failed = [one for one in outcomes if isinstance(one, OrderReverted)]
    assert len(failed) == 1
    assert failed[0].tx_hash is not None
    assert failed[0].reason.startswith("market: ")


async def test_execute__restart_while_it_waits_in_the_mempool__waits_for_it(world: World) -> None:
    journal = memory()
    world.node.rpc("evm_setAutomine", False)
    impatient = SendSettings(poll_seconds=0.01, stuck_seconds=0.05, replacements=0)
    sender = Sender(world.rpc, world.deployment, journal, KEYS[1], impatient)
    with pytest.raises(Unconfirmed):
        await sender.execute(world.post(1))
    made = book.load(journal, "post/1")
    assert made is not None
    # On the pending state the order would revert now: its own transaction has been there.
    worker = asyncio.create_task(world.sender(journal).execute(world.post(1)))
    await asyncio.sleep(0.3)
    world.node.mine()
    assert (await worker).tx_hash == made.hashes[0]
    assert sent(world) == 1


class _Lagging(Rpc):
    """A real endpoint whose transaction index is behind for the first questions."""

    left = 2

    async def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        if self.left and method in ("eth_getTransactionReceipt", "eth_getTransactionByHash"):
            self.left -= 1
            return None
        return await super().request(method, params)


async def test_execute__receipt_lags_behind_the_nonce__not_taken_for_lost(world: World) -> None:
    journal = memory()
    first = await world.sender(journal).execute(world.post(1))
    rpc = _Lagging(world.node.url)
    restarted = Sender(rpc, world.deployment, journal, KEYS[1], FAST)
    assert await restarted.execute(world.post(1)) == first
    await rpc.close()
    assert sent(world) == 1


async def test_execute__account_cannot_pay__refused_and_the_nonce_is_free_again(
    world: World,
) -> None:
    journal = memory()
    sender = world.sender(journal)
    order = world.post(1)
    address = "0x" + sender.address.hex()
    world.node.rpc("anvil_setBalance", address, hex(order.value + 1000))
    with pytest.raises(ChainUnavailable, match="nsufficient funds"):
        await sender.execute(order)
    assert journal.next_nonce(0) == 0
    world.node.rpc("anvil_setBalance", address, hex(10**18))
    assert (await sender.execute(order)).order == "post/1"
    assert sent(world) == 1
