"""Admission: motions, rounds, committees, votes, vouches, the bootstrap admitter."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account import Account
from web3 import Web3

from tests.contracts import motions
from tests.contracts.motions import (
    ACTIVE,
    ADMIT,
    BAR,
    BARRED,
    CARRIED,
    DISMISS,
    EVIDENCE,
    MAKER,
    NAME,
    NO_VOUCH,
    OPEN,
    PAUSED,
    PENDING,
    REJECTED,
    ZYMKEY,
    admitted,
    bootstrap,
    changed,
    decide_call,
    draw_call,
    pending,
    propose,
    request,
    request_call,
    status,
)
from tests.contracts.network import (
    DELAY,
    DRAW_WINDOW,
    LOOKAHEAD,
    MOTION_FEE,
    SIZE,
    UNIT,
    VOTE_WINDOW,
    Network,
)
from tests.contracts.signing import AFFIRMING, CONTRAINDICATED, NodeKeys

pytestmark = pytest.mark.chain  # starts anvil
STRIDE = 2 * (LOOKAHEAD + 1)
QUORUM = -(-2 * SIZE // 3)
BURNED = "0x" + "00" * 20


@pytest.fixture
def candidate(network: Network) -> NodeKeys:
    """A node with a TPM that nobody has checked."""
    return pending(network, "candidate")


# --- the life of an admission -------------------------------------------------------------------


def test_request__quorum_affirms__active_and_drawable(
    network: Network, candidate: NodeKeys
) -> None:
    drawable = network.registry.functions.drawable().call()
    motion = request(network, candidate)
    assert (motion.kind, motion.proposer, motion.maker) == (ADMIT, candidate.address, MAKER)
    assert motions.state(network, motion) == OPEN
    members = motions.draw(network, motion)
    network.send(network.outsider, decide_call(network, motion, members, range(QUORUM)))
    assert motions.state(network, motion) == CARRIED
    assert status(network, candidate) == ACTIVE
    assert network.registry.functions.drawable().call() == drawable + 1
    assert network.registry.functions.maker_of(candidate.address).call() == MAKER
    assert network.registry.functions.holder(motion.subject).call() == candidate.address


def test_request__quorum_contradicts__stays_pending(network: Network, candidate: NodeKeys) -> None:
    motion = request(network, candidate)
    motions.decide(network, motion, range(QUORUM), CONTRAINDICATED)
    assert motions.state(network, motion) == REJECTED
    assert status(network, candidate) == PENDING
    assert network.registry.functions.holder(motion.subject).call() == BURNED


def test_request__did_not_ask_for_the_draw__paused(network: Network) -> None:
    keys = pending(network, "peer", deposit=0, join=False)
    motions.decide(network, request(network, keys))
    assert status(network, keys) == PAUSED


def test_decide__twice_or_after_the_verdict__reverts(network: Network, candidate: NodeKeys) -> None:
    motion = request(network, candidate)
    members = motions.decide(network, motion, None, CONTRAINDICATED)
    for verdict in (AFFIRMING, CONTRAINDICATED):
        call = decide_call(network, motion, members, None, verdict)
        assert network.reason(network.outsider, call) == "admission: not an open motion"


def test_request__again_after_a_rejection__new_committee_decides(
    network: Network, candidate: NodeKeys
) -> None:
    motions.decide(network, request(network, candidate), None, CONTRAINDICATED)
    second = request(network, candidate)
    assert second.id == 2
    motions.decide(network, second)
    assert status(network, candidate) == ACTIVE


def test_decide__candidate_left_and_came_back__not_the_node_that_was_checked(
    network: Network, candidate: NodeKeys
) -> None:
    """Its account may have another root by then."""
    motion = request(network, candidate)
    members = motions.draw(network, motion)
    registry = network.registry.functions
    network.send(candidate.address, registry.exit())
    call = decide_call(network, motion, members)
    assert network.reason(network.outsider, call) == "registry: node not pending"


def test_admit__another_registration_of_the_account__reverts(
    network: Network, candidate: NodeKeys
) -> None:
    """The number of the node is part of what is voted on."""
    number = network.registry.functions.node_id(candidate.address).call()
    call = network.registry.functions.admit(candidate.address, number + 1, MAKER)
    network.fund(network.admission.address)
    assert network.reason(network.admission.address, call) == "registry: node not pending"


# --- what a request needs -----------------------------------------------------------------------


def test_request__wrong_fee__reverts(network: Network, candidate: NodeKeys) -> None:
    for value in (0, MOTION_FEE - 1, MOTION_FEE + 1):
        reason = network.reason(candidate.address, request_call(network), value)
        assert reason == "admission: value is not the fee"


def test_request__fee__is_burned_and_nothing_is_kept(network: Network, candidate: NodeKeys) -> None:
    network.chain.rpc("anvil_setCoinbase", [network.outsider])  # who gets the tips otherwise
    before = network.balance(BURNED)
    request(network, candidate)
    assert network.balance(BURNED) == before + MOTION_FEE
    assert network.balance(network.admission.address) == 0


def test_request__not_pending_or_no_maker__reverts(network: Network, candidate: NodeKeys) -> None:
    active = next(iter(network.nodes))
    for sender in (active, network.outsider):
        reason = network.reason(sender, request_call(network), MOTION_FEE)
        assert reason == "admission: node not pending"
    call = request_call(network, bytes(32))
    assert network.reason(candidate.address, call, MOTION_FEE) == "admission: maker is empty"


def test_register__hardware_that_another_node_holds__reverts(network: Network) -> None:
    holder = admitted(network, "holder")
    taken = network.registry.functions.node(holder.address).call()[7]
    call = motions.register_call(network, NodeKeys.derive("second"), hardware=taken)
    network.fund(NodeKeys.derive("second").address)
    reason = network.reason(NodeKeys.derive("second").address, call, UNIT)
    assert reason == "registry: hardware id already registered"


def test_request__claims_to_one_chip__first_admitted_holds_it(network: Network) -> None:
    """A claim alone holds up nobody: whoever names another's chip is not admitted."""
    owner = pending(network, "owner")
    chip = network.registry.functions.node(owner.address).call()[7]
    squatter = pending(network, "squatter", hardware=chip)
    late = request(network, squatter)
    motion = request(network, owner)
    members = motions.draw(network, motion)
    network.send(network.outsider, decide_call(network, motion, members))
    assert network.registry.functions.holder(chip).call() == owner.address
    call = decide_call(network, late, members)
    assert network.reason(network.outsider, call) == "registry: hardware id already registered"
    reason = network.reason(squatter.address, request_call(network), MOTION_FEE)
    assert reason == "admission: hardware id already registered"


