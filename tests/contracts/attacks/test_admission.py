"""Admission: hardware nobody checked, another's chip, votes about something else"""

from __future__ import annotations

from dataclasses import astuple
from typing import Any, Final

from eth_account import Account

from tests.contracts import motions
from tests.contracts.attacks.harness import Removal, attack
from tests.contracts.motions import (
    ACTIVE,
    MAKER,
    ZYMKEY,
    admitted,
    bootstrap,
    pending,
    request,
    request_call,
    status,
)
from tests.contracts.network import (
    MOTION_FEE,
    NOBODY,
    SIZE,
    Network,
)
from tests.contracts.signing import AFFIRMING, CONTRAINDICATED, NodeKeys


def registry(name: str, defence: str, old: str, new: str = "pass") -> Removal:
    """A check of `NodeRegistry.vy`."""
    return Removal(name, f"`NodeRegistry.{defence}", "NodeRegistry.vy", old, new)


def ledger(name: str, defence: str, old: str, new: str = "pass") -> Removal:
    """A check of `AdmissionLedger.vy`."""
    return Removal(name, f"`AdmissionLedger.{defence}", "AdmissionLedger.vy", old, new)


UNCHECKED: Final = registry(
    "hardware-pending",
    "register` keeps a hardware root PENDING until it is admitted",
    "    if root_class == SOFTWARE:\n        self.hardware[registration.hardware_id] = msg.sender",
    "    if root_class != 0:\n        self.hardware[registration.hardware_id] = msg.sender",
)
ONE_HOLDER: Final = registry(
    "hardware-admitted-once",
    "admit` gives a hardware id to one node",
    "assert self.hardware[hardware_id] == empty(address), "
    '"registry: hardware id already registered"',
)
OWN_ID: Final = registry(
    "exit-frees-its-own",
    "withdraw_deposit` frees a hardware id that the node holds, no other",
    "if self.hardware[self.identities[msg.sender].hardware_id] == msg.sender:",
    "if True:",
)
STANDS_STILL: Final = registry(
    "frozen-round",
    "pause` and all that moves the draw wait while an admission round could be known",
    'assert not self._is_held(), "registry: draw the admission round first"',
)
SAID: Final = """            motion.id,
            motion.kind,
            motion.proposer,
            motion.number,
            motion.subject,
            motion.maker,
            motion.evidence,
            verdict,"""
NAMED: Final = ledger(
    "vote-motion",
    "decide` takes votes that name the motion and all it says",
    SAID,
    """            convert(1, uint256),
            motion.kind,
            empty(address),
            empty(uint256),
            empty(bytes32),
            motion.maker,
            motion.evidence,
            verdict,""",
)
VERDICT: Final = ledger(
    "motion-verdict",
    "decide` takes votes that say what is decided",
    "            motion.evidence,\n            verdict,\n",
    "            motion.evidence,\n            convert(96, uint8),\n",
)
QUORUM: Final = ledger(
    "motion-quorum",
    "decide` needs two thirds of those who may vote",
    'assert 3 * number >= 2 * count, "admission: no quorum"',
)
COMMITTEE: Final = ledger(
    "round-committee",
    "decide` takes the committee that was drawn for the round",
    """    assert (
        keccak256(abi_encode(committee)) == self.committees[motion.round]
    ), "admission: not the committee\"""",
    "    pass",
)
VOUCHED: Final = ledger(
    "zymkey-vouched",
    "request` wants an admitter's signature for a Zymkey",
    'assert self._is_admitter(admitter), "admission: not vouched by an admitter"',
)
RENOUNCED: Final = ledger(
    "renounced",
    "admit_bootstrap` is the bootstrap admitter's alone, and nobody's once it has renounced",
    """    assert msg.sender == self.founder, "admission: only the bootstrap admitter"
    log IAdmissionLedger.AdmittedByBootstrap""",
    "    log IAdmissionLedger.AdmittedByBootstrap",
)
DISMISSED: Final = ledger(
    "bootstrap-dismissed",
    "decide` ends the bootstrap admitter's powers when a vote dismisses it",
    "        if motion.kind == DISMISS and who == self.founder:\n"
    "            self.founder = empty(address)\n",
    "",
)
SEAT: Final = "votes: signer does not hold the seat"
HELD: Final = "registry: hardware id already registered"


def drawn(network: Network) -> tuple[motions.Motion, motions.Motion, tuple[str, ...]]:
    """Two candidates' motions in one round, and its committee."""
    first, second = pending(network, "honest"), pending(network, "impostor")
    one, two = request(network, first), request(network, second)
    return one, two, motions.draw(network, one)


@attack("registry: node not active", UNCHECKED)
def test_admission__key_that_nobody_checked__claims_nothing(network: Network) -> None:
    """A key in a file registers as a TPM's, with a valid signature, and claims a task."""
    keys = pending(network, "file")
    task = network.post()
    task = network.claim(task, keys)
    assert task.executor == keys.address


