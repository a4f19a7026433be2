"""Votes: replayed, out of date, from elsewhere, twice, malleable, relabelled"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from eth_account import Account
from web3.contract.contract import ContractFunction

from nodeclient.core.curves import SECP256K1
from nodeclient.core.digests import vote_digest
from tests.contracts.attacks.harness import Removal, attack
from tests.contracts.network import NOBODY, UNIT, Ballot, Network, Refused, Task
from tests.contracts.signing import (
    AFTER,
    BEFORE,
    CONTRAINDICATED,
    DURING,
    SECP256K1_N,
    Header,
    NodeKeys,
    Vote,
)

SEAT: Final = "votes: signer does not hold the seat"


def market(name: str, defence: str, old: str, new: str = "pass") -> Removal:
    """A check of `TaskMarket.vy`."""
    return Removal(name, f"`TaskMarket`: {defence}", "TaskMarket.vy", old, new)


def votes(name: str, defence: str, old: str, new: str = "pass") -> Removal:
    """A check of `modules/votes.vy`, in the market."""
    return Removal(name, f"`votes`: {defence}", "modules/votes.vy", old, new, "TaskMarket")


def records(name: str, defence: str, old: str, new: str = "pass") -> Removal:
    """A check of `modules/records.vy`, in the market."""
    return Removal(name, f"`records`: {defence}", "modules/records.vy", old, new, "TaskMarket")


AGAINST: Final = """            task=task.id,
            phase=phase,
            attempt=attempt,
            header=header,
            verdict=CONTRAINDICATED,"""
FOR: Final = """            header=header,
            verdict=AFFIRMING,"""
TASK: Final = market(
    "vote-task", "a vote names its task", AGAINST, AGAINST.replace("task=task.id", "task=1")
)
PHASE: Final = market(
    "vote-phase", "a vote names its phase", AGAINST, AGAINST.replace("phase=phase", "phase=1")
)
HEADER: Final = market(
    "vote-header", "a vote names its header", FOR, FOR.replace("=header", "=empty(bytes32)")
)
AFFIRMS: Final = market(
    "verdict-affirms",
    "only affirming votes admit or finish",
    FOR,
    FOR.replace("AFFIRMING", "CONTRAINDICATED"),
)
CONTRADICTS: Final = market(
    "verdict-contradicts",
    "only contraindicating votes refuse",
    AGAINST,
    AGAINST.replace("CONTRAINDICATED", "AFFIRMING"),
)
COMMITTEE: Final = market(
    "committee-hash",
    "the committee in calldata hashes to what was drawn",
    "    self._check_deadline(task, state)\n"
    '    assert keccak256(abi_encode(committee)) == task.committee, "market: not the committee"',
    "    self._check_deadline(task, state)",
)
CHAIN: Final = votes(
    "vote-chain",
    "the domain names the chain, as it is now",
    "abi_encode(DOMAIN_TYPE, NAME, VERSION, chain.id, ledger)",
    "abi_encode(DOMAIN_TYPE, NAME, VERSION, convert(31337, uint256), ledger)",
)
LEDGER: Final = votes(
    "vote-ledger",
    "the domain names the ledger",
    "abi_encode(DOMAIN_TYPE, NAME, VERSION, chain.id, ledger)",
    "abi_encode(DOMAIN_TYPE, NAME, VERSION, chain.id, empty(address))",
)
QUORUM: Final = records(
    "vote-quorum",
    "a record needs two thirds of the committee",
    'assert number >= quorum, "attestation: no quorum"',
)
DATE: Final = records(
    "vote-date",
    "a vote counts until its last block",
    "assert convert(vote.valid_until, uint256) >= block.number, "
    '"attestation: votes are out of date"',
)
HOLDER: Final = votes(
    "vote-seat",
    "a seat's vote is signed by the member that holds the seat",
    "self.signer(signed, signatures[number]) == committee[seat]",
    "self.signer(signed, signatures[number]) != self",
)
SURPLUS: Final = votes(
    "vote-surplus",
    "as many signatures as seats voted",
    'assert number == len(signatures), "votes: more signatures than seats"',
)
LOW_S: Final = votes(
    "vote-high-s",
    "s above N/2 is no vote",
    'assert s <= HALF_N, "votes: malleable signature"',
)


def seated(network: Network, task: Task, vote: Vote) -> Ballot:
    """The ballot of all members, each signature at its seat in this task."""
    return network.ballot(task, vote)


def refuse(network: Network, task: Task, vote: Vote, signed: Vote) -> ContractFunction:
    """The call `refuse` about `vote`, with signatures that were made for `signed`."""
    _, voters, signatures = network.ballot(task, signed)
    return network.market.functions.refuse(
        task.as_tuple(),
        list(task.members),
        vote.phase,
        vote.attempt,
        vote.header,
        (vote.valid_until, voters, signatures),
    )


def record(
    network: Network, task: Task, phase: int, header: Header, ballot: Ballot
) -> ContractFunction:
    """The call `admit` or `finish` with the executor's signature and any ballot."""
    step = network.market.functions.admit if phase == BEFORE else network.market.functions.finish
    statement = header.statement(network.sign_header(header))
    return step(task.as_tuple(), list(task.members), statement, ballot)


