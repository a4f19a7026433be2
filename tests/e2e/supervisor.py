"""Puts crashing daemons in place of ordinary ones, and reads what they left behind."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eth_utils.abi import function_abi_to_4byte_selector

from agent.formats.hashes import keccak256
from nodeclient.core import actions as do
from nodeclient.core.case import Case
from nodeclient.errors import SealrunError
from nodeclient.identity.folder import open_folder
from nodeclient.store.cover import Cover
from nodeclient.store.database import CASES
from nodeclient.store.freezing import thaw
from scripts.embedded.network import Network
from scripts.embedded.node import NodeProcess
from tests.e2e.rogues.crashing import CRASHED, KEYS_SEEN, entries
from tests.e2e.supervise import restart

CRASHING = ("-m", "tests.e2e.rogues.crashing")
Sent = Counter[tuple[str, str]]


@contextmanager
def crashing(nodes: Sequence[NodeProcess], *words: str) -> Iterator[None]:
    """Run these nodes as crashing ones; ``words`` are roles and options of the module."""
    try:
        restart(nodes, CRASHING, *words)
        yield
    finally:
        restart(nodes)
        for node in nodes:
            for name in (CRASHED, KEYS_SEEN):
                (node.folder / name).unlink(missing_ok=True)


def crashed(nodes: Iterable[NodeProcess]) -> set[tuple[Any, ...]]:
    """(role, state, event, phase) of every kill so far."""
    return {
        (each["role"], each["from"], each["event"], each["phase"])
        for node in nodes
        for each in entries(node.folder / CRASHED)
    }


def performed_twice(nodes: Iterable[NodeProcess]) -> set[str]:
    """Kinds of orders after which a node died before it could keep the outcome."""
    return {each["action"] for node in nodes for each in entries(node.folder / CRASHED)}


def until(condition: Callable[[], Any], what: str, seconds: float = 400) -> Any:
    """Poll until the condition is true; a node that is down just now counts as not yet."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(SealrunError):
            if found := condition():
                return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.15)


def sent_for(network: Network, first: int, task: int, spec_hash: str) -> Sent:
    """(account, function) of every transaction to the market about one task, mined since a block,
    whether it succeeded or not. Only a beaten claim does not count: when another Node's claim comes
    before it in the same block it fails, and its Node claims again with the Task as it then is."""
    market = network.deployment["TaskMarket"]
    names = {
        function_abi_to_4byte_selector(entry).hex(): entry["name"]  # type: ignore[arg-type]
        for entry in market.json_abi
        if entry["type"] == "function"
    }
    subjects = {f"{task:064x}", spec_hash}
    found: Sent = Counter()
    for number in range(first, network.chain.height() + 1):
        for sent in network.chain.rpc("eth_getBlockByNumber", hex(number), True)["transactions"]:
            to_market = int(sent["to"] or "0x0", 16) == int.from_bytes(market.address, "big")
            if to_market and sent["input"][10:74] in subjects:
                name = names[sent["input"][2:10]]
                if name != "claim" or succeeded(network, sent["hash"]):
                    found[sent["from"].lower(), name] += 1
    return found


def succeeded(network: Network, tx_hash: str) -> bool:
    """Whether a mined transaction did what it was sent for."""
    return int(network.chain.rpc("eth_getTransactionReceipt", tx_hash)["status"], 16) == 1


def orders(node: NodeProcess, kind: type[do.Action], commitment: str) -> int:
    """How many different orders of a kind a node's database holds about a task, done or not."""
    with reading(node) as database:
        [count] = database.execute(
            "SELECT count(*) FROM outbox WHERE kind = ? AND commitment = ?",
            (kind.__name__, bytes.fromhex(commitment.removeprefix("0x"))),
        ).fetchone()
    return int(count)


def case_of(node: NodeProcess, commitment: str) -> Case:
    """What a node's database holds about a task."""
    with reading(node) as database:
        [body] = database.execute(
            "SELECT body FROM cases WHERE commitment = ?",
            (bytes.fromhex(commitment.removeprefix("0x")),),
        ).fetchone()
    cover = Cover(open_folder(node.folder).load_store_key())
    found: Case = thaw(Case, cover.take(CASES, body))
    return found


def spec_hash(requester: NodeProcess, commitment: str) -> str:
    """What the requester posted, in hex: keccak256 of its TaskSpec."""
    role = case_of(requester, commitment).requester
    assert role is not None
    return keccak256(role.spec).hex()


def sealed_keys(node: NodeProcess, commitment: str) -> set[tuple[str, bytes]]:
    """(CID, sealed key) of all that an owner released for a task, as it journalled it."""
    broker = case_of(node, commitment).broker
    assert broker is not None
    return set(broker.keys)


@contextmanager
def reading(node: NodeProcess) -> Iterator[sqlite3.Connection]:
    """A node's database, beside its daemon."""
    database = sqlite3.connect(f"file:{node.folder / 'node.db'}?mode=ro", uri=True)
    try:
        yield database
    finally:
        database.close()


def mounts(node: NodeProcess) -> list[str]:
    """What of a node's Machine is mounted on this host."""
    text = Path("/proc/self/mountinfo").read_text()
    return [line for line in text.splitlines() if str(node.folder.absolute()) in line]