@attack(HELD, ONE_HOLDER)
def test_admission__another_nodes_chip__held_by_one(network: Network) -> None:
    """Two accounts register one chip before either is checked, to have two seats with it."""
    keys = pending(network, "first")
    chip = network.registry.functions.node(keys.address).call()[7]
    twin = pending(network, "twin", hardware=chip)
    for one in (keys, twin):
        call = network.admission.functions.admit_bootstrap(one.address, MAKER)
        network.send(bootstrap(network), call)
    assert status(network, keys) == status(network, twin) == ACTIVE


@attack(HELD, OWN_ID)
def test_admission__claim_taken_back__frees_nobody_elses_chip(network: Network) -> None:
    """A node that only named a chip exits, so that the chip is free for a second node."""
    keys = NodeKeys.derive("owner")
    chip = motions.hardware_id(keys, motions.TPM2)
    claimant = pending(network, "claimant", hardware=chip)
    admitted(network, "owner")
    network.send(claimant.address, network.registry.functions.exit())
    network.chain.mine(500)
    network.send(claimant.address, network.registry.functions.withdraw_deposit())
    admitted(network, "second", hardware=chip)


@attack(SEAT, NAMED)
def test_admission__votes_for_another_candidate__not_taken(network: Network) -> None:
    """A candidate whose hardware is none brings the votes that let another one in."""
    honest, impostor, members = drawn(network)
    # what members sign where the motion is not part of it, is the same for both
    blank = motions.changed(honest, id=1, proposer=NOBODY, number=0, subject=bytes(32))
    decide = network.admission.functions.decide
    votes = motions.ballot(network, blank, members, range(SIZE))
    network.send(network.outsider, decide(astuple(impostor), list(members), AFFIRMING, votes))
    assert network.registry.functions.status(impostor.proposer).call() == ACTIVE


@attack(SEAT, VERDICT)
def test_admission__votes_against__not_taken_for_votes_for(network: Network) -> None:
    """A candidate brings the votes by which its committee contradicts it."""
    _, impostor, members = drawn(network)
    votes = motions.ballot(network, impostor, members, range(SIZE), CONTRAINDICATED)
    decide = network.admission.functions.decide
    network.send(network.outsider, decide(astuple(impostor), list(members), AFFIRMING, votes))
    assert network.registry.functions.status(impostor.proposer).call() == ACTIVE


@attack("admission: no quorum", QUORUM)
def test_admission__one_accomplice_of_five__admits_nothing(network: Network) -> None:
    """A candidate brings the vote of its one accomplice in the committee."""
    _, impostor, members = drawn(network)
    network.send(network.outsider, motions.decide_call(network, impostor, members, [0]))
    assert network.registry.functions.status(impostor.proposer).call() == ACTIVE


@attack("admission: not the committee", COMMITTEE)
def test_admission__committee_of_its_own__not_taken(network: Network) -> None:
    """A candidate names three accomplices as the committee of its round."""
    _, impostor, members = drawn(network)
    accomplices = members[-3:]
    network.send(network.outsider, motions.decide_call(network, impostor, accomplices))
    assert network.registry.functions.status(impostor.proposer).call() == ACTIVE


@attack("registry: draw the admission round first", STANDS_STILL)
def test_admission__draw_moved_once_the_round_is_known__stands_still(network: Network) -> None:
    """Who can compute the committee pauses a node of it, until it suits the candidate."""
    motion = request(network, pending(network, "impostor"))
    network.mine_to(motion.round)
    member = next(iter(network.nodes))
    network.send(member, network.registry.functions.pause())
    assert member not in motions.draw(network, motion)


@attack("admission: not vouched by an admitter", VOUCHED)
def test_admission__zymkey_that_nobody_has_seen__no_request(network: Network) -> None:
    """A program that answers like a Zymkey asks for admission with a vouch of its own."""
    keys = pending(network, "program", ZYMKEY)
    vouched: Any = motions.vouch(network, keys, Account.from_key(b"\x09" * 32))
    network.send(keys.address, request_call(network, vouched=vouched), MOTION_FEE)


@attack("admission: only the bootstrap admitter", RENOUNCED)
def test_admission__renounced__its_key_admits_nobody(network: Network) -> None:
    """The key of the bootstrap admitter is stolen after it renounced."""
    keys = pending(network, "impostor")
    network.send(bootstrap(network), network.admission.functions.renounce())
    call = network.admission.functions.admit_bootstrap(keys.address, MAKER)
    network.send(bootstrap(network), call)
    assert status(network, keys) == ACTIVE


@attack("admission: only the bootstrap admitter", DISMISSED)
def test_admission__bootstrap_admitter_voted_out__admits_nobody(network: Network) -> None:
    """A bootstrap admitter that lets in what is no hardware goes on after a vote dismissed it."""
    keys = pending(network, "impostor")
    subject = bytes(12) + bytes.fromhex(bootstrap(network)[2:])
    motions.decide(network, motions.propose(network, motions.DISMISS, subject))
    call = network.admission.functions.admit_bootstrap(keys.address, MAKER)
    network.send(bootstrap(network), call)
    assert status(network, keys) == ACTIVE
