"""A real anvil with a real deployment for every test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from nodeclient.chain import market
from nodeclient.chain.compile import compile_contracts
from nodeclient.chain.deploy import deploy
from nodeclient.chain.deployment import Deployment
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.presets import PRESETS
from nodeclient.chain.rpc import Rpc
from nodeclient.chain.sender import Sender, SendSettings
from nodeclient.ports import Order
from tests.chain.anvil_node import KEYS, AnvilNode

FAST = SendSettings(poll_seconds=0.05, stuck_seconds=1.0, replacements=120)


@dataclass(frozen=True)
class World:
    """One chain with all contracts, and the means to act on it."""

    node: AnvilNode
    rpc: Rpc
    deployment: Deployment

    def sender(self, journal: SqliteJournal, who: int = 1) -> Sender:
        """A sender for one of anvil's accounts (0 is the deployer)."""
        return Sender(self.rpc, self.deployment, journal, KEYS[who], FAST)

    def post(self, number: int, *, class_id: int = 0) -> Order:
        """An order to post a task under `number`."""
        return market.post(
            f"post/{number}",
            number.to_bytes(32, "big"),
            number,
            committee_size=3,
            class_id=class_id,
            executor_fee=10,
            member_fee=5,
            posting_fee=PRESETS["anvil"].posting_fee,
        )


@pytest.fixture
def anvil(tmp_path: Path) -> Iterator[AnvilNode]:
    node = AnvilNode(tmp_path)
    node.start()
    yield node
    node.stop()


@pytest_asyncio.fixture
async def world(anvil: AnvilNode) -> AsyncIterator[World]:
    rpc = Rpc(anvil.url, timeout=60.0)
    made = await deploy(rpc, KEYS[0], PRESETS["anvil"], "anvil", compile_contracts())
    yield World(anvil, rpc, made)
    await rpc.close()
