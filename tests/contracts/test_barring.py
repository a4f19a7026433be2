"""PENDING nodes, and hardware that is barred by vote: powers, place in the draw, tasks, money."""

from __future__ import annotations

import pytest
from web3.contract.contract import ContractFunction

from tests.contracts import motions
from tests.contracts.motions import (
    ACTIVE,
    BARRED,
    EXITED,
    EXITING,
    MAKER,
    OTHER_MAKER,
    PENDING,
    SOFTWARE,
    TPM2,
    ZYMKEY,
    admitted,
    bootstrap,
    pending,
    request_call,
    status,
)
from tests.contracts.network import (
    CLAIM_WINDOW,
    CLASSES,
    DRAW_WINDOW,
    LOOKAHEAD,
    MOTION_FEE,
    NOBODY,
    UNBONDING,
    UNIT,
    Network,
    Task,
)
from tests.contracts.signing import AFTER, BEFORE, CONTRAINDICATED, DURING, NodeKeys, Vote

pytestmark = pytest.mark.chain  # starts anvil
BARRED_CAUSE = 11


def drawable(network: Network) -> set[str]:
    """Who can be drawn, up to eleven."""
    functions = network.registry.functions
    number = functions.drawable().call()
    assert number <= 11
    return set(functions.draw(b"\x05" * 32, number, NOBODY).call())


def chip_of(network: Network, keys: NodeKeys) -> bytes:
    """The node's hardware id."""
    return bytes(network.registry.functions.node(keys.address).call()[7])


def failed(network: Network, task: Task) -> ContractFunction:
    """The call `fail_barred`."""
    return network.market.functions.fail_barred(task.as_tuple(), list(task.members))


# --- PENDING ------------------------------------------------------------------------------------


@pytest.mark.parametrize("root_class", [ZYMKEY, TPM2])
def test_register__hardware_root__pending_outside_the_draw(
    network: Network, root_class: int
) -> None:
    keys = pending(network, "newcomer", root_class)
    assert status(network, keys) == PENDING
    assert keys.address not in drawable(network)
    assert network.registry.functions.holder(chip_of(network, keys)).call() == NOBODY
    assert network.registry.functions.deposit(keys.address).call() == UNIT


def test_pending__claims_pauses_or_resumes__reverts(network: Network) -> None:
    keys = pending(network, "newcomer")
    task = network.post()
    network.open_claims(task)
    claim = network.claim_call(task, keys)
    assert network.reason(keys.address, claim) == "registry: node not active"
    functions = network.registry.functions
    assert network.reason(keys.address, functions.pause()) == "registry: node not active"
    assert network.reason(keys.address, functions.resume()) == "registry: node not paused"
    network.send(network.outsider, functions.sync(keys.address))
    assert keys.address not in drawable(network)


def test_register__zymkey_under_another_id__reverts(network: Network) -> None:
    """Its root key is its only key: the id follows from it, so nobody can take another's."""
    keys = NodeKeys.derive("newcomer")
    network.fund(keys.address)
    for wrong in (b"\x01" * 32, keys.hardware_id):
        call = motions.register_call(network, keys, ZYMKEY, hardware=wrong)
        reason = network.reason(keys.address, call, UNIT)
        assert reason == "registry: hardware id is not the root key's"


def test_register__hardware_where_software_is_refused__pending(network: Network) -> None:
    """A network for real work takes no software root, and every hardware root."""
    registry = network.chain.deploy(
        "contracts/NodeRegistry.vy",
        *(UNIT, UNBONDING, False, network.registry.functions.verifier().call()),
        *(network.reputation.address, network.attestation.address, network.market.address),
        network.admission.address,
    )
    keys = NodeKeys.derive("newcomer")
    network.fund(keys.address)
    # the reputation ledger opens slots for its own registry alone: as far as this one can come
    real, network.registry = network.registry, registry
    try:
        hardware = motions.register_call(network, keys)
        reason = network.reason(keys.address, hardware, UNIT)
        assert reason == "reputation: only the registry"
        row, contact, signature = network.registration(keys)
        call = registry.functions.register(row, contact, True, *signature)
        reason = network.reason(keys.address, call, UNIT)
        assert reason == "registry: software roots not allowed"
    finally:
        network.registry = real


