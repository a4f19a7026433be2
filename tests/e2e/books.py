"""What the contracts say, asked without any node: deposits, reputations, money."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from eth_utils.address import to_checksum_address

from nodeclient.chain import market
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.reader import Reader
from nodeclient.chain.rpc import Rpc
from nodeclient.chain.sender import Sender, SendSettings
from nodeclient.core.types import Address, TaskId, TaskState
from nodeclient.identity.folder import open_folder
from nodeclient.ports import Order
from scripts.embedded.network import Network
from scripts.embedded.node import NodeProcess

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Fate:
    """How a task ended: market's cause (0: settled or expired), who was slashed by how many wei,
    and (account, cause, before, after) of each change of reputation."""

    cause: int
    slashed: dict[bytes, int]
    reputation: tuple[tuple[bytes, int, int, int], ...]

    def lost(self, account: str) -> list[int]:
        """Causes for which an account lost reputation."""
        who = bytes.fromhex(account[2:])
        return [
            cause
            for node, cause, before, after in self.reputation
            if node == who and after < before
        ]


class Books:
    """Synchronous; each question opens and closes its own RPC session."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def ask(self, question: Callable[[Reader], Awaitable[Answer]]) -> Answer:
        """Put a question to the chain."""

        async def put() -> Answer:
            rpc = Rpc(self._network.chain.url)
            try:
                return await question(Reader(rpc, self._network.deployment))
            finally:
                await rpc.close()

        return asyncio.run(put())

    def deposit(self, node: NodeProcess) -> int:
        """In wei."""
        record = self.ask(lambda reader: reader.node(address(node)))
        assert record is not None
        return record.deposit

    def deposits(self) -> dict[str, int]:
        """Of all workers, by name."""
        return {name: self.deposit(node) for name, node in self._network.workers.items()}

    def reputation(self, node: NodeProcess) -> int:
        """In basis points."""
        return self.ask(lambda reader: reader.reputation(address(node)))

    def owed(self, node: NodeProcess) -> int:
        """What ``withdraw`` would pay, in wei."""
        return self.ask(lambda reader: reader.market.owed(address(node)))

    def burned(self) -> int:
        """Posting fees that the market keeps, in wei."""
        return int(self.ask(lambda reader: reader.market.view("burned")))

    def balance(self, node: NodeProcess) -> int:
        """In wei."""
        return int(self._network.chain.rpc("eth_getBalance", node.account, "latest"), 16)

    def fate(self, task: int) -> Fate:
        """What the task's last transaction did."""
        end = self._end(task)
        slashed = {
            log["node"]: log["amount"]
            for log in self.logs("NodeRegistry", "Slashed")
            if log["tx"] == end["tx"]
        }
        changes = tuple(
            (log["node"], log["cause"], log["before"], log["after"])
            for log in self.logs("ReputationLedger", "ReputationChanged")
            if log["task"] == task
        )
        return Fate(end.get("cause", 0), slashed, changes)

    def ended_at(self, task: int) -> int:
        """The block in which the task ended."""
        return int(self._end(task)["block"])

    def _end(self, task: int) -> dict[str, Any]:
        ends = [
            log
            for name in ("TaskSettled", "TaskFailed", "TaskExpired")
            for log in self.logs("TaskMarket", name)
            if log["task"] == task
        ]
        assert len(ends) == 1, f"task {task} ended {len(ends)} times"
        return ends[0]

    def logs(self, contract: str, name: str) -> list[dict[str, Any]]:
        """All events of a kind, oldest first, with ``tx`` and ``block`` beside their fields."""
        deployed = self._network.deployment[contract]
        layout = next(one for one in deployed.interface.logs.values() if one.name == name)
        wanted = {
            "address": to_checksum_address(deployed.address),
            "topics": ["0x" + layout.topic.hex()],
            "fromBlock": hex(self._network.deployment.deploy_block),
        }
        found = []
        for log in self._network.chain.rpc("eth_getLogs", wanted):
            topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
            fields = layout.decode(topics, bytes.fromhex(log["data"][2:]))
            place = {"tx": log["transactionHash"], "block": int(log["blockNumber"], 16)}
            found.append({**fields, **place})
        return found

    def state(self, task: int) -> TaskState | None:
        """What the market says."""
        return self.ask(lambda reader: reader.task_state(TaskId(task)))

    def send(self, node: NodeProcess, order: Order) -> None:
        """A transaction from a node's account, past its daemon. Raises ``Reverted``."""

        async def put() -> None:
            rpc = Rpc(self._network.chain.url)
            try:
                keys = open_folder(node.folder).load_keys()
                settings = SendSettings(poll_seconds=0.05)
                journal = SqliteJournal(":memory:")
                sender = Sender(rpc, self._network.deployment, journal, keys.account, settings)
                await sender.execute(order)
            finally:
                await rpc.close()

        asyncio.run(put())

    def withdraw(self, node: NodeProcess) -> int:
        """Take out what is owed; by how much the account grew, gas not counted against it."""
        before = self.balance(node)
        self.send(node, market.withdraw("withdraw"))
        return self.balance(node) - before


def address(node: NodeProcess) -> Address:
    """The 20 bytes of a node's account."""
    return Address(bytes.fromhex(node.account[2:]))