# --- rounds -------------------------------------------------------------------------------------


def test_round__opened__at_least_two_delays_ahead_in_a_common_block(
    network: Network, candidate: NodeKeys
) -> None:
    motion = request(network, candidate)
    assert motion.round % STRIDE == 0
    assert 2 * DELAY <= motion.round - network.block < 2 * DELAY + STRIDE
    assert network.admission.functions.round().call() == [motion.round, False]


def test_round__second_motion__joins_until_one_delay_before(network: Network) -> None:
    first, second, third = (pending(network, f"candidate {i}") for i in range(3))
    motion = request(network, first)
    network.mine_to(motion.round - DELAY - 1)
    assert request(network, second).round == motion.round
    reason = network.reason(third.address, request_call(network), MOTION_FEE)
    assert reason == "admission: draw the round first"


def test_round__drawn__next_motion_opens_another(network: Network, candidate: NodeKeys) -> None:
    other = pending(network, "other")
    motion = request(network, candidate)
    motions.draw(network, motion)
    assert network.admission.functions.round().call() == [motion.round, True]
    assert request(network, other).round > motion.round


def test_round__nobody_draws__over_with_its_window(network: Network, candidate: NodeKeys) -> None:
    motion = request(network, candidate)
    network.mine_to(motion.round + DRAW_WINDOW - 1)
    reason = network.reason(candidate.address, request_call(network), MOTION_FEE)
    assert reason == "admission: draw the round first"
    call = draw_call(network, motion.round)
    assert network.reason(network.outsider, call) == "admission: draw is closed"
    assert request(network, candidate).round > motion.round