def test_pending__joins_without_a_unit__reverts(network: Network) -> None:
    keys = NodeKeys.derive("newcomer")
    network.fund(keys.address)
    call = motions.register_call(network, keys)
    reason = network.reason(keys.address, call, UNIT - 1)
    assert reason == "registry: deposit below one unit"


def test_pending__leaves__deposit_comes_back(network: Network) -> None:
    keys = pending(network, "newcomer", deposit=3 * UNIT)
    functions = network.registry.functions
    network.send(keys.address, functions.top_up(), UNIT)
    network.send(keys.address, functions.exit())
    assert status(network, keys) == EXITING
    network.chain.mine(UNBONDING)
    before = network.balance(network.registry.address)
    network.send(keys.address, functions.withdraw_deposit())
    assert before - network.balance(network.registry.address) == 4 * UNIT
    assert status(network, keys) == EXITED


def test_pending__leaves_with_another_nodes_id__the_holder_keeps_it(network: Network) -> None:
    """Else a claim to somebody's chip, taken back, would let a second node in with it."""
    owner = NodeKeys.derive("owner")
    chip = motions.hardware_id(owner, TPM2)
    squatter = pending(network, "squatter", hardware=chip)
    admitted(network, "owner")
    network.send(squatter.address, network.registry.functions.exit())
    network.chain.mine(UNBONDING)
    network.send(squatter.address, network.registry.functions.withdraw_deposit())
    assert network.registry.functions.holder(chip).call() == owner.address


def test_admit__deposit_slashed_below_a_unit_meanwhile__barred_is_not_admitted(
    network: Network,
) -> None:
    keys = pending(network, "newcomer")
    network.equivocate(keys)
    assert status(network, keys) == BARRED
    call = network.admission.functions.admit_bootstrap(keys.address, MAKER)
    assert network.reason(bootstrap(network), call) == "registry: node not pending"


def test_admit__exited__id_is_free_again(network: Network) -> None:
    keys = admitted(network, "newcomer")
    chip = chip_of(network, keys)
    network.send(keys.address, network.registry.functions.exit())
    network.chain.mine(UNBONDING)
    network.send(keys.address, network.registry.functions.withdraw_deposit())
    assert network.registry.functions.holder(chip).call() == NOBODY
    again = pending(network, "again", hardware=chip)
    call = network.admission.functions.admit_bootstrap(again.address, MAKER)
    network.send(bootstrap(network), call)
    assert network.registry.functions.holder(chip).call() == again.address


def test_admit__while_a_task_freezes_the_draw__placed_by_sync(network: Network) -> None:
    keys = pending(network, "newcomer")
    task = network.claim(network.post(), network.free_node())
    network.mine_to(network.entropy_block(task) - LOOKAHEAD)
    before = network.registry.functions.drawable().call()
    network.send(
        bootstrap(network), network.admission.functions.admit_bootstrap(keys.address, MAKER)
    )
    assert status(network, keys) == ACTIVE
    assert network.registry.functions.drawable().call() == before
    sync = network.registry.functions.sync(keys.address)
    assert network.reason(network.outsider, sync) == "registry: draw task 1 first"
    network.draw(task)
    network.send(network.outsider, sync)
    assert keys.address in drawable(network)


def test_admit__claims_count_for_later_tasks(network: Network) -> None:
    keys = pending(network, "newcomer")
    task = network.post()
    network.send(
        bootstrap(network), network.admission.functions.admit_bootstrap(keys.address, MAKER)
    )
    network.open_claims(task)
    claim = network.claim_call(task, keys)
    assert network.reason(keys.address, claim) == "registry: node changed after the posting"


