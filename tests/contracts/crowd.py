"""Thousands of nodes at once, written into storage and read back through views.

10,000 registrations are 10,000 P-256 signatures and transactions. What a draw, a vote or a
settlement meets is the same if the slots of one really registered node are copied for each account:
its record, its reputation, and a seat in the draw. Each account has keys, so that it can vote.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from typing import Any, Final
from urllib.request import Request, urlopen

from eth_account import Account
from vyper.cli.vyper_compile import compile_files  # type: ignore[import-untyped]
from web3 import Web3

from tests.contracts.anvil import ROOT
from tests.contracts.network import UNIT, Network, Task
from tests.contracts.signing import NodeKeys

_BATCH: Final = 2000
_LANE: Final = 25  # bits of tier 0 in `lanes`, see class_grid.vy
_PLACE: Final = 16  # where a record keeps its place, 20 bits, see NodeRegistry.vy
Write = tuple[str, int, int]


def crowd(network: Network, number: int) -> dict[str, str]:
    """Put `number` nodes of one unit into the draw; label by address.

    Raises:
        AssertionError: the contracts do not see them as nodes.
    """
    model = network.join("model", UNIT).address
    labels = {_address(label): label for label in (f"crowd {i}" for i in range(number))}
    _write(network, list(_slots(network, model, list(labels))))
    held = network.balance(network.registry.address) + number * UNIT
    network.chain.rpc("anvil_setBalance", [network.registry.address, hex(held)])
    _check(network, model, list(labels))
    return labels


def hire(network: Network, task: Task, labels: dict[str, str]) -> Task:
    """The task, with the keys of all its members at hand."""
    for member in task.members:
        if member in labels:
            network.nodes[member] = NodeKeys.derive(labels[member])
    return task


def _address(label: str) -> str:
    # as `NodeKeys.derive`, without the other keys
    return str(Account.from_key(hashlib.sha256(f"{label}/0".encode()).digest()).address)


def _slots(network: Network, model: str, accounts: list[str]) -> Iterator[Write]:
    registry, reputation = network.registry.address, network.reputation.address
    grid = _layout("NodeRegistry")["class_grid"]
    records = _layout("NodeRegistry")["records"]["slot"]
    scores = _layout("ReputationLedger")["slots"]["slot"]
    record = _read(network, registry, _of(records, model))
    score = _read(network, reputation, _of(scores, model))
    lanes = _read(network, registry, grid["lanes"]["slot"])
    elsewhere = record & ~(0xFFFFF << _PLACE)
    standing = lanes % 2**_LANE
    for position, account in enumerate(accounts, standing):
        yield registry, _of(records, account), elsewhere | (position + 1) << _PLACE
        yield reputation, _of(scores, account), score
        yield registry, grid["seats"]["slot"] + position, int(account, 16)
    yield registry, grid["lanes"]["slot"], lanes + len(accounts)


def _check(network: Network, model: str, accounts: list[str]) -> None:
    functions = network.registry.functions
    assert functions.drawable().call() == len(accounts) + len(network.nodes)
    for account in (accounts[0], accounts[len(accounts) // 2], accounts[-1]):
        assert functions.status(account).call() == functions.status(model).call() == 2
        assert functions.deposit(account).call() == UNIT
        assert network.reputation.functions.reputation(account).call() == 1000
    drawn = functions.draw(hashlib.sha256(b"crowd").digest(), 11, model).call()
    assert len(set(drawn) & set(accounts)) > 5


@cache
def _layout(contract: str) -> dict[str, Any]:
    path = ROOT / f"contracts/{contract}.vy"
    output = next(iter(compile_files([path], ["layout"], paths=[str(ROOT)]).values()))
    return dict(output["layout"]["storage_layout"])


def _of(slot: int, account: str) -> int:
    """Slot of a HashMap's value: Vyper hashes the map's slot, then the key."""
    key = bytes.fromhex(account[2:]).rjust(32, b"\0")
    return int.from_bytes(Web3.keccak(slot.to_bytes(32, "big") + key))


def _read(network: Network, contract: str, slot: int) -> int:
    at = Web3.to_checksum_address(contract)
    return int.from_bytes(network.chain.w3.eth.get_storage_at(at, slot))


def _write(network: Network, writes: list[Write]) -> None:
    for first in range(0, len(writes), _BATCH):
        calls = [
            {
                "jsonrpc": "2.0",
                "id": number,
                "method": "anvil_setStorageAt",
                "params": [contract, f"0x{slot:064x}", f"0x{word:064x}"],
            }
            for number, (contract, slot, word) in enumerate(writes[first : first + _BATCH])
        ]
        body = json.dumps(calls).encode()
        headers = {"content-type": "application/json"}
        with urlopen(Request(network.chain.url, body, headers)) as answer:
            assert all(one["result"] is True for one in json.load(answer))