def test_draw__too_early_no_round_or_twice__reverts(network: Network, candidate: NodeKeys) -> None:
    header = network.header_of(network.block)
    draw = network.admission.functions.draw
    assert network.reason(network.outsider, draw(header)) == "admission: no round to draw"
    motion = request(network, candidate)
    network.mine_to(motion.round - 1)
    early = draw(network.header_of(network.block))
    assert network.reason(network.outsider, early) == "admission: draw not open yet"
    call = draw_call(network, motion.round)
    network.send(network.outsider, call)
    assert network.reason(network.outsider, call) == "admission: no round to draw"


def test_draw__last_block_of_the_window__drawn(network: Network, candidate: NodeKeys) -> None:
    motion = request(network, candidate)
    network.mine_to(motion.round + DRAW_WINDOW - 1)
    network.send(network.outsider, draw_call(network, motion.round))
    assert network.admission.functions.round().call() == [motion.round, True]


def test_draw__header_of_another_block__reverts(network: Network, candidate: NodeKeys) -> None:
    motion = request(network, candidate)
    network.mine_to(motion.round + 1)
    call = network.admission.functions.draw(network.header_of(motion.round + 1))
    assert network.reason(network.outsider, call) == "entropy: not the header"


def test_draw__seed__names_chain_ledger_and_round(network: Network, candidate: NodeKeys) -> None:
    motion = request(network, candidate)
    members = motions.draw(network, motion)
    seed = Web3.keccak(
        encode(
            ["bytes32", "uint256", "address", "uint256", "bytes32"],
            [
                bytes(Web3.keccak(text="sealrun/admission-seed/v1")),
                network.chain.w3.eth.chain_id,
                network.admission.address,
                motion.round,
                network.prevrandao(motion.round),
            ],
        )
    )
    expected = network.registry.functions.draw(seed, len(members), BURNED).call()
    assert list(members) == expected
    assert len(members) == min(11, network.registry.functions.drawable().call())
    kept = network.admission.functions.committee(motion.round).call()
    assert kept == bytes(Web3.keccak(encode(["address[]"], [members])))


def test_draw__fewer_than_three_nodes__empty_and_the_motion_is_void(network: Network) -> None:
    """It must not wait for more nodes: whoever adds them would choose among committees."""
    candidate = pending(network, "candidate")
    for node in [one for one in network.nodes if one != candidate.address][2:]:
        network.send(node, network.registry.functions.pause())
    motion = request(network, candidate)
    assert motions.draw(network, motion) == ()
    call = network.admission.functions.decide(astuple(motion), [], AFFIRMING, (2**63, 0, []))
    assert network.reason(network.outsider, call) == "admission: too few members"
    assert not network.registry.functions.is_held().call()


@pytest.mark.parametrize("before", [LOOKAHEAD, 0])
def test_freeze__round_can_be_known__the_draw_stands_still_until_drawn(
    network: Network, candidate: NodeKeys, before: int
) -> None:
    motion = request(network, candidate)
    pause = network.registry.functions.pause()
    nodes = list(network.nodes)
    network.mine_to(motion.round - LOOKAHEAD - 2)
    network.send(nodes[0], pause)
    network.mine_to(motion.round - before - 1)
    assert network.reason(nodes[1], pause) == "registry: draw the admission round first"
    motions.draw(network, motion)
    network.send(nodes[1], pause)


def test_freeze__nobody_draws__ends_with_the_window(network: Network, candidate: NodeKeys) -> None:
    motion = request(network, candidate)
    pause = network.registry.functions.pause()
    node = next(iter(network.nodes))
    network.mine_to(motion.round + DRAW_WINDOW - 1)
    assert network.reason(node, pause) == "registry: draw the admission round first"
    network.send(node, pause)


# --- votes --------------------------------------------------------------------------------------


@pytest.fixture
def drawn(network: Network, candidate: NodeKeys) -> tuple[motions.Motion, tuple[str, ...]]:
    """An admission with its committee."""
    motion = request(network, candidate)
    return motion, motions.draw(network, motion)