@pytest.mark.parametrize("name", ["admit", "bar", "bar_maker", "hold"])
def test_powers_of_the_ledger__anybody_else__reverts(network: Network, name: str) -> None:
    keys = pending(network, "newcomer")
    given = {
        "admit": (keys.address, 9, MAKER),
        "bar": (b"\x01" * 32,),
        "bar_maker": (MAKER,),
        "hold": (0, 2**40 - 1),
    }
    call = getattr(network.registry.functions, name)(*given[name])
    for sender in (bootstrap(network), keys.address, network.outsider, next(iter(network.nodes))):
        assert network.reason(sender, call) == "registry: only the admission ledger"


def test_makers__more_than_a_record_can_number__reverts(network: Network) -> None:
    network.fund(network.admission.address)
    functions = network.registry.functions
    for number in range(1, 128):
        network.send(network.admission.address, functions.bar_maker(number.to_bytes(32, "big")))
    # one that is known needs no new number
    network.send(network.admission.address, functions.bar_maker((7).to_bytes(32, "big")))
    call = functions.bar_maker((128).to_bytes(32, "big"))
    assert network.reason(network.admission.address, call) == "registry: too many makers"
    assert functions.is_maker_barred((127).to_bytes(32, "big")).call()
    assert not functions.is_maker_barred((128).to_bytes(32, "big")).call()


# --- barring a chip -----------------------------------------------------------------------------


def test_bar__active_node__out_of_the_draw_and_of_the_race(network: Network) -> None:
    keys = admitted(network, "broken")
    deposit = network.registry.functions.deposit(keys.address).call()
    assert keys.address in drawable(network)
    motions.bar(network, chip_of(network, keys))
    assert status(network, keys) == BARRED
    assert network.registry.functions.barred_by_vote(keys.address).call()
    assert keys.address not in drawable(network)
    assert network.registry.functions.deposit(keys.address).call() == deposit
    task = network.post()
    network.open_claims(task)
    claim = network.claim_call(task, keys)
    assert network.reason(keys.address, claim) == "registry: node not active"


def test_bar__deposit__leaves_whole_after_the_unbonding(network: Network) -> None:
    keys = admitted(network, "broken", deposit=3 * UNIT)
    motions.bar(network, chip_of(network, keys))
    withdraw = network.registry.functions.withdraw_deposit()
    assert network.reason(keys.address, withdraw) == "registry: still unbonding"
    network.chain.mine(UNBONDING)
    before = network.balance(network.registry.address)
    network.send(keys.address, withdraw)
    assert before - network.balance(network.registry.address) == 3 * UNIT


def test_bar__hardware__never_again(network: Network) -> None:
    keys = admitted(network, "broken")
    chip = chip_of(network, keys)
    motions.bar(network, chip)
    network.chain.mine(UNBONDING)
    network.send(keys.address, network.registry.functions.withdraw_deposit())
    second = NodeKeys.derive("second")
    network.fund(second.address)
    call = motions.register_call(network, second, hardware=chip)
    reason = network.reason(second.address, call, UNIT)
    assert reason == "registry: hardware id already registered"


def test_bar__hardware_that_nobody_holds__cannot_come_in(network: Network) -> None:
    """A stolen chip is barred before it is used; a candidate that waits with it stays outside."""
    keys = pending(network, "late")
    chip = chip_of(network, keys)
    motions.bar(network, chip)
    assert network.registry.functions.holder(chip).call() == network.registry.address
    call = network.admission.functions.admit_bootstrap(keys.address, MAKER)
    reason = network.reason(bootstrap(network), call)
    assert reason == "registry: hardware id already registered"
    motions.bar(network, chip)  # again: changes nothing
    network.send(keys.address, network.registry.functions.exit())
    network.chain.mine(UNBONDING)
    network.send(keys.address, network.registry.functions.withdraw_deposit())
    assert network.registry.functions.holder(chip).call() == network.registry.address


def test_bar__node_that_is_leaving__keeps_its_date(network: Network) -> None:
    keys = admitted(network, "broken")
    network.send(keys.address, network.registry.functions.exit())
    date = network.registry.functions.node(keys.address).call()[14]
    motions.bar(network, chip_of(network, keys))
    assert status(network, keys) == BARRED
    assert network.registry.functions.node(keys.address).call()[14] == date


