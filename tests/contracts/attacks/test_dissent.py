"""Dissent and silence: who is counted as silent, and who can have that taken back"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.contracts.attacks.harness import Removal, attack
from tests.contracts.network import Network, Refused, Task
from tests.contracts.signing import AFTER, BEFORE, CONTRAINDICATED, NodeKeys, Vote

EXCUSED: Final = Removal(
    "dissent-excused",
    "`AttestationLedger.excuse` takes the loss back from whoever shows a vote, whatever it says",
    "AttestationLedger.vy",
    "extcall IReputationLedger(REPUTATION).excuse(vote.task, members, seat)",
    "pass",
)
OWN_VOTE: Final = Removal(
    "excuse-by-own-vote",
    "`AttestationLedger.excuse` takes the vote of the member itself",
    "AttestationLedger.vy",
    "votes.signer(votes.digest(self, vote), signature) == members[seat]",
    "votes.signer(votes.digest(self, vote), signature) != self",
)
ON_THE_RUN: Final = Removal(
    "excuse-by-vote-on-the-run",
    "`AttestationLedger.excuse` takes votes about the run, not that of the BEFORE record",
    "AttestationLedger.vy",
    'assert vote.phase == DURING or vote.phase == AFTER, "attestation: not a vote on the run"',
    "pass",
)
WAS_SILENT: Final = Removal(
    "excuse-once",
    "`ReputationLedger.excuse` takes back a loss that is noted, and notes that it did",
    "ReputationLedger.vy",
    'assert slot & 65535 & (1 << seat) != 0, "reputation: seat was not silent"',
    "pass",
)
COMMITTEE: Final = Removal(
    "excuse-committee",
    "`ReputationLedger.excuse` knows the committee that was counted",
    "ReputationLedger.vy",
    'assert slot >> 16 == self._absence(members, at) >> 16, "reputation: not the committee"',
    "pass",
)
# A quarter of a settled task, in the units of `history`.
LOSS: Final = 65536 // 4


def against(network: Network, keys: NodeKeys) -> int:
    """The evidence against a node."""
    return int(network.reputation.functions.history(keys.address).call()[1])


def settled_without(network: Network, seat: int) -> tuple[Task, NodeKeys]:
    """A task settled by two of three members, and the third, which is counted as silent."""
    task = network.reach("admitted")
    network.finish(task, seats=[one for one in range(3) if one != seat])
    return task, network.nodes[task.members[seat]]


def excuse(network: Network, task: Task, seat: int, vote: Vote, signer: NodeKeys) -> None:
    """Show a vote for a seat."""
    call = network.attestation.functions.excuse(
        list(task.members), seat, vote.as_tuple(), network.sign_vote(vote, signer)
    )
    network.send(network.outsider, call)


@attack("the loss is taken back", EXCUSED)
def test_dissent__left_out_by_the_executor__not_punished(network: Network) -> None:
    """The executor leaves a member that contradicts out of its ballot, which costs reputation"""
    task, member = settled_without(network, 2)
    assert against(network, member) > LOSS * 3 // 4
    vote = Vote(task.id, AFTER, bytes(32), verdict=CONTRAINDICATED)
    excuse(network, task, 2, vote, member)
    if against(network, member) < LOSS // 4:
        raise Refused("the loss is taken back")


@attack("attestation: signer does not hold the seat", OWN_VOTE)
def test_silence__excused_by_an_accomplice__still_counts(network: Network) -> None:
    """A member that slept is excused by somebody who signs a vote for it"""
    task, member = settled_without(network, 2)
    excuse(network, task, 2, Vote(task.id, AFTER, bytes(32)), NodeKeys.derive("accomplice"))
    assert against(network, member) < LOSS // 4


@attack("attestation: not a vote on the run", ON_THE_RUN)
def test_silence__excused_by_the_vote_before__still_counts(network: Network) -> None:
    """A member that left after the BEFORE record excuses itself with its vote for that"""
    task, member = settled_without(network, 2)
    excuse(network, task, 2, Vote(task.id, BEFORE, bytes(32)), member)
    assert against(network, member) < LOSS // 4


@attack("reputation: seat was not silent", WAS_SILENT)
def test_silence__excused_twice__counts_once(network: Network) -> None:
    """A member has one silence taken back twice, to be rid of another fault as well"""
    task, member = settled_without(network, 2)
    fault = [Vote(9, AFTER, bytes(32)), Vote(9, AFTER, bytes(32), verdict=CONTRAINDICATED)]
    parts = [part for vote in fault for part in (vote.as_tuple(), network.sign_vote(vote, member))]
    network.send(network.outsider, network.attestation.functions.prove_double_vote(*parts))
    vote = Vote(task.id, AFTER, bytes(32))
    excuse(network, task, 2, vote, member)
    once = against(network, member)
    excuse(network, task, 2, vote, member)
    assert against(network, member) < once - LOSS // 2


@attack("reputation: not the committee", COMMITTEE)
def test_silence__excused_in_another_committee__counts(network: Network) -> None:
    """A node with a fault of its own takes the seat of a member that was silent, to be excused"""
    _, faulty = settled_without(network, 2)
    second = network.reach("admitted")
    while faulty.address in second.members:  # its chance is three in seven
        network.finish(second)
        second = network.reach("admitted")
    network.finish(second, seats=(0, 1))
    claimed = replace(second, members=(*second.members[:2], faulty.address))
    before = against(network, faulty)
    excuse(network, claimed, 2, Vote(second.id, AFTER, bytes(32)), faulty)
    assert against(network, faulty) < before - LOSS // 2
