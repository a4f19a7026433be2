"""The book of peers keeps the directory in step with the registry, whoever crowds in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from nodeclient.core import events as ev
from nodeclient.core.types import Address, BlockRef, NodeRecord, NodeStatus
from nodeclient.p2p.directory import Directory
from nodeclient.p2p.errors import PeerRefused
from nodeclient.upkeep.peers import PeerBook
from tests.p2p.conftest import CHAIN_ID, REGISTRY, Node

AT: Any = {"block": BlockRef(1, b"\x01" * 32), "log_index": 0, "tx_hash": bytes(32)}


@dataclass
class Registry:
    """The part of a ChainReader that a PeerBook asks."""

    entries: dict[Address, NodeRecord] = field(default_factory=dict)

    async def node(self, address: Address) -> NodeRecord | None:
        return self.entries.get(address)


async def told(book: PeerBook, event: ev.ChainEvent) -> None:
    book.on_event(event)
    await asyncio.gather(*book._jobs)


async def test_book__candidate_pushed_out_by_a_crowd__is_back_once_it_is_admitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nodeclient.p2p.directory.MAX_APART", 2)
    directory, registry = Directory(CHAIN_ID, REGISTRY), Registry()
    book = PeerBook(directory, registry)  # type: ignore[arg-type]
    nodes = [Node(Address(bytes([number]) * 20)) for number in range(0x61, 0x65)]
    records = {each.address: each.record() for each in nodes}
    for each in nodes:
        record = records[each.address]
        registry.entries[each.address] = each.entry(record, NodeStatus.PENDING)
        await told(book, ev.ContactPublished(**AT, node=each.address, contact=record))
    first = nodes[0]
    with pytest.raises(PeerRefused):
        directory.contact(first.address)
    registry.entries[first.address] = first.entry(records[first.address], NodeStatus.ACTIVE)
    await told(book, ev.StatusChanged(**AT, node=first.address, status=NodeStatus.ACTIVE))
    assert directory.contact(first.address) == first.contact()
    assert directory.admitted() == (first.address,)
    assert len(directory.peers()) == 3