def test_decide__below_the_quorum__reverts(
    network: Network, drawn: tuple[motions.Motion, tuple[str, ...]]
) -> None:
    call = decide_call(network, *drawn, range(QUORUM - 1))
    assert network.reason(network.outsider, call) == "admission: no quorum"


@pytest.mark.parametrize(
    "said",
    [
        {"id": 2}, {"kind": BAR}, {"proposer": BURNED}, {"number": 1}, {"subject": b"\x01" * 32},
        {"maker": b"\x01" * 32}, {"evidence": b"\x01" * 32},
    ],
    ids=str,
)  # fmt: skip
def test_decide__votes_about_another_motion__revert(
    network: Network, drawn: tuple[motions.Motion, tuple[str, ...]], said: dict[str, Any]
) -> None:
    motion, members = drawn
    votes = motions.ballot(network, changed(motion, **said), members, range(QUORUM))
    decide = network.admission.functions.decide
    call = decide(astuple(motion), list(members), AFFIRMING, votes)
    assert network.reason(network.outsider, call) == "votes: signer does not hold the seat"
    call = decide(astuple(changed(motion, **said)), list(members), AFFIRMING, votes)
    assert network.reason(network.outsider, call) == "admission: not an open motion"


def test_decide__votes_against_as_votes_for__revert(
    network: Network, drawn: tuple[motions.Motion, tuple[str, ...]]
) -> None:
    motion, members = drawn
    votes = motions.ballot(network, motion, members, range(QUORUM), CONTRAINDICATED)
    call = network.admission.functions.decide(astuple(motion), list(members), AFFIRMING, votes)
    assert network.reason(network.outsider, call) == "votes: signer does not hold the seat"
    call = network.admission.functions.decide(astuple(motion), list(members), 3, votes)
    assert network.reason(network.outsider, call) == "admission: unknown verdict"


def test_decide__another_committee__reverts(
    network: Network, drawn: tuple[motions.Motion, tuple[str, ...]]
) -> None:
    motion, members = drawn
    call = decide_call(network, motion, members[::-1])
    assert network.reason(network.outsider, call) == "admission: not the committee"


def test_decide__not_drawn_yet__reverts(network: Network, candidate: NodeKeys) -> None:
    motion = request(network, candidate)
    call = decide_call(network, motion, list(network.nodes)[:SIZE])
    assert network.reason(network.outsider, call) == "admission: not the committee"


def test_decide__seat_beyond_those_that_decide_admissions__reverts(
    network: Network, drawn: tuple[motions.Motion, tuple[str, ...]]
) -> None:
    call = decide_call(network, *drawn, [0, 1, 2, SIZE])
    assert network.reason(network.outsider, call) == "admission: seat does not vote on this"


def test_decide__votes_out_of_date__revert(
    network: Network, drawn: tuple[motions.Motion, tuple[str, ...]]
) -> None:
    call = decide_call(network, *drawn, valid_until=network.block)
    assert network.reason(network.outsider, call) == "admission: votes are out of date"
    call = decide_call(network, *drawn, valid_until=network.block + 1)
    network.send(network.outsider, call)


def test_decide__window_over__motion_is_void(
    network: Network, drawn: tuple[motions.Motion, tuple[str, ...]]
) -> None:
    network.mine_to(motions.last_vote(drawn[0], VOTE_WINDOW))
    call = decide_call(network, *drawn)
    assert network.reason(network.outsider, call) == "admission: votes are closed"


def test_decide__last_block__decided(
    network: Network, drawn: tuple[motions.Motion, tuple[str, ...]]
) -> None:
    network.mine_to(motions.last_vote(drawn[0], VOTE_WINDOW) - 1)
    network.send(network.outsider, decide_call(network, *drawn))
    assert motions.state(network, drawn[0]) == CARRIED


def test_decide__member_barred_meanwhile__votes_no_more_and_is_not_counted(
    network: Network, candidate: NodeKeys
) -> None:
    later = pending(network, "later")
    admission = request(network, candidate)
    other = request(network, later)
    members = motions.draw(network, admission)
    out = members[0]
    hardware = network.registry.functions.node(out).call()[7]
    mover = next(one for one in network.nodes if one != out)
    motions._vote_on(network, propose(network, BAR, hardware, mover))
    assert network.registry.functions.barred_by_vote(out).call()
    call = decide_call(network, admission, members, range(QUORUM))
    assert network.reason(network.outsider, call) == "admission: seat does not vote on this"
    # of the four that are left three are two thirds
    call = decide_call(network, admission, members, [1, 2])
    assert network.reason(network.outsider, call) == "admission: no quorum"
    network.send(network.outsider, decide_call(network, other, members, [1, 2, 3]))
    assert status(network, later) == ACTIVE


