"""One play for each row of `docs/withholding.md`: who stays silent, and what the others do then.

A play returns the task as it stood before its end, and the receipt of the call that ended it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from web3.types import TxReceipt

from tests.contracts.network import Network, Task
from tests.contracts.signing import AFTER, BEFORE, CONTRAINDICATED, Vote

CLASS: Final = 1
ALL: Final = (0, 1, 2)
Ended = tuple[Task, TxReceipt]


@dataclass(frozen=True, slots=True)
class Scene:
    """What a play needs: the network, and the blocks that the row allows."""

    network: Network
    blocks: int

    def expire(self, task: Task) -> Ended:
        """An outsider ends the task in the first block in which it may; one earlier is refused."""
        network = self.network
        network.mine_to(self._start(task) + self.blocks - 2)
        call = network.expire_call(task)
        assert network.reason(network.outsider, call) == "market: deadline not over"
        return task, network.send(network.outsider, call)

    def reach(self, state: str, k: int = 3) -> Task:
        """A task in a state."""
        return self.network.reach(state, k=k, class_id=CLASS)

    def settle(self, task: Task, before: tuple[int, ...], after: tuple[int, ...]) -> Ended:
        """The executor brings both records with the votes of some seats."""
        return self.finish(self.network.admit(task, before), after)

    def finish(self, task: Task, seats: tuple[int, ...] = ALL) -> Ended:
        """The executor brings the AFTER record with the votes of some seats."""
        call = self.network.record_call(task, AFTER, seats)
        return task, self.network.send(task.executor, call)

    def lacks_quorum(self, task: Task, phase: int, seats: tuple[int, ...]) -> None:
        """The votes that there are do not make a record."""
        call = self.network.record_call(task, phase, seats)
        assert self.network.reason(task.executor, call) == "attestation: no quorum"

    def excuse(self, task: Task, vote: Vote) -> None:
        """Anybody shows a vote of the member in seat 1."""
        network = self.network
        signature = network.sign_vote(vote, network.nodes[task.members[1]])
        call = network.attestation.functions.excuse(task.members, 1, vote.as_tuple(), signature)
        network.send(network.outsider, call)

    @staticmethod
    def _start(task: Task) -> int:
        return task.step_at if task.members else task.posted_at


def nobody_claims(scene: Scene) -> Ended:
    return scene.expire(scene.reach("posted"))


def leader_does_not_draw(scene: Scene) -> Ended:
    network, task = scene.network, scene.reach("claimed")
    network.mine_to(network.entropy_block(task))
    drawn = network.fold(task, network.send(network.requester, network.draw_call(task)))
    return scene.settle(network.accept(drawn), ALL, ALL)


def nobody_draws(scene: Scene) -> Ended:
    return scene.expire(scene.reach("claimed"))


def too_few_nodes(scene: Scene) -> Ended:
    return scene.expire(scene.reach("claimed", k=len(scene.network.nodes)))


def no_opening(scene: Scene) -> Ended:
    return scene.expire(scene.reach("drawn"))


def no_opening_and_members_say_so(scene: Scene) -> Ended:
    network, task = scene.network, scene.reach("drawn")
    return task, network.send(network.outsider, network.refuse_call(task, BEFORE, (0, 2)))


def executor_brings_no_before(scene: Scene) -> Ended:
    return scene.expire(scene.reach("accepted"))


def leader_accepts_and_stops(scene: Scene) -> Ended:
    return scene.expire(scene.network.draw_accepting(scene.reach("claimed")))


def one_member_silent_before(scene: Scene) -> Ended:
    return scene.settle(scene.reach("accepted"), (0, 2), ALL)


def two_members_silent_before(scene: Scene) -> Ended:
    task = scene.reach("accepted")
    scene.lacks_quorum(task, BEFORE, (1,))
    return scene.expire(task)


def all_members_silent_before(scene: Scene) -> Ended:
    task = scene.reach("accepted")
    scene.lacks_quorum(task, BEFORE, ())
    return scene.expire(task)


def executor_withholds_after_admit(scene: Scene) -> Ended:
    return scene.expire(scene.reach("admitted"))


def one_member_silent_after(scene: Scene) -> Ended:
    return scene.settle(scene.reach("accepted"), ALL, (0, 2))


def two_members_silent_after(scene: Scene) -> Ended:
    task = scene.reach("admitted")
    scene.lacks_quorum(task, AFTER, (1,))
    return scene.expire(task)


def all_members_silent_after(scene: Scene) -> Ended:
    task = scene.reach("admitted")
    scene.lacks_quorum(task, AFTER, ())
    return scene.expire(task)


def executor_leaves_a_vote_out(scene: Scene) -> Ended:
    network, task = scene.network, scene.reach("admitted")
    every = network.record_call(task, AFTER, ALL)
    every.call({"from": task.executor})  # all three have voted, and the record would stand
    ended = scene.finish(task, (0, 2))
    header = network.digest(network.header(task, AFTER))
    scene.excuse(task, Vote(task.id, AFTER, header))
    return ended


def silent_member_signs_late(scene: Scene) -> Ended:
    task = scene.reach("admitted")
    ended = scene.finish(task, (0, 2))
    scene.excuse(task, Vote(task.id, AFTER, b"\x01" * 32, verdict=CONTRAINDICATED))
    return ended


def owner_gone(scene: Scene) -> Ended:
    network = scene.network
    owner = network.images.functions.owner().call()
    network.send(owner, network.images.functions.renounce())
    network.chain.rpc("anvil_setBalance", [owner, "0x0"])
    return scene.finish(scene.reach("admitted"))


def requester_gone(scene: Scene) -> Ended:
    network, task = scene.network, scene.reach("posted")
    network.chain.rpc("anvil_setBalance", [network.requester, "0x0"])
    task = network.draw(network.claim(task, network.free_node()))
    return scene.settle(network.accept(task), ALL, ALL)


def nobody_reports(scene: Scene) -> Ended:
    network, task = scene.network, scene.reach("admitted")
    network.mine_to(task.step_at + scene.blocks - 1)
    return task, network.send(network.requester, network.expire_call(task))


def payee_never_withdraws(scene: Scene) -> Ended:
    task, receipt = scene.finish(scene.reach("admitted"))
    scene.network.chain.mine(1000)
    scene.network.market.functions.withdraw().call({"from": task.executor})  # it is still there
    return task, receipt


PLAYS: Final[dict[str, Callable[[Scene], Ended]]] = {
    play.__name__.replace("_", "-"): play
    for play in (
        nobody_claims,
        leader_does_not_draw,
        nobody_draws,
        too_few_nodes,
        no_opening,
        no_opening_and_members_say_so,
        executor_brings_no_before,
        leader_accepts_and_stops,
        one_member_silent_before,
        two_members_silent_before,
        all_members_silent_before,
        executor_withholds_after_admit,
        one_member_silent_after,
        two_members_silent_after,
        all_members_silent_after,
        executor_leaves_a_vote_out,
        silent_member_signs_late,
        owner_gone,
        requester_gone,
        nobody_reports,
        payee_never_withdraws,
    )
}
