"""No call needs more than 16 million gas: 10,000 nodes, committees of 11, the longest queue.

One network in the worst state that others can bring about: as many tasks without a leader as one
look passes over (every change of the draw has to read them all), slots written for the first time,
the longest contact, the most members. Each function that changes state is called in it, and the
dearest receipt of each counts. How dear a call can be made is bounded by what a single transaction
may use since osaka (EIP-7825).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest
from eth_abi.abi import encode
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.types import TxReceipt

from tests.contracts.attacks.flood import flood
from tests.contracts.attacks.harness import Removal, remove
from tests.contracts.crowd import crowd, hire
from tests.contracts.network import (
    CLAIM_WINDOW,
    DELAY,
    UNBONDING,
    UNIT,
    Network,
    Task,
)
from tests.contracts.signing import (
    AFTER,
    BEFORE,
    CONTRAINDICATED,
    DURING,
    NodeKeys,
    Vote,
    tagged,
)

LIMIT: Final = 16_000_000
# What docs/attacks.md says of all of them; far below the limit.
DEAREST: Final = 2_000_000
NODES: Final = 10_000
LARGEST: Final = 11
# Tasks that `undrawn` passes over and still answers; one more and it denies.
QUEUE: Final = 255
# Called by a neighbour alone: their gas stands in the receipts of the calls that lead there.
INNER: Final = {
    "open", "engage", "release", "settle", "penalise", "collect", "slash", "reward",
    "bar", "bar_maker", "note_bar", "hold",
}  # fmt: skip
# Every pick but the first hits a place already taken, redraws as often as it may, then walks.
WORST_LUCK: Final = Removal(
    "worst-luck",
    "",
    "modules/class_grid.vy",
    "code: uint256 = (tier << 14) | ((convert(digest, uint256) >> 128) % size)",
    "code: uint256 = tier << 14",
    contract="NodeRegistry",
    also=(
        (
            "code = (tier << 14) | ((convert(last, uint256) >> 128) % size)",
            "code = hit",
        ),
    ),
)


@dataclass(slots=True)
class Metered(Network):
    """A network that keeps the dearest receipt of each function."""

    dearest: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def send(self, sender: str, call: ContractFunction, value: int = 0) -> TxReceipt:
        """Send as `Network` does, and note the gas."""
        receipt = Network.send(self, sender, call, value)
        self.dearest[call.fn_name] = max(self.dearest[call.fn_name], receipt["gasUsed"])
        return receipt


@pytest.fixture
def metered(network: Network) -> Metered:
    return Metered(**{name: getattr(network, name) for name in Network.__slots__})


def state_changing(network: Network) -> set[str]:
    """Names of all functions that change state."""
    names = set()
    for held in ("market", "registry", "reputation", "attestation", "images"):
        for entry in getattr(network, held).abi:
            if entry["type"] == "function" and entry["stateMutability"] in (
                "nonpayable",
                "payable",
            ):
                names.add(entry["name"])
    return names


@pytest.mark.chain
def test_gas__every_function_in_the_worst_state__below_the_limit(metered: Metered) -> None:
    network = metered
    leave(network)  # before the crowd: a block costs anvil a copy of the whole state
    labels = crowd(network, NODES)
    settled, refused, late, forgotten = in_committee(network, labels, (3, 3, 3, 2))
    forgotten = network.admit(network.accept(forgotten))
    settled = network.admit(network.accept(settled))
    late = network.admit(network.accept(late))
    network.finish(settled, seats=range(LARGEST - 1))
    excuse(network, settled)
    network.send(network.outsider, network.market.functions.advance())
    flood(network, QUEUE)
    network.chain.mine(DELAY + CLAIM_WINDOW + 1)
    assert network.registry.functions.frozen_by().call() == 0

    network.send(network.outsider, network.refuse_call(refused, BEFORE))
    network.send(network.outsider, network.refuse_call(late, DURING))
    network.send(network.outsider, network.expire_call(forgotten))
    change_nodes(network)
    change_images(network)
    equivocate(network, settled.members[0], settled)
    network.send(settled.executor, network.market.functions.withdraw())
    (behind,) = in_committee(network, labels, (3,))
    network.finish(network.admit(network.accept(behind)))
    network.send(network.outsider, network.market.functions.advance())

    # `fail_barred` stands in test_admission_gas.py, with the calls of admission
    assert state_changing(network) - set(network.dearest) == INNER | {"fail_barred"}
    assert max(network.dearest.values()) < DEAREST < LIMIT, dict(network.dearest)


@pytest.mark.chain
def test_gas__draw_with_the_worst_luck__below_the_limit(metered: Metered) -> None:
    """The bound of the redraws itself: all eleven seats from one tier of twelve nodes."""
    network = metered
    for number in range(12 - 6):
        network.join(f"twelve {number}", UNIT)
    remove(network, WORST_LUCK)
    in_committee(network, {}, (3,))
    assert network.dearest["draw"] > 500_000  # it really walked
    assert network.dearest["draw"] < DEAREST


def in_committee(network: Network, labels: dict[str, str], classes: Sequence[int]) -> list[Task]:
    """Tasks of the largest committee, one for each class, in the same blocks up to their draw."""
    posted = [network.post("limits", k=LARGEST, class_id=class_id) for class_id in classes]
    led = [network.claim(task, network.free_node()) for task in posted]
    return [hire(network, network.draw(task), labels) for task in led]


def leave(network: Network) -> None:
    """A node that leaves, and takes its Deposit with it."""
    keys = network.join("leaves", UNIT)
    network.send(keys.address, network.registry.functions.exit())
    network.chain.mine(UNBONDING)
    network.send(keys.address, network.registry.functions.withdraw_deposit())
    del network.nodes[keys.address]


def change_nodes(network: Network) -> None:
    """Each call of a node, with the longest queue to look through and the longest contact."""
    functions = network.registry.functions
    contact = b"\xff" * 2048
    keys = NodeKeys.derive("wordy")
    network.fund(keys.address)
    row, _, signature = network.registration(keys, contact)
    network.send(keys.address, functions.register(row, contact, True, *signature), UNIT)
    signed = keys.root_sign(contact_digest(network, keys, contact))
    network.send(keys.address, functions.set_contact(contact, *signed))
    network.send(keys.address, functions.rotate_vrf(*NodeKeys.derive("other").vrf_public))
    network.send(keys.address, functions.top_up(), UNIT)
    network.send(keys.address, functions.pause())
    network.send(keys.address, functions.resume())
    network.send(network.outsider, functions.sync(keys.address))
    network.send(keys.address, functions.exit())


def contact_digest(network: Network, keys: NodeKeys, contact: bytes) -> bytes:
    """What the root signs to change a contact."""
    values = [
        tagged("sealrun/contact/v1"), network.chain.w3.eth.chain_id, network.registry.address,
        keys.address, bytes(Web3.keccak(contact)),
    ]  # fmt: skip
    types = ["bytes32", "uint256", "address", "address", "bytes32"]
    return hashlib.sha256(encode(types, values)).digest()


def change_images(network: Network) -> None:
    """Each call of the owner of the image list, and a node's report."""
    functions, owner = network.images.functions, network.images.functions.owner().call()
    approve = functions.approve(b"\x01" * 32, 1, b"\x02" * 20, 0, 2**63)
    network.send(owner, approve)
    network.chain.rpc("evm_increaseTime", [4000])
    network.chain.mine(1)
    network.send(next(iter(network.nodes)), functions.report_load(b"\x01" * 32))
    network.send(owner, functions.revoke(b"\x01" * 32))
    network.send(owner, functions.renounce())


def excuse(network: Network, task: Task) -> None:
    """The member that the settlement recorded as silent shows a vote."""
    seat = LARGEST - 1
    vote = Vote(task.id, AFTER, b"\x01" * 32)
    signature = network.sign_vote(vote, network.nodes[task.members[seat]])
    call = network.attestation.functions.excuse(task.members, seat, vote.as_tuple(), signature)
    network.send(network.outsider, call)


def equivocate(network: Network, member: str, task: Task) -> None:
    """Both proofs: a member voted twice, and an executor's root signed two headers."""
    functions = network.attestation.functions
    vote = Vote(task.id, BEFORE, b"\x01" * 32)
    against = replace(vote, verdict=CONTRAINDICATED)
    proof: list[Any] = []
    for one in (vote, against):
        proof += [one.as_tuple(), network.sign_vote(one, network.nodes[member])]
    network.send(network.outsider, functions.prove_double_vote(*proof))
    first = network.header(task, AFTER)
    second = replace(first, evidence_root=b"\x66" * 31 + b"\x00")
    headers = [header.whole(network.sign_header(header)) for header in (first, second)]
    network.send(network.outsider, functions.prove_double_header(*headers))