def admitted_by(network: Network, task: Task, ballot: Ballot) -> None:
    """The executor brings this ballot, and is admitted."""
    header = network.header(task, BEFORE)
    network.send(task.executor, record(network, task, BEFORE, header, ballot))
    assert network.state(task) == 4


def before_vote(network: Network, task: Task) -> Vote:
    """What an honest member signs for the BEFORE record."""
    return Vote(task.id, BEFORE, network.digest(network.header(task, BEFORE)))


# --- replay -------------------------------------------------------------------------------------


@attack(SEAT, TASK)
def test_vote__of_another_task__refused(network: Network) -> None:
    """An outsider ends a task with the votes by which the same members refused the last one"""
    first = network.reach("drawn", k=7)
    against = Vote(first.id, BEFORE, bytes(32), verdict=CONTRAINDICATED)
    network.send(network.outsider, refuse(network, first, against, against))
    second = network.reach("drawn", k=7)
    assert set(second.members) == set(first.members)
    network.send(
        network.outsider, refuse(network, second, replace(against, task=second.id), against)
    )
    assert network.state(second) == 6


@attack(SEAT, PHASE)
def test_vote__of_another_phase__refused(network: Network) -> None:
    """Votes against the machine BEFORE are shown as votes DURING, when a refusal costs a unit"""
    task = network.reach("admitted")
    against = Vote(task.id, BEFORE, bytes(32), verdict=CONTRAINDICATED)
    call = refuse(network, task, replace(against, phase=DURING), against)
    network.send(network.outsider, call)
    assert network.registry.functions.deposit(task.executor).call() == UNIT // 2


@attack(SEAT, HEADER)
def test_vote__for_another_header__refused(network: Network) -> None:
    """The executor brings other evidence than its members have seen"""
    task = network.reach("accepted")
    vote = Vote(task.id, BEFORE, bytes(32))
    admitted_by(network, task, network.ballot(task, vote))


@attack(SEAT, CHAIN)
def test_vote__of_the_chain_before_a_fork__refused(network: Network) -> None:
    """The chain has forked; votes of one branch are used on the other"""
    task = network.reach("accepted")
    header = network.header(task, BEFORE)
    was = network.chain.w3.eth.chain_id
    vote = before_vote(network, task)
    try:
        network.chain.rpc("anvil_setChainId", [was + 1])
        vote = replace(vote, header=network.digest(header))
        keys = [network.nodes[member] for member in task.members]
        signed = [vote.sign(was, network.attestation.address, one.account) for one in keys]
        admitted_by(network, task, (vote.valid_until, 0b111, signed))
    finally:
        network.chain.rpc("anvil_setChainId", [was])


@attack(SEAT, LEDGER)
def test_vote__for_another_ledger__refused(network: Network) -> None:
    """Votes that members gave at another deployment's ledger are used at this one"""
    task = network.reach("accepted")
    vote, chain_id = before_vote(network, task), network.chain.w3.eth.chain_id
    keys = [network.nodes[member] for member in task.members]
    signed = [vote.sign(chain_id, NOBODY, one.account) for one in keys]
    admitted_by(network, task, (vote.valid_until, 0b111, signed))


@attack("attestation: votes are out of date", DATE)
def test_vote__out_of_date__refused(network: Network) -> None:
    """The executor keeps votes for an hour in which the machine may have become another"""
    task = network.reach("accepted")
    vote = replace(before_vote(network, task), valid_until=network.block + 1)
    network.chain.mine(2)
    admitted_by(network, task, network.ballot(task, vote))


# --- who votes, and how often -------------------------------------------------------------------


def ballot_of(network: Network, vote: Vote, signers: Sequence[NodeKeys], bits: int) -> Ballot:
    """A ballot in which these accounts sign for the seats of `bits`."""
    signed = [network.sign_vote(vote, keys) for keys in signers]
    return vote.valid_until, bits, signed


@attack("attestation: no quorum", QUORUM)
def test_vote__one_accomplice_of_three__admits_nothing(network: Network) -> None:
    """The executor brings the votes of fewer members than the quorum"""
    task = network.admit(network.reach("accepted"), seats=(1,))
    assert network.state(task) == 4