def test_bar__while_a_task_freezes_the_draw__stays_drawn_until_sync(network: Network) -> None:
    """Who brings the votes chooses the block: he must not choose among two committees by it."""
    keys = admitted(network, "broken")
    # the votes are there before the task freezes the draw
    accuser = next(iter(network.nodes))
    motion = motions.propose(network, motions.BAR, chip_of(network, keys), accuser)
    task = network.post()
    members = motions.draw(network, motion)
    seats = [seat for seat, member in enumerate(members) if member != keys.address]
    leader = next(one for one in network.nodes.values() if one.address != keys.address)
    task = network.claim(task, leader)
    network.mine_to(network.entropy_block(task))
    before = drawable(network)
    network.send(network.outsider, motions.decide_call(network, motion, members, seats))
    assert status(network, keys) == BARRED
    assert drawable(network) == before
    sync = network.registry.functions.sync(keys.address)
    assert network.reason(network.outsider, sync) == "registry: draw task 1 first"
    network.draw(task)
    network.send(network.outsider, sync)
    assert keys.address not in drawable(network)


# --- barring a maker ----------------------------------------------------------------------------


def test_bar_maker__all_its_nodes__no_claims_at_once_and_out_by_sync(network: Network) -> None:
    broken = [admitted(network, f"broken {i}") for i in range(2)]
    sound = admitted(network, "sound", OTHER_MAKER)
    motions.bar_maker(network, MAKER)
    functions = network.registry.functions
    task = network.post()
    network.open_claims(task)
    for keys in broken:
        assert functions.barred_by_vote(keys.address).call()
        claim = network.claim_call(task, keys)
        assert network.reason(keys.address, claim) == "registry: node is barred"
        for name in ("pause", "exit", "top_up"):
            call = getattr(functions, name)()
            assert network.reason(keys.address, call) == "registry: node is barred"
        network.send(network.outsider, functions.sync(keys.address))
        assert status(network, keys) == BARRED
        assert keys.address not in drawable(network)
    assert not functions.barred_by_vote(sound.address).call()
    assert sound.address in drawable(network)
    network.claim(task, sound)


def test_bar_maker__deposits__leave_whole(network: Network) -> None:
    keys = admitted(network, "broken", deposit=2 * UNIT)
    motions.bar_maker(network, MAKER)
    network.send(network.outsider, network.registry.functions.sync(keys.address))
    # once: a second call must not move the date
    date = network.registry.functions.node(keys.address).call()[14]
    network.send(network.outsider, network.registry.functions.sync(keys.address))
    assert network.registry.functions.node(keys.address).call()[14] == date
    network.chain.mine(UNBONDING)
    before = network.balance(network.registry.address)
    network.send(keys.address, network.registry.functions.withdraw_deposit())
    assert before - network.balance(network.registry.address) == 2 * UNIT


def test_bar_maker__its_next_chip__not_admitted(network: Network) -> None:
    motions.bar_maker(network, MAKER)
    keys = pending(network, "next")
    reason = network.reason(keys.address, request_call(network), MOTION_FEE)
    assert reason == "admission: maker is barred"
    call = network.admission.functions.admit_bootstrap(keys.address, MAKER)
    assert network.reason(bootstrap(network), call) == "registry: maker is barred"


def test_bar_maker__software_roots__have_none_and_stay(network: Network) -> None:
    motions.bar_maker(network, MAKER)
    node = next(iter(network.nodes))
    assert network.registry.functions.node(node).call()[2] == SOFTWARE
    assert network.registry.functions.maker_of(node).call() == bytes(32)
    assert not network.registry.functions.barred_by_vote(node).call()


def test_bar_maker__its_members__do_not_vote_on_it(network: Network) -> None:
    keys = admitted(network, "accused")
    motion = motions.propose(network, motions.BAR_MAKER, MAKER)
    members = motions.draw(network, motion)
    assert keys.address in members  # nine nodes, and the round draws all of them
    call = motions.decide_call(network, motion, members)
    reason = network.reason(network.outsider, call)
    assert reason == "admission: seat does not vote on this"


