"""Logs become events, or nothing, or an error: never a wrong event."""

from __future__ import annotations

from typing import Any

import pytest

from nodeclient.chain.decode import Decoder
from nodeclient.chain.errors import AbiMismatch, ChainUnavailable
from nodeclient.chain.journal import SqliteJournal
from nodeclient.core.events import TaskPosted
from tests.chain.conftest import World

pytestmark = pytest.mark.chain


async def posted_log(world: World) -> dict[str, Any]:
    receipt = await world.sender(SqliteJournal(":memory:")).execute(world.post(1))
    answer = world.node.rpc("eth_getTransactionReceipt", "0x" + receipt.tx_hash.hex())
    log: dict[str, Any] = answer["logs"][0]
    return log


async def test_decode__log_of_the_market__typed(world: World) -> None:
    event = Decoder(world.deployment).decode(await posted_log(world))
    assert isinstance(event, TaskPosted)
    assert event.task == 1


async def test_decode__same_log_of_another_contract__ignored(world: World) -> None:
    log = await posted_log(world)
    assert Decoder(world.deployment).decode({**log, "address": "0x" + "11" * 20}) is None
    registry = "0x" + world.deployment["NodeRegistry"].address.hex()
    assert Decoder(world.deployment).decode({**log, "address": registry}) is None


async def test_decode__unknown_or_anonymous_log__ignored(world: World) -> None:
    log = await posted_log(world)
    assert Decoder(world.deployment).decode({**log, "topics": ["0x" + "22" * 32]}) is None
    assert Decoder(world.deployment).decode({**log, "topics": []}) is None


async def test_decode__malformed_log__refused(world: World) -> None:
    log = await posted_log(world)
    decoder = Decoder(world.deployment)
    with pytest.raises(AbiMismatch):
        decoder.decode({**log, "data": log["data"][:-64]})
    with pytest.raises(AbiMismatch):
        decoder.decode({**log, "topics": log["topics"][:-1]})
    for field in ("blockHash", "logIndex", "transactionHash", "blockNumber"):
        with pytest.raises(ChainUnavailable):
            decoder.decode({**log, field: "0x"})