@attack(SEAT, HOLDER)
def test_vote__one_member_for_two_seats__refused(network: Network) -> None:
    """An accomplice votes for its own seat and for its neighbour's"""
    task = network.reach("accepted")
    accomplice = network.nodes[task.members[0]]
    vote = before_vote(network, task)
    admitted_by(network, task, ballot_of(network, vote, [accomplice] * 2, 0b011))


@attack(SEAT, HOLDER)
def test_vote__of_outsiders__refused(network: Network) -> None:
    """The executor votes itself, by accounts that sit in no committee"""
    task = network.reach("accepted")
    outsiders = [NodeKeys.derive("outsider"), network.nodes[task.executor]]
    admitted_by(network, task, ballot_of(network, before_vote(network, task), outsiders, 0b011))


@attack("market: not the committee", COMMITTEE)
def test_vote__of_a_committee_of_its_own__refused(network: Network) -> None:
    """The executor names three accomplices as the committee"""
    task = network.reach("accepted")
    others = [node for node in network.nodes if node not in (*task.members, task.executor)]
    chosen = replace(task, members=tuple(others[:3]))
    ballot = network.ballot(chosen, before_vote(network, task))
    admitted_by(network, chosen, ballot)


@attack("votes: more signatures than seats", SURPLUS)
def test_vote__counted_that_nobody_cast__refused(network: Network) -> None:
    """The executor adds a signature of nobody, so that the record shows a vote more"""
    task = network.reach("admitted")
    header = network.header(task, AFTER)
    vote = Vote(task.id, AFTER, network.digest(header))
    until, bits, signed = network.ballot(task, vote, seats=(0, 1))
    ballot = until, bits, [*signed, (1, 1)]
    network.send(task.executor, record(network, task, AFTER, header, ballot))
    assert network.attestation.functions.record(task.id, AFTER).call()[2] == 3


def account_for(digest: bytes, s: int) -> NodeKeys:
    """A node whose account can sign this digest with this s: nonce first, then the key."""
    nonce = 0xC0FFEE
    point = SECP256K1.combine((nonce, SECP256K1.generator))
    assert point is not None
    secret = (s * nonce - int.from_bytes(digest, "big")) * pow(point[0], -1, SECP256K1_N)
    account = Account.from_key((secret % SECP256K1_N).to_bytes(32, "big"))
    return replace(NodeKeys.derive("malleable"), account=account)


@attack("votes: malleable signature", LOW_S)
def test_vote__signature_flipped__refused(network: Network) -> None:
    """A second signature (r, N - s), which nobody made, stands for a vote

    For it to fit the compact form at all, s must lie within 2^127 of N/2: so the member's key is
    made for one vote about the next task, whose id is known, with the s that is wanted.
    """
    vote = Vote(1, BEFORE, bytes(32), verdict=CONTRAINDICATED)
    ledger = bytes.fromhex(network.attestation.address[2:])
    s = SECP256K1_N // 2 - 5
    member = account_for(vote_digest(network.chain.w3.eth.chain_id, ledger, vote), s)
    network.fund(member.address)
    row, contact, signature = network.registration(member)
    call = network.registry.functions.register(row, contact, True, *signature)
    network.send(member.address, call, UNIT)
    network.nodes[member.address] = member
    executor = next(iter(network.nodes.values()))
    task = network.draw(network.claim(network.post(k=8), executor))
    until, bits, signatures = network.ballot(task, vote)
    seat = task.members.index(member.address)
    point = SECP256K1.combine((0xC0FFEE, SECP256K1.generator))
    assert point is not None
    for parity in (0, 1):
        signatures[seat] = point[0], (SECP256K1_N - s) | parity << 255
        call = network.market.functions.refuse(
            task.as_tuple(),
            list(task.members),
            BEFORE,
            1,
            bytes(32),
            (until, bits, signatures),
        )
        try:
            network.send(network.outsider, call)
        except Refused as refusal:
            stopped = refusal
        else:
            assert network.state(task) == 6
            return
    raise stopped


# --- verdicts -----------------------------------------------------------------------------------


@attack(SEAT, AFFIRMS)
def test_vote__against_counted_as_for__refused(network: Network) -> None:
    """The executor is admitted with the votes by which its committee contradicts"""
    task = network.reach("accepted")
    vote = replace(before_vote(network, task), verdict=CONTRAINDICATED)
    admitted_by(network, task, network.ballot(task, vote))


@attack(SEAT, CONTRADICTS)
def test_vote__for_counted_as_against__refused(network: Network) -> None:
    """An outsider takes the votes of a `finish` in flight and refuses with them, for its reward"""
    task = network.reach("admitted")
    vote = Vote(task.id, AFTER, network.digest(network.header(task, AFTER)))
    network.send(network.outsider, refuse(network, task, vote, vote))
    assert network.owed(network.outsider) == UNIT // 20