@pytest.fixture
def one_maker(network: Network) -> tuple[list[NodeKeys], list[str]]:
    """Eleven nodes, eight of them with chips of one maker; and the other three."""
    chips = [admitted(network, f"chip {i}") for i in range(8)]
    registry = network.registry.functions
    others = [one for one in network.nodes if registry.maker_of(one).call() != MAKER]
    for one in others[3:]:
        network.send(one, registry.pause())
    assert registry.drawable().call() == 11
    return chips, others[:3]


def test_bar_maker__most_are_accused__the_few_others_do_not_decide(
    network: Network, one_maker: tuple[list[NodeKeys], list[str]]
) -> None:
    """Else two nodes of eleven could bar all the others, and be the network from then on."""
    _, others = one_maker
    motion = motions.propose(network, motions.BAR_MAKER, MAKER, others[0])
    members = motions.draw(network, motion)
    few = [seat for seat, member in enumerate(members) if member in others]
    call = motions.decide_call(network, motion, members, few)
    assert network.reason(network.outsider, call) == "admission: no quorum"
    call = motions.decide_call(network, motion, members, range(7))
    assert network.reason(network.outsider, call) == "admission: no quorum"
    # with those who own such chips, two thirds of all
    network.send(network.outsider, motions.decide_call(network, motion, members, range(8)))
    assert network.registry.functions.is_maker_barred(MAKER).call()


def test_decide__most_seats_are_barred__too_few(
    network: Network, one_maker: tuple[list[NodeKeys], list[str]]
) -> None:
    chips, others = one_maker
    motion = motions.propose(network, motions.NAME, bytes(31) + b"\x07", others[0])
    members = motions.draw(network, motion)
    for keys in chips[:5]:
        bar_now(network, chip_of(network, keys))
    barred = {keys.address for keys in chips[:5]}
    seats = [seat for seat, member in enumerate(members) if member not in barred]
    call = motions.decide_call(network, motion, members, seats)
    call.call({"from": network.outsider})  # six of eleven: they could
    bar_now(network, chip_of(network, chips[5]))
    seats = [seat for seat in seats if members[seat] != chips[5].address]
    call = motions.decide_call(network, motion, members, seats)
    assert network.reason(network.outsider, call) == "admission: too few members"


# --- tasks of barred nodes ----------------------------------------------------------------------


@pytest.fixture
def hardware(network: Network) -> NodeKeys:
    """A node with a TPM that others let in."""
    return admitted(network, "hardware")


def run_by(network: Network, keys: NodeKeys, state: str) -> Task:
    """A task of a node in a state."""
    task = network.post(k=3, class_id=3)
    network.open_claims(task)
    task = network.claim(task, keys)
    for name, step in (
        ("drawn", network.draw),
        ("accepted", network.accept),
        ("admitted", network.admit),
    ):
        if state == "claimed":
            break
        task = step(task)
        if name == state:
            break
    return task


def finish_end(task: Task) -> int:
    """The last block in which an ADMITTED task of class 0 may be finished."""
    return task.step_at + CLASSES[0][2]


def bar_now(network: Network, chip: bytes) -> None:
    """Bar a chip in one block, as the ledger does: its votes are the affair of other tests."""
    network.fund(network.admission.address)
    network.send(network.admission.address, network.registry.functions.bar(chip))


def bar_maker_now(network: Network, maker: bytes) -> None:
    """Bar a maker in one block, as the ledger does."""
    network.fund(network.admission.address)
    network.send(network.admission.address, network.registry.functions.bar_maker(maker))


