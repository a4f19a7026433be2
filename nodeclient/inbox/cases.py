"""Which Task a question is about, and whether the asker has a part in it."""

from __future__ import annotations

from agent.formats.taskspec import TaskSpec
from nodeclient.core.case import Case
from nodeclient.core.types import Address, Commitment
from nodeclient.duties.services import Services
from nodeclient.p2p.errors import PeerRefused
from nodeclient.runner import RefusedByPeer


class Cases:
    """The Cases of this Node, for those who may ask about them."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def case(self, committed: bytes) -> Case:
        """The Case of a posted task. Raises RefusedByPeer."""
        case = self._services.store.case(Commitment(committed))
        if case is None or case.task is None:
            raise RefusedByPeer("this node knows no such task", "wait until it is posted")
        return case

    def case_with(self, sender: Address, committed: bytes) -> Case:
        """The Case of a task that runs here, in which the sender has a part."""
        case = self.case(committed)
        if sender not in (*owners_and_requester(self.spec_of(case)), *case.members):
            raise PeerRefused("the sender has no part in this task", "ask as member or owner")
        return case

    def spec_of(self, case: Case) -> TaskSpec:
        """What this Node runs as the executor of a Case. Raises PeerRefused."""
        role = case.executor
        if role is None or not role.spec:
            raise PeerRefused("this node does not execute the task", "ask its executor")
        return TaskSpec.decode(role.spec)


def owners_and_requester(spec: TaskSpec) -> tuple[Address, ...]:
    """Who may put a question to the Machine before it gives a key away."""
    owners = {item.owner for item in spec.inputs} | {spec.function.owner, spec.requester}
    return tuple(Address(owner) for owner in sorted(owners))
