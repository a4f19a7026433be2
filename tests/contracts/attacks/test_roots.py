"""Root signatures: replayed, of another key, malleable, unchecked where the precompile is absent"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from tests.contracts.attacks.harness import Removal, attack
from tests.contracts.attacks.test_equivocation import EQUIVOCATION
from tests.contracts.network import NOBODY, Network, Refused, Task
from tests.contracts.signing import AFTER, BEFORE, P256_N, Header, NodeKeys, Vote, tagged

UNSIGNED: Final = "attestation: not signed by the node's root"
APART: Final = "attestation: headers about different things"


def ledger(name: str, defence: str, old: str, new: str = "pass") -> Removal:
    """A check of `AttestationLedger.vy`."""
    return Removal(name, f"`AttestationLedger`: {defence}", "AttestationLedger.vy", old, new)


def records(name: str, defence: str, old: str, new: str = "pass") -> Removal:
    """A check of `modules/records.vy`, in the market."""
    return Removal(name, f"`records`: {defence}", "modules/records.vy", old, new, "TaskMarket")


def p256(name: str, defence: str, old: str, new: str) -> Removal:
    """A check of `modules/p256_signature.vy`, in the market."""
    file = "modules/p256_signature.vy"
    return Removal(name, f"`p256_signature`: {defence}", file, old, new, "TaskMarket")


SIGNED: Final = """            header.task,
            header.commitment,
            header.node,
            header.phase,
            header.attempt,"""
CHECK: Final = records(
    "root-signature",
    "a header is signed by the root key that is registered for the node",
    """assert p256.verify(
        digest, header.r, header.s, x, y
    ), "attestation: not signed by the node's root\"""",
    "p256.verify(digest, header.r, header.s, x, y)",
)
TASK: Final = records(
    "header-task",
    "the signed header names task and commitment",
    SIGNED,
    SIGNED.replace("header.task", "convert(1, uint256)").replace(
        "header.commitment", "empty(bytes32)"
    ),
)
NODE: Final = records(
    "header-node",
    "the signed header names the node",
    SIGNED,
    SIGNED.replace("header.node", "empty(address)"),
)
PHASE: Final = records(
    "header-phase",
    "the signed header names the phase",
    SIGNED,
    SIGNED.replace("header.phase", "convert(1, uint8)"),
)
ATTEMPT: Final = records(
    "header-attempt",
    "the signed header names the attempt",
    SIGNED,
    SIGNED.replace("header.attempt", "convert(1, uint8)"),
)
DOMAIN: Final = "            HEADER_DOMAIN,\n            chain.id,\n            ledger,"
CHAIN: Final = records(
    "header-chain",
    "the signed header names the chain, as it is now",
    DOMAIN,
    DOMAIN.replace("chain.id", "convert(31337, uint256)"),
)
LEDGER: Final = records(
    "header-ledger",
    "the signed header names the ledger",
    DOMAIN,
    DOMAIN.replace("ledger", "empty(address)"),
)
HIGH_S: Final = p256(
    "root-high-s", "s above N/2 is no signature", "    if s > HALF_N:\n        return False\n", ""
)
LENGTH: Final = p256(
    "precompile-length",
    "only an answer of 32 bytes is one; else the software decides",
    "    if answered and len(answer) == 32:\n        return convert(answer, uint256) == 1",
    "    if answered:\n        return True",
)
AGREE: Final = ledger(
    "headers-agree",
    "two signatures of one header are no equivocation",
    """    assert records.signed_header(self, header_a, x, y) != records.signed_header(
        self, header_b, x, y
    ), "attestation: headers agree\"""",
    "    records.signed_header(self, header_a, x, y)\n"
    "    records.signed_header(self, header_b, x, y)",
)
ONE_ATTEMPT: Final = ledger(
    "headers-of-one-attempt",
    "an equivocation is about one attempt",
    " and header_a.attempt == header_b.attempt\n",
    "\n",
)


def admitted(
    network: Network, task: Task, signature: tuple[int, int], changed: dict[str, Any] | None = None
) -> None:
    """The committee affirms and the executor is admitted with this signature of its header.

    `changed` is what the contract would have read if it did not bind that field: accomplices vote
    for whatever digest it computes.
    """
    header = network.header(task, BEFORE)
    vote = Vote(task.id, BEFORE, network.digest(replace(header, **(changed or {}))))
    call = network.market.functions.admit(
        task.as_tuple(),
        list(task.members),
        header.statement(signature),
        network.ballot(task, vote),
    )
    network.send(task.executor, call)
    assert network.state(task) == 4


# --- replay -------------------------------------------------------------------------------------


def replayed(network: Network, task: Task, changed: dict[str, Any]) -> None:
    """The executor is admitted with its machine's signature of a header that differs."""
    other = replace(network.header(task, BEFORE), **changed)
    signature = network.sign_header(other, network.nodes[task.executor])
    admitted(network, task, signature, changed)


@attack(UNSIGNED, TASK)
def test_root__signature_for_another_task__refused(network: Network) -> None:
    """What the machine signed for one task is shown for the next one"""
    replayed(network, network.reach("accepted"), {"task": 1, "commitment": bytes(32)})


@attack(UNSIGNED, NODE)
def test_root__signature_that_names_another_node__refused(network: Network) -> None:
    """One hardware root stands behind two nodes, and signs once for both"""
    replayed(network, network.reach("accepted"), {"node": NOBODY})