@pytest.mark.parametrize("state", ["claimed", "drawn", "accepted", "admitted"])
def test_fail_barred__executor__refund_at_once_and_nobody_loses(
    network: Network, hardware: NodeKeys, state: str
) -> None:
    task = run_by(network, hardware, state)
    assert network.reason(network.outsider, failed(network, task)) in (
        "market: nobody is barred",
        "market: enough are not barred",
    )
    owed = network.owed(task.requester)
    deposit = network.registry.functions.deposit(hardware.address).call()
    history = network.reputation.functions.history(hardware.address).call()
    bar_now(network, chip_of(network, hardware))
    network.send(network.outsider, failed(network, task))
    assert network.state(task) == (7 if state == "claimed" else 6)
    assert network.owed(task.requester) == owed + task.escrow
    assert network.registry.functions.deposit(hardware.address).call() == deposit
    assert network.reputation.functions.history(hardware.address).call() == history
    assert not network.reputation.functions.engaged(hardware.address).call()
    reason = network.reason(network.outsider, failed(network, task))
    assert reason == "market: task is over"


def test_fail_barred__cause__is_told(network: Network, hardware: NodeKeys) -> None:
    task = run_by(network, hardware, "accepted")
    bar_now(network, chip_of(network, hardware))
    receipt = network.send(network.outsider, failed(network, task))
    (event,) = network.market.events.TaskFailed().process_receipt(receipt)
    assert event["args"]["cause"] == BARRED_CAUSE


def test_expire__barred_executor_that_admitted__not_slashed(
    network: Network, hardware: NodeKeys
) -> None:
    """It may not finish any more, so its deadline says nothing about it."""
    task = run_by(network, hardware, "admitted")
    bar_now(network, chip_of(network, hardware))
    deposit = network.registry.functions.deposit(hardware.address).call()
    network.mine_to(task.step_at + 70)
    receipt = network.send(network.outsider, network.expire_call(task))
    (event,) = network.market.events.TaskFailed().process_receipt(receipt)
    assert event["args"]["cause"] == BARRED_CAUSE
    assert network.registry.functions.deposit(hardware.address).call() == deposit
    assert network.owed(task.requester) == task.escrow


def test_expire__barred_leader_that_nobody_drew__loses_no_reputation(
    network: Network, hardware: NodeKeys
) -> None:
    task = run_by(network, hardware, "claimed")
    history = network.reputation.functions.history(hardware.address).call()
    bar_now(network, chip_of(network, hardware))
    network.mine_to(network.entropy_block(task) + DRAW_WINDOW)
    network.send(network.outsider, network.expire_call(task))
    assert network.state(task) == 7
    assert network.reputation.functions.history(hardware.address).call() == history
    assert not network.reputation.functions.engaged(hardware.address).call()
    assert network.owed(task.requester) == task.escrow


@pytest.mark.parametrize("whole_class", [False, True], ids=["chip", "maker"])
def test_finish__executor_barred_since_the_posting__not_paid(
    network: Network, hardware: NodeKeys, whole_class: bool
) -> None:
    """Also of a maker's node that nobody has synced yet."""
    task = run_by(network, hardware, "admitted")
    call = network.record_call(task, AFTER)
    if whole_class:
        bar_maker_now(network, MAKER)
    else:
        bar_now(network, chip_of(network, hardware))
    assert network.reason(hardware.address, call) == "market: executor is barred"
    network.send(network.outsider, failed(network, task))
    assert network.owed(hardware.address) == 0
    assert network.owed(task.requester) == task.escrow


def test_finish__bars_of_others__settles_and_pays(network: Network, hardware: NodeKeys) -> None:
    """A bar that leaves the task a quorum takes nothing from its executor and its other judges."""
    task = run_by(network, hardware, "admitted")
    bar_maker_now(network, OTHER_MAKER)
    bar_now(network, bytes(network.registry.functions.node(task.members[0]).call()[7]))
    network.finish(task, seats=[1, 2])
    assert network.state(task) == 5
    assert network.owed(hardware.address) == task.executor_fee


def test_finish__too_few_judges_are_left__not_paid(network: Network) -> None:
    """What `fail_barred` ends pays nobody, whichever call comes first."""
    task = network.reach("admitted")
    for member in task.members[:2]:
        bar_now(network, bytes(network.registry.functions.node(member).call()[7]))
    reason = network.reason(task.executor, network.record_call(task, AFTER))
    assert reason == "market: too many judges are barred"


