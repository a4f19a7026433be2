"""Bars: whom a vote barred claims, judges, is paid or is blamed all the same"""

from __future__ import annotations

from typing import Final

from tests.contracts import motions
from tests.contracts.attacks.harness import Removal, attack
from tests.contracts.motions import MAKER, REJECTED, admitted
from tests.contracts.network import CLASSES, DRAW_WINDOW, Network, Refused, Task
from tests.contracts.signing import CONTRAINDICATED, DURING, NodeKeys

NO_CLAIM: Final = Removal(
    "barred-maker-claims-nothing",
    "`NodeRegistry.terms` refuses a node whose maker is barred, before anybody calls `sync`",
    "NodeRegistry.vy",
    'assert not self._is_maker_barred(maker), "registry: node is barred"',
    "pass",
)
NOT_ITS_OWN_JUDGE: Final = Removal(
    "accused-does-not-vote",
    "`AdmissionLedger.decide` takes no vote of whom the motion would bar",
    "AdmissionLedger.vy",
    "        if not accused:\n",
    "        if True:\n",
)
ENOUGH: Final = Removal(
    "fail-barred-needs-bars",
    "`TaskMarket.fail_barred` ends a task only if too few of its judges are left",
    "TaskMarket.vy",
    'assert self._lacks_judges(task, state, committee), "market: enough are not barred"',
    "pass",
)
UNPAID: Final = Removal(
    "barred-not-paid",
    "`TaskMarket.finish` settles no task whose executor was barred since the posting",
    "TaskMarket.vy",
    'assert not self._is_barred(task.executor), "market: executor is barred"',
    "pass",
)
NOTED: Final = Removal(
    "bar-noted",
    "`NodeRegistry.bar_maker` tells the market of each bar",
    "NodeRegistry.vy",
    "log INodeRegistry.MakerBarred(maker=maker)\n    extcall ITaskMarket(MARKET).note_bar()",
    "log INodeRegistry.MakerBarred(maker=maker)",
)
JUDGED: Final = Removal(
    "barred-judges-settle-nothing",
    "`TaskMarket.finish` settles no task of which fewer than a quorum can be judges any more",
    "TaskMarket.vy",
    '''        assert not self._lacks_judges(
            task, ADMITTED, committee
        ), "market: too many judges are barred"''',
    "        pass",
)
JUDGED_TOO: Final = Removal(
    "barred-judges-refuse-nothing",
    "`TaskMarket.refuse` ends no ADMITTED task of which fewer than a quorum can be judges any more",
    "TaskMarket.vy",
    "    if state == ADMITTED:\n        self._check_judges(task, committee)\n",
    "",
)
GRACE: Final = Removal(
    "bar-leaves-time",
    "`TaskMarket.expire` leaves one claim window after a bar for `fail_barred`",
    "TaskMarket.vy",
    "max(self._deadline(task, state), self.barred_at + CLAIM_WINDOW)",
    "self._deadline(task, state)",
)
NO_FAULT: Final = Removal(
    "barred-leader-blameless",
    "`TaskMarket.expire` counts no undrawn task against a leader that a vote has barred",
    "TaskMarket.vy",
    "if possible and not self._is_barred(leader):",
    "if possible:",
)


@attack("admission: seat does not vote on this", NOT_ITS_OWN_JUDGE)
def test_bar__accused_sits_in_judgement__its_vote_does_not_count(network: Network) -> None:
    """A node with a broken chip votes against the motion that would bar its maker."""
    accused = admitted(network, "accused")
    mover = next(one for one in network.nodes if one != accused.address)
    motion = motions.propose(network, motions.BAR_MAKER, MAKER, mover)
    members = motions.draw(network, motion)
    own = members.index(accused.address)
    accomplices = [seat for seat in range(len(members)) if seat != own][:5]
    seats = sorted([own, *accomplices])  # six of nine, and not of eight
    call = motions.decide_call(network, motion, members, seats, CONTRAINDICATED)
    network.send(network.outsider, call)
    assert motions.state(network, motion) == REJECTED