# --- Zymkeys and their admitters ----------------------------------------------------------------


def test_zymkey__vouched_and_affirmed__active(network: Network) -> None:
    person = Account.from_key(b"\x07" * 32)
    keys = pending(network, "zymkey", ZYMKEY)
    name = propose(network, NAME, bytes(12) + bytes.fromhex(person.address[2:]))
    motions.decide(network, name)
    assert network.admission.functions.is_admitter(person.address).call()
    motion = request(network, keys, vouched=motions.vouch(network, keys, person))
    motions.decide(network, motion)
    assert status(network, keys) == ACTIVE


def test_zymkey__nobody_vouches__refused(network: Network) -> None:
    keys = pending(network, "zymkey", ZYMKEY)
    stranger = Account.from_key(b"\x07" * 32)
    for vouched in (
        motions.vouch(network, keys, stranger),
        motions.vouch(network, keys, keys.account),
    ):
        reason = network.reason(keys.address, request_call(network, vouched=vouched), MOTION_FEE)
        assert reason == "admission: not vouched by an admitter"
    reason = network.reason(keys.address, request_call(network, vouched=NO_VOUCH), MOTION_FEE)
    assert reason == "admission: vouch is out of date"
    empty = (2**63, (0, 0))
    reason = network.reason(keys.address, request_call(network, vouched=empty), MOTION_FEE)
    assert reason == "votes: no signature"


def test_zymkey__vouch_for_another_node_or_maker_or_time__refused(network: Network) -> None:
    person = Account.from_key(b"\x07" * 32)
    motions.decide(network, propose(network, NAME, bytes(12) + bytes.fromhex(person.address[2:])))
    keys, other = pending(network, "zymkey", ZYMKEY), pending(network, "other", ZYMKEY)
    for vouched in (
        motions.vouch(network, other, person),
        motions.vouch(network, keys, person, maker=b"\x01" * 32),
    ):
        reason = network.reason(keys.address, request_call(network, vouched=vouched), MOTION_FEE)
        assert reason == "admission: not vouched by an admitter"
    late = motions.vouch(network, keys, person, valid_until=network.block)
    reason = network.reason(keys.address, request_call(network, vouched=late), MOTION_FEE)
    assert reason == "admission: vouch is out of date"
    right = motions.vouch(network, keys, person, valid_until=network.block + 1)
    network.send(keys.address, request_call(network, vouched=right), MOTION_FEE)


def test_admitter__dismissed__vouches_no_more(network: Network) -> None:
    person = Account.from_key(b"\x07" * 32)
    subject = bytes(12) + bytes.fromhex(person.address[2:])
    motions.decide(network, propose(network, NAME, subject))
    motions.decide(network, propose(network, DISMISS, subject))
    assert not network.admission.functions.is_admitter(person.address).call()
    keys = pending(network, "zymkey", ZYMKEY)
    call = request_call(network, vouched=motions.vouch(network, keys, person))
    reason = network.reason(keys.address, call, MOTION_FEE)
    assert reason == "admission: not vouched by an admitter"


# --- motions of nodes ---------------------------------------------------------------------------


def test_propose__not_active_or_malformed__reverts(network: Network, candidate: NodeKeys) -> None:
    make = network.admission.functions.propose
    node = next(iter(network.nodes))
    for sender in (network.outsider, candidate.address):
        reason = network.reason(sender, make(BAR, b"\x01" * 32, EVIDENCE), MOTION_FEE)
        assert reason == "admission: only active nodes"
    for kind in (0, ADMIT, DISMISS + 1):
        reason = network.reason(node, make(kind, b"\x01" * 32, EVIDENCE), MOTION_FEE)
        assert reason == "admission: unknown kind"
    reason = network.reason(node, make(BAR, bytes(32), EVIDENCE), MOTION_FEE)
    assert reason == "admission: subject is empty"
    reason = network.reason(node, make(NAME, b"\x01" * 32, EVIDENCE), MOTION_FEE)
    assert reason == "admission: subject is no account"
    reason = network.reason(node, make(BAR, b"\x01" * 32, EVIDENCE), MOTION_FEE - 1)
    assert reason == "admission: value is not the fee"