def test_finish__judges_barred_in_the_block_of_the_posting__not_paid(network: Network) -> None:
    """They are drawn, as nobody has synced them; that bar counts as one since the posting."""
    executor, *others = network.nodes.values()
    for keys in others:
        network.send(keys.address, network.registry.functions.pause())
    judges = {admitted(network, f"judge {i}").address for i in range(3)}
    network.fund(network.admission.address)
    bar, post = network.registry.functions.bar_maker(MAKER), network.post_call(b"\x01" * 32)
    together = (network.admission.address, bar, 0), (network.requester, post, network.price(3))
    _, receipt = network.send_together(together)
    task = network.posted(post, receipt)
    task = network.admit(network.accept(network.draw(network.claim(task, executor))))
    assert set(task.members) == judges
    reason = network.reason(task.executor, network.record_call(task, AFTER))
    assert reason == "market: too many judges are barred"


def test_note_bar__anyone_but_the_registry__reverts(network: Network) -> None:
    call = network.market.functions.note_bar()
    assert network.reason(network.outsider, call) == "market: only the registry"


def test_fail_barred__one_member__ends_the_task_before_admit(network: Network) -> None:
    task = network.reach("accepted")
    bar_now(network, bytes(network.registry.functions.node(task.members[0]).call()[7]))
    network.send(network.outsider, failed(network, task))
    assert network.state(task) == 6
    assert network.reputation.functions.reputation(task.executor).call() == 1000


def test_fail_barred__one_member_after_admit__the_run_goes_on(network: Network) -> None:
    """The executor has run: those of its judges that are left can still pay it."""
    task = network.reach("admitted")
    chips = [bytes(network.registry.functions.node(one).call()[7]) for one in task.members]
    bar_now(network, chips[0])
    reason = network.reason(network.outsider, failed(network, task))
    assert reason == "market: enough are not barred"
    bar_now(network, chips[1])
    network.send(network.outsider, failed(network, task))
    assert network.state(task) == 6
    assert network.owed(task.requester) == task.escrow


def test_fail_barred__another_committee__reverts(network: Network) -> None:
    task = network.reach("accepted")
    bar_now(network, bytes(network.registry.functions.node(task.members[0]).call()[7]))
    others = [one for one in network.nodes if one not in task.members][:3]
    call = network.market.functions.fail_barred(task.as_tuple(), others)
    assert network.reason(network.outsider, call) == "market: not the committee"


def test_fail_barred__barred_by_a_slash__is_no_vote(network: Network) -> None:
    """Else a member could end others' tasks for what a slash leaves of its Deposit."""
    task = network.reach("accepted")
    network.equivocate(network.nodes[task.members[0]])
    assert network.registry.functions.status(task.members[0]).call() == BARRED
    reason = network.reason(network.outsider, failed(network, task))
    assert reason == "market: enough are not barred"


def test_refuse__votes_about_a_barred_executor__still_count(
    network: Network, hardware: NodeKeys
) -> None:
    task = run_by(network, hardware, "accepted")
    bar_now(network, chip_of(network, hardware))
    vote = Vote(task.id, BEFORE, bytes(32), 1, CONTRAINDICATED)
    call = network.market.functions.refuse(
        task.as_tuple(), list(task.members), BEFORE, 1, bytes(32), network.ballot(task, vote)
    )
    network.send(network.outsider, call)
    assert network.state(task) == 6


def test_refuse__judges_barred_since__slash_nobody(network: Network) -> None:
    """Stolen keys of judges, barred for it, are no means to slash whom they judged."""
    task = network.reach("admitted")
    call = network.refuse_call(task, DURING)
    for member in task.members[:2]:
        bar_now(network, bytes(network.registry.functions.node(member).call()[7]))
    deposit = network.registry.functions.deposit(task.executor).call()
    assert network.reason(network.outsider, call) == "market: too many judges are barred"
    network.send(network.outsider, failed(network, task))
    assert network.registry.functions.deposit(task.executor).call() == deposit