@attack("registry: node is barred", NO_CLAIM)
def test_bar__barred_maker_nobody_synced__claims_nothing(network: Network) -> None:
    """A node of a maker that was barred claims before anybody has taken it out of the draw."""
    keys = admitted(network, "broken")
    motions.bar_maker(network, MAKER)
    task = network.claim(network.post(), keys)
    assert task.executor == keys.address


@attack("market: enough are not barred", ENOUGH)
def test_bar__executor_calls_its_judges_barred__pays_for_its_task(network: Network) -> None:
    """An executor that took the inputs ends its task as if its committee had been barred."""
    task = network.reach("admitted")
    deposit = network.registry.functions.deposit(task.executor).call()
    call = network.market.functions.fail_barred(task.as_tuple(), list(task.members))
    network.send(task.executor, call)
    assert network.registry.functions.deposit(task.executor).call() == deposit


def run_by(network: Network, keys: NodeKeys) -> Task:
    """A task that a node has admitted, with time enough for a vote."""
    task = network.claim(network.post(class_id=3), keys)
    return network.admit(network.accept(network.draw(task)))


@attack("market: executor is barred", UNPAID)
def test_bar__executor_barred_while_it_runs__not_paid(network: Network) -> None:
    """An executor whose chip was barred brings its record before anybody ends its task."""
    keys = admitted(network, "broken")
    task = run_by(network, keys)
    motions.bar(network, network.registry.functions.node(keys.address).call()[7])
    network.finish(task)
    assert network.owed(keys.address) == task.executor_fee


@attack("market: executor is barred", NOTED)
def test_bar__executors_maker_barred_while_it_runs__not_paid(network: Network) -> None:
    """An executor whose maker was barred brings its record before anybody has synced it."""
    keys = admitted(network, "broken")
    task = run_by(network, keys)
    motions.bar_maker(network, MAKER)
    network.finish(task)
    assert network.owed(keys.address) == task.executor_fee


@attack("market: too many judges are barred", JUDGED)
def test_bar__judges_barred_while_it_runs__their_votes_settle_nothing(
    network: Network,
) -> None:
    """An executor settles its task with the votes of judges that were barred since."""
    task = run_by(network, network.free_node())
    for member in task.members[:2]:
        motions.bar(network, network.registry.functions.node(member).call()[7])
    network.finish(task)
    assert network.owed(task.executor) == task.executor_fee


@attack("market: too many judges are barred", JUDGED_TOO)
def test_bar__judges_barred_while_it_runs__slash_nobody(network: Network) -> None:
    """Whoever has the broken chips of a task's judges has them refuse it after their bar."""
    task = run_by(network, network.free_node())
    deposit = network.registry.functions.deposit(task.executor).call()
    for member in task.members[:2]:
        motions.bar(network, network.registry.functions.node(member).call()[7])
    network.send(network.outsider, network.refuse_call(task, DURING))
    assert network.registry.functions.deposit(task.executor).call() < deposit


@attack("market: deadline not over", GRACE)
def test_bar__judges_barred_as_the_deadline_ends__executor_not_slashed(network: Network) -> None:
    """Whoever brings the votes on its judges does so in the last block in which it can finish."""
    task = run_by(network, network.free_node())
    network.fund(network.admission.address)
    network.mine_to(task.step_at + CLASSES[3][2] - 2)
    for member in task.members[:2]:
        chip = network.registry.functions.node(member).call()[7]
        network.send(network.admission.address, network.registry.functions.bar(chip))
    deposit = network.registry.functions.deposit(task.executor).call()
    network.send(network.outsider, network.expire_call(task))
    assert network.registry.functions.deposit(task.executor).call() < deposit


@attack("its reputation stays", NO_FAULT)
def test_bar__barred_leader_left_undrawn__loses_nothing(network: Network) -> None:
    """Somebody lets the task of a barred leader expire, instead of ending it by the bar."""
    keys = admitted(network, "broken")
    history = network.reputation.functions.history
    before = history(keys.address).call()
    task = network.claim(network.post(), keys)
    network.fund(network.admission.address)
    chip = network.registry.functions.node(keys.address).call()[7]
    network.send(network.admission.address, network.registry.functions.bar(chip))
    network.mine_to(network.entropy_block(task) + DRAW_WINDOW)
    network.send(network.outsider, network.expire_call(task))
    if history(keys.address).call() == before:
        raise Refused("its reputation stays")