def test_bar__accused_sits_in_the_committee__does_not_vote(network: Network) -> None:
    accused = next(iter(network.nodes))
    hardware = network.registry.functions.node(accused).call()[7]
    motion = propose(network, BAR, hardware, list(network.nodes)[1])
    members = motions.draw(network, motion)
    assert accused in members  # eight nodes, and the round draws all of them
    call = decide_call(network, motion, members)
    assert network.reason(network.outsider, call) == "admission: seat does not vote on this"
    others = [seat for seat, member in enumerate(members) if member != accused]
    quorum = -(-2 * len(others) // 3)
    call = decide_call(network, motion, members, others[: quorum - 1])
    assert network.reason(network.outsider, call) == "admission: no quorum"
    network.send(network.outsider, decide_call(network, motion, members, others[:quorum]))
    assert network.registry.functions.status(accused).call() == BARRED


# --- the bootstrap admitter ---------------------------------------------------------------------


def test_bootstrap__admits_until_it_renounces(network: Network) -> None:
    first, second = pending(network, "first"), pending(network, "second")
    functions = network.admission.functions
    assert functions.bootstrap().call() == bootstrap(network)
    assert functions.is_admitter(bootstrap(network)).call()
    network.send(bootstrap(network), functions.admit_bootstrap(first.address, MAKER))
    assert status(network, first) == ACTIVE
    network.send(bootstrap(network), functions.renounce())
    call = functions.admit_bootstrap(second.address, MAKER)
    reason = "admission: only the bootstrap admitter"
    assert network.reason(bootstrap(network), call) == reason
    assert network.reason(bootstrap(network), functions.renounce()) == reason
    assert functions.bootstrap().call() == BURNED
    for who in (bootstrap(network), BURNED):
        assert not functions.is_admitter(who).call()
    assert status(network, second) == PENDING


def test_bootstrap__dismissed_by_vote__admits_and_vouches_no_more(network: Network) -> None:
    functions = network.admission.functions
    person = bytes(31) + b"\x07"
    motions.decide(network, propose(network, DISMISS, person))
    assert functions.bootstrap().call() == bootstrap(network)  # that was about somebody else
    own = bytes(12) + bytes.fromhex(bootstrap(network)[2:])
    motions.decide(network, propose(network, NAME, own))
    assert functions.bootstrap().call() == bootstrap(network)
    motions.decide(network, propose(network, DISMISS, own))
    assert functions.bootstrap().call() == BURNED
    assert not functions.is_admitter(bootstrap(network)).call()
    call = functions.admit_bootstrap(pending(network, "next").address, MAKER)
    reason = "admission: only the bootstrap admitter"
    assert network.reason(bootstrap(network), call) == reason


def test_bootstrap__outsider__reverts(network: Network, candidate: NodeKeys) -> None:
    functions = network.admission.functions
    for call in (functions.admit_bootstrap(candidate.address, MAKER), functions.renounce()):
        for sender in (network.outsider, candidate.address, next(iter(network.nodes))):
            assert network.reason(sender, call) == "admission: only the bootstrap admitter"


def test_bootstrap__zymkey__its_word_is_the_vouch(network: Network) -> None:
    keys = pending(network, "zymkey", ZYMKEY)
    call = network.admission.functions.admit_bootstrap(keys.address, MAKER)
    network.send(bootstrap(network), call)
    assert status(network, keys) == ACTIVE


def test_parameters__are_those_of_the_deployment(network: Network) -> None:
    found = network.admission.functions.parameters().call()
    assert tuple(found) == (DELAY, LOOKAHEAD, DRAW_WINDOW, VOTE_WINDOW, SIZE, MOTION_FEE)
    assert network.admission.functions.registry().call() == network.registry.address