@attack(UNSIGNED, PHASE)
def test_root__signature_of_before__finishes_nothing(network: Network) -> None:
    """The machine is gone after BEFORE; its signature of that record is shown as AFTER"""
    task = network.reach("admitted")
    before, after = network.header(task, BEFORE), network.header(task, AFTER)
    vote = Vote(task.id, AFTER, network.digest(before))
    call = network.market.functions.finish(
        task.as_tuple(),
        list(task.members),
        after.statement(network.sign_header(before)),
        network.ballot(task, vote),
    )
    network.send(task.executor, call)
    assert network.state(task) == 5


@attack(UNSIGNED, ATTEMPT)
def test_root__signature_of_another_attempt__refused(network: Network) -> None:
    """What the machine signed in its first attempt is shown as the second"""
    task = network.reach("accepted")
    first = network.header(task, BEFORE)
    second = replace(first, attempt=2)
    vote = Vote(task.id, BEFORE, network.digest(first), attempt=2)
    call = network.market.functions.admit(
        task.as_tuple(),
        list(task.members),
        second.statement(network.sign_header(first)),
        network.ballot(task, vote),
    )
    network.send(task.executor, call)
    assert network.state(task) == 4


def elsewhere(network: Network, task: Task, chain_id: int, ledger: str) -> None:
    """The executor is admitted with a signature that its machine made for another ledger."""
    header = network.header(task, BEFORE)
    digest = header.digest(chain_id, ledger)
    signature = network.nodes[task.executor].root_sign(digest)
    call = network.market.functions.admit(
        task.as_tuple(),
        list(task.members),
        header.statement(signature),
        network.ballot(task, Vote(task.id, BEFORE, digest)),
    )
    network.send(task.executor, call)
    assert network.state(task) == 4


@attack(UNSIGNED, CHAIN)
def test_root__signature_of_the_chain_before_a_fork__refused(network: Network) -> None:
    """The chain has forked; the machine's signature of one branch is used on the other"""
    task = network.reach("accepted")
    was = network.chain.w3.eth.chain_id
    try:
        network.chain.rpc("anvil_setChainId", [was + 1])
        elsewhere(network, task, was, network.attestation.address)
    finally:
        network.chain.rpc("anvil_setChainId", [was])


@attack(UNSIGNED, LEDGER)
def test_root__signature_for_another_ledger__refused(network: Network) -> None:
    """What the machine signed for another deployment's ledger is used at this one"""
    task = network.reach("accepted")
    elsewhere(network, task, network.chain.w3.eth.chain_id, NOBODY)


# --- whose key, which encoding ------------------------------------------------------------------


@attack(UNSIGNED, CHECK)
def test_root__key_of_another_node__refused(network: Network) -> None:
    """The header is signed by a member's root: nothing was attested by the executor's hardware"""
    task = network.reach("accepted")
    other = network.nodes[task.members[0]]
    admitted(network, task, network.sign_header(network.header(task, BEFORE), other))


@attack(UNSIGNED, HIGH_S)
def test_root__signature_flipped__refused(network: Network) -> None:
    """A second signature (r, N - s), which no root made, stands for the machine's"""
    task = network.reach("accepted")
    r, s = network.sign_header(network.header(task, BEFORE))
    admitted(network, task, (r, P256_N - s))


@attack(UNSIGNED, LENGTH, on="no_precompile")
def test_root__precompile_absent__software_decides(no_precompile: Network) -> None:
    """Where 0x100 holds nothing a call to it succeeds: any signature will do"""
    network = no_precompile
    task = network.reach("accepted")
    admitted(network, task, (1, 1))


def test_admit__precompile_absent__sound_signature_admits(no_precompile: Network) -> None:
    assert no_precompile.state(no_precompile.reach("settled")) == 5


# --- two headers for one attempt ----------------------------------------------------------------


def accuse(network: Network, a: Header, b: Header) -> NodeKeys:
    """An outsider accuses the headers' node."""
    wholes = [one.whole(network.sign_header(one)) for one in (a, b)]
    network.send(network.outsider, network.attestation.functions.prove_double_header(*wholes))
    return network.nodes[a.node]


def deposit(network: Network, keys: NodeKeys) -> int:
    """What is left of a node's Deposit, in wei."""
    return int(network.registry.functions.deposit(keys.address).call())


@attack("the Deposit is gone", EQUIVOCATION)
def test_root__two_headers_for_one_attempt__cost_all(network: Network) -> None:
    """The machine signs different evidence for different members"""
    first = network.header(network.reach("admitted"), BEFORE)
    keys = accuse(network, first, replace(first, evidence_root=b"\x09" * 31 + b"\x00"))
    if deposit(network, keys) == 0:
        raise Refused("the Deposit is gone")


@attack("attestation: headers agree", AGREE)
def test_root__one_header_signed_twice__no_fault(network: Network) -> None:
    """An honest executor signed its header anew after a restart, and is accused with both"""
    header = network.header(network.reach("admitted"), BEFORE)
    assert deposit(network, accuse(network, header, header)) == 0


@attack(APART, ONE_ATTEMPT)
def test_root__headers_of_two_attempts__no_fault(network: Network) -> None:
    """An honest executor tried twice, and is accused with the headers of both attempts"""
    first = network.header(network.reach("admitted"), BEFORE)
    second = replace(first, attempt=2, nonce_root=tagged("second"))
    assert deposit(network, accuse(network, first, second)) == 0