def test_refuse__one_judge_barred_since__the_others_still_refuse(network: Network) -> None:
    task = network.reach("admitted")
    bar_now(network, bytes(network.registry.functions.node(task.members[2]).call()[7]))
    network.send(network.outsider, network.refuse_call(task, DURING, seats=[0, 1]))
    assert network.state(task) == 6


def test_expire__bar_in_the_deadlines_last_block__time_for_fail_barred(network: Network) -> None:
    """Whoever brings a bar chooses its block; the executor that lost its judges has to be able to
    say so before it can be slashed."""
    task = network.reach("admitted")
    chips = [network.registry.functions.node(one).call()[7] for one in task.members[:2]]
    network.fund(network.admission.address)
    network.mine_to(finish_end(task) - 2)
    for chip in chips:
        network.send(network.admission.address, network.registry.functions.bar(chip))
    call = network.expire_call(task)
    bar = network.block
    assert bar == finish_end(task)
    assert network.reason(network.outsider, call) == "market: deadline not over"
    network.mine_to(bar + CLAIM_WINDOW - 1)
    assert network.reason(network.outsider, call) == "market: deadline not over"
    deposit = network.registry.functions.deposit(task.executor).call()
    network.send(task.executor, failed(network, task))
    assert network.registry.functions.deposit(task.executor).call() == deposit


def test_expire__claim_window_after_a_bar__open_again(network: Network) -> None:
    """Also for a task that the bar has nothing to do with: it only waits."""
    task = network.reach("admitted")
    network.mine_to(finish_end(task) + 1)
    bar_maker_now(network, OTHER_MAKER)
    network.mine_to(network.block + CLAIM_WINDOW)
    network.send(network.outsider, network.expire_call(task))
    assert network.state(task) == 6


# --- the drill ----------------------------------------------------------------------------------


def test_drill__a_makers_chips_are_broken__all_leave_and_nobody_loses_a_wei(
    network: Network,
) -> None:
    """Three of eleven nodes have chips of a maker whose keys turn out to be extractable; one runs a
    task, one leads another. The others vote; then everybody takes out what is theirs."""
    broken = [admitted(network, f"broken {i}", deposit=2 * UNIT) for i in range(3)]
    running = run_by(network, broken[0], "admitted")
    leading = network.claim(network.post("second", class_id=3), broken[1])
    deposits = {one: network.registry.functions.deposit(one).call() for one in network.nodes}

    # the vote: whoever has such a chip does not take part in it
    mover = next(one for one in network.nodes if one not in {keys.address for keys in broken})
    motion = motions.propose(network, motions.BAR_MAKER, MAKER, mover)
    members = motions.draw(network, motion)
    seats = [
        seat
        for seat, member in enumerate(members)
        if network.registry.functions.maker_of(member).call() != MAKER
    ]
    network.send(network.outsider, motions.decide_call(network, motion, members, seats))

    # at once: no claims; their tasks end with a refund
    for task in (running, leading):
        network.send(network.outsider, failed(network, task))
    assert network.owed(network.requester) == running.escrow + leading.escrow
    # anybody takes them out of the draw
    for keys in broken:
        network.send(network.outsider, network.registry.functions.sync(keys.address))
    assert not drawable(network) & {keys.address for keys in broken}
    # the others go on
    assert network.state(network.reach("settled")) == 5

    # every wei leaves: Deposits, refunds; only posting fees stay
    deposits |= {one: network.registry.functions.deposit(one).call() for one in network.nodes}
    assert all(network.registry.functions.deposit(k.address).call() == 2 * UNIT for k in broken)
    for node in network.nodes:
        if network.registry.functions.status(node).call() != BARRED:
            network.send(node, network.registry.functions.exit())
    network.chain.mine(UNBONDING)
    for node, deposit in deposits.items():
        before = network.balance(network.registry.address)
        network.send(node, network.registry.functions.withdraw_deposit())
        assert before - network.balance(network.registry.address) == deposit
    assert network.balance(network.registry.address) == 0
    for account in (network.requester, *network.nodes):
        if network.owed(account):
            network.send(account, network.market.functions.withdraw())
    burned = network.market.functions.burned().call()
    assert network.balance(network.market.address) == burned
