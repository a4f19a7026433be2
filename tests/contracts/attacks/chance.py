"""What an attacker can compute by itself: outputs and tickets for randomness it supposes."""

from __future__ import annotations

from eth_abi.abi import encode
from web3 import Web3
from web3.contract.contract import ContractFunction

from nodeclient.core import ecvrf, vrf_witness
from tests.contracts.network import DELAY, Network, Task
from tests.contracts.signing import NodeKeys, tagged

SUITE = ecvrf.SECP256K1_TAI


def alpha_of(network: Network, task: Task, keys: NodeKeys, word: bytes) -> bytes:
    """The VRF input of a node if `word` were the randomness of the race."""
    values = [
        tagged("sealrun/alpha/v1"), network.chain.w3.eth.chain_id, network.market.address, task.id,
        keys.address, word,
    ]  # fmt: skip
    types = ["bytes32", "uint256", "address", "uint256", "address", "bytes32"]
    return bytes(Web3.keccak(encode(types, values)))[: vrf_witness.ALPHA_BYTES]


def beta_of(network: Network, task: Task, keys: NodeKeys, word: bytes) -> bytes:
    """A node's VRF output if `word` were the randomness of the race."""
    proof = ecvrf.prove(SUITE, keys.vrf, alpha_of(network, task, keys, word))
    return ecvrf.proof_to_hash(SUITE, proof)


def ticket_of(network: Network, task: Task, keys: NodeKeys, beta: bytes) -> int:
    """The ticket that the market would give for an output, by its own view."""
    call = network.market.functions.ticket_of(beta, keys.address, task.posted_at)
    return int(call.call())


def wins(network: Network, task: Task, keys: NodeKeys, word: bytes) -> bool:
    """Whether the node would lead if `word` were the randomness of the race."""
    return ticket_of(network, task, keys, beta_of(network, task, keys, word)) < task.ticket


def by_ticket(network: Network, task: Task) -> list[NodeKeys]:
    """All nodes, the best ticket first."""
    word = network.prevrandao(task.posted_at + DELAY)
    return sorted(
        network.nodes.values(),
        key=lambda keys: ticket_of(network, task, keys, beta_of(network, task, keys, word)),
    )


def raced(network: Network) -> tuple[Task, NodeKeys]:
    """A task that the last but one of all tickets leads, and the node with the last."""
    task = network.post()
    network.open_claims(task)
    *_, leader, loser = by_ticket(network, task)
    return network.claim(task, leader), loser


def claim_with(
    network: Network, task: Task, keys: NodeKeys, header: bytes, word: bytes
) -> ContractFunction:
    """The call `claim` with any header, and a true proof for randomness it is said to hold."""
    proof = vrf_witness.prove(keys.vrf, alpha_of(network, task, keys, word)).as_arguments()
    return network.market.functions.claim(task.as_tuple(), header, *proof)


def seed_of(beta: bytes, word: bytes) -> bytes:
    """What a committee is drawn from."""
    return bytes(Web3.keccak(encode(["bytes32"] * 3, [tagged("sealrun/seed/v1"), beta, word])))


def forecast(network: Network, task: Task) -> tuple[str, ...]:
    """The committee of a led task, as anybody can compute it once its entropy is out."""
    seed = seed_of(task.beta, network.prevrandao(network.entropy_block(task)))
    draw = network.registry.functions.draw(seed, task.committee_size, task.executor)
    return tuple(draw.call())
