"""Equivocation: who pays for saying two things, and who is accused of it falsely"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.contracts.attacks.harness import Removal, attack
from tests.contracts.network import Network, Refused
from tests.contracts.signing import BEFORE, CONTRAINDICATED, DURING, NodeKeys, Vote


def ledger(name: str, defence: str, old: str, new: str = "pass") -> Removal:
    """A check of `AttestationLedger.vy`."""
    return Removal(name, f"`AttestationLedger`: {defence}", "AttestationLedger.vy", old, new)


EQUIVOCATION: Final = ledger(
    "equivocation-costs",
    "a proved equivocation takes the whole Deposit, whoever proves it",
    "    extcall INodeRegistry(REGISTRY).slash(node, max_value(uint256), msg.sender, "
    '"EQUIVOCATION")',
    "    pass",
)
AGREE: Final = ledger(
    "votes-agree",
    "two votes that say the same are no equivocation",
    "vote_a.verdict != vote_b.verdict or vote_a.header != vote_b.header",
    "vote_a.valid_until != vote_b.valid_until",
)
ONE_ATTEMPT: Final = ledger(
    "votes-of-one-attempt",
    "an equivocation is about one attempt",
    "        and vote_a.attempt == vote_b.attempt\n",
    "",
)
ONE_PHASE: Final = ledger(
    "votes-of-one-phase",
    "an equivocation is about one phase",
    "        and vote_a.phase == vote_b.phase\n",
    "",
)
ONE_TASK: Final = ledger(
    "votes-of-one-task",
    "an equivocation is about one task",
    "vote_a.task == vote_b.task\n        and",
    "",
)
ONE_SIGNER: Final = ledger(
    "votes-of-one-signer",
    "an equivocation is two votes of one node",
    "assert node == votes.signer(",
    "assert self != votes.signer(",
)
ONCE: Final = ledger(
    "fault-once",
    "a fault is punished once",
    'assert not self.proven[fault], "attestation: already proven"',
)


def accuse(
    network: Network, keys: NodeKeys, a: Vote, b: Vote, other: NodeKeys | None = None
) -> None:
    """An outsider accuses a node, and it loses its Deposit."""
    call = network.attestation.functions.prove_double_vote(
        a.as_tuple(),
        network.sign_vote(a, keys),
        b.as_tuple(),
        network.sign_vote(b, other or keys),
    )
    network.send(network.outsider, call)
    assert network.registry.functions.deposit(keys.address).call() == 0
    assert network.owed(network.outsider) != 0


@attack("the Deposit is gone", EQUIVOCATION)
def test_equivocation__proved_by_an_outsider__costs_all(network: Network) -> None:
    """A member votes both ways, to be right whatever comes"""
    keys = network.free_node()
    vote = Vote(1, BEFORE, b"\x01" * 32)
    call = network.attestation.functions.prove_double_vote(
        vote.as_tuple(),
        network.sign_vote(vote, keys),
        (other := replace(vote, verdict=CONTRAINDICATED)).as_tuple(),
        network.sign_vote(other, keys),
    )
    network.send(network.outsider, call)
    if network.registry.functions.deposit(keys.address).call() == 0:
        raise Refused("the Deposit is gone")


VOTE: Final = Vote(1, BEFORE, b"\x01" * 32)
APART: Final = "attestation: votes about different things"


@attack("attestation: votes agree", AGREE)
def test_equivocation__vote_given_twice__no_fault(network: Network) -> None:
    """An honest member repeated its vote with a later last block, and is accused with both"""
    accuse(network, network.free_node(), VOTE, replace(VOTE, valid_until=7))


@attack(APART, ONE_ATTEMPT)
def test_equivocation__verdict_changed_with_the_attempt__no_fault(network: Network) -> None:
    """An honest member contradicted the first attempt and affirmed the second"""
    against = replace(VOTE, attempt=2, verdict=CONTRAINDICATED)
    accuse(network, network.free_node(), VOTE, against)


@attack(APART, ONE_PHASE)
def test_equivocation__verdict_changed_with_the_phase__no_fault(network: Network) -> None:
    """An honest member affirmed BEFORE and contradicted DURING"""
    against = replace(VOTE, phase=DURING, verdict=CONTRAINDICATED)
    accuse(network, network.free_node(), VOTE, against)


@attack(APART, ONE_TASK)
def test_equivocation__votes_about_two_tasks__no_fault(network: Network) -> None:
    """An honest member affirmed one task and contradicted another"""
    against = replace(VOTE, task=2, verdict=CONTRAINDICATED)
    accuse(network, network.free_node(), VOTE, against)


@attack("attestation: votes of different nodes", ONE_SIGNER)
def test_equivocation__votes_of_two_members__no_fault(network: Network) -> None:
    """Two honest members differ, and one of them is accused with both votes"""
    keys, other = list(network.nodes.values())[:2]
    accuse(network, keys, VOTE, replace(VOTE, verdict=CONTRAINDICATED), other)


@attack("attestation: already proven", ONCE)
def test_equivocation__proved_again__counts_once(network: Network) -> None:
    """The same proof is brought again and again to ruin a reputation for good"""
    keys = network.free_node()
    against = replace(VOTE, verdict=CONTRAINDICATED)
    accuse(network, keys, VOTE, against)
    history = network.reputation.functions.history(keys.address)
    _, bad, _ = history.call()
    accuse(network, keys, VOTE, against)
    assert history.call()[1] > bad * 3 // 2
