"""Signs of life of peers: who counts as reachable, and how many are asked."""

from __future__ import annotations

import pytest

from nodeclient.core.health import PeerPart
from nodeclient.core.types import Address
from nodeclient.health import reach as module
from nodeclient.health.reach import Reach
from nodeclient.p2p.errors import PeerBusy, PeerDeclined, PeerError, PeerRefused, PeerSilent

PEERS = [Address(bytes([number]) * 20) for number in range(1, 6)]


class Network:
    """``faults``: what a peer's question ends with."""

    def __init__(self, peers: list[Address], **_: object) -> None:
        self.peers, self.faults, self.asked = peers, dict[Address, type[PeerError]](), []
        self.reach = Reach(lambda: self.peers, self.ask)

    async def ask(self, peer: Address) -> None:
        self.asked.append(peer)
        if peer in self.faults:
            raise self.faults[peer]("no", "wait")


async def test_round__every_kind_of_answer__only_silence_and_a_wrong_certificate_do_not_count() -> (
    None
):
    network = Network(list(PEERS))
    assert network.reach.part() == PeerPart(5, 0, 0)
    network.faults = dict(
        zip(PEERS, (PeerSilent, PeerRefused, PeerDeclined, PeerBusy), strict=False)
    )
    await network.reach.round()
    assert network.reach.part(findings=2) == PeerPart(5, 5, 3, 2)
    network.faults = {}
    await network.reach.round()
    assert network.reach.part() == PeerPart(5, 5, 5)


async def test_peer__that_left__counts_no_more() -> None:
    network = Network(list(PEERS))
    await network.reach.round()
    network.peers = PEERS[:2]
    assert network.reach.part() == PeerPart(2, 2, 2)


async def test_many_peers__all_are_asked_in_turn_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ROUND_PEERS", 2)
    network = Network(list(PEERS))
    for _ in range(5):
        await network.reach.round()
    assert network.asked == PEERS + PEERS
    assert network.reach.part() == PeerPart(5, 5, 5)


async def test_nobody_known__nobody_asked() -> None:
    network = Network([])
    await network.reach.round()
    assert (network.asked, network.reach.part()) == ([], PeerPart(0, 0, 0))
