"""Arbitrary sequences of acts, right and wrong ones, with the invariants after each of them."""

from __future__ import annotations

from functools import cache

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.contracts.inprocess import ACCOUNTS, Point
from tests.contracts.network import UNIT
from tests.contracts.properties import adapter
from tests.contracts.properties.adapter import (
    ACTIVE,
    BARRED,
    EXITING,
    PAUSED,
    SETTLED,
    Quick,
    seats_of,
)
from tests.contracts.properties.world import (
    ACCEPTED,
    ADMITTED,
    DRAWN,
    OPEN,
    POSTED,
    Job,
    Node,
    World,
)

SMALL = st.integers(0, 50)
SIZES = st.sampled_from((3, 3, 3, 4, 5, 6))
FEES = st.tuples(
    st.sampled_from((0, 1, 5 * 10**15, 2**96 - 1)), st.sampled_from((0, 1, 10**15, 10**18))
)
FORGED = ("fee", "requester", "size", "class", "step", "executor")
DEPOSITS = st.sampled_from((0, 1, UNIT - 1, UNIT, UNIT + UNIT // 4, 3 * UNIT, 600 * UNIT))


@cache
def base() -> Quick:
    """The network that every run starts from; one for the process."""
    return adapter.deployed()


class Market(RuleBasedStateMachine):
    """The rules; `World` knows what each of them must do."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World
        self.start: Point
        self.steps = 0

    @initialize(stages=st.lists(st.integers(0, 5), min_size=1, max_size=3), k=SIZES)
    def begin(self, stages: list[int], k: int) -> None:
        """Tasks that have come some way already: arbitrary acts alone seldom come so far."""
        network = base()
        network.nodes = {
            keys.address: keys
            for keys in (adapter.keys_of(f"node {i}") for i in range(len(adapter.BASE_NODES)))
        }
        self.start = network.machine.snapshot()
        network.machine.set_balance(network.requester, 2**128)
        self.world = World(network)
        jobs = [self.world.post(k, 3, (5 * 10**15, 10**15)) for _ in stages]
        nodes = list(self.world.nodes.values())
        for job, node, stage in zip(jobs, nodes, stages, strict=False):
            if stage >= 1:
                network.mine_to(job.task.posted_at + adapter.DELAY)
                self.world.claim(job, node)
        for job, stage in zip(jobs, stages, strict=True):
            if stage >= 2:
                network.mine_to(network.entropy_block(job.task))
                self.world.draw(job)
            for _ in range(stage - 2):
                self._go_on(job)

    def teardown(self) -> None:
        if hasattr(self, "start"):
            try:
                self.world.fall_silent()
            finally:
                self.world.net.machine.revert(self.start)

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "world"):
            self.steps += 1
            # what the last acts touched, and now and then everything
            self.world.check(whole=self.steps % 16 == 0)

    # --- picking ------------------------------------------------------------------------------

    def _job(self, pick: int, *states: int) -> Job | None:
        """A task in one of the states; any task if there is none of them."""
        jobs = list(self.world.jobs.values())
        fitting = [job for job in jobs if job.state in states] or jobs
        return fitting[pick % len(fitting)] if fitting else None

    def _node(self, pick: int, *states: int) -> Node:
        nodes = list(self.world.nodes.values())
        fitting = [node for node in nodes if node.status in states] or nodes
        return fitting[pick % len(fitting)]

    def _any_account(self, pick: int) -> str:
        return list(self.world.owed)[pick % len(self.world.owed)]

    # --- tasks --------------------------------------------------------------------------------

    @rule(k=st.sampled_from((3, 3, 4, 5, 7, 11)), class_id=st.integers(0, 3), fees=FEES)
    def post(self, k: int, class_id: int, fees: tuple[int, int]) -> None:
        self.world.post(k, class_id, fees)

    @rule(pick=SMALL, node=SMALL, wait=st.booleans())
    def claim(self, pick: int, node: int, wait: bool) -> None:
        job = self._job(pick, POSTED)
        if job is not None:
            if wait and job.state == POSTED:
                self.world.net.mine_to(job.task.posted_at + adapter.DELAY)
            self.world.claim(job, self._node(node, ACTIVE))

    @rule(pick=SMALL, node=SMALL, wait=st.booleans())
    def race(self, pick: int, node: int, wait: bool) -> None:
        """Claim and draw in one go, so that runs come beyond the race often."""
        job = self._job(pick, POSTED)
        if job is None or job.state != POSTED:
            return
        self.world.net.mine_to(job.task.posted_at + adapter.DELAY)
        self.world.claim(job, self._node(node, ACTIVE))
        if wait and job.task.executor != adapter.NOBODY:
            self.world.net.mine_to(self.world.net.entropy_block(job.task))
            self.world.draw(job)

    @rule(pick=SMALL, accept=st.booleans(), stranger=st.booleans())
    def draw(self, pick: int, accept: bool, stranger: bool) -> None:
        job = self._job(pick, POSTED)
        if job is not None:
            self.world.draw(job, accept, stranger)

    @rule(pick=SMALL, seat=SMALL)
    def excuse(self, pick: int, seat: int) -> None:
        job = self._job(pick, SETTLED)
        if job is not None and job.task.members:
            self.world.excuse(job, seat % job.task.committee_size)

    @rule(pick=SMALL, stranger=st.booleans())
    def accept(self, pick: int, stranger: bool) -> None:
        job = self._job(pick, DRAWN)
        if job is not None and job.state != POSTED:
            self.world.accept(job, self.world.net.outsider if stranger else "")

    @rule(pick=SMALL, seats=st.lists(SMALL, min_size=1, max_size=11), full=st.booleans())
    def admit(self, pick: int, seats: list[int], full: bool) -> None:
        job = self._job(pick, ACCEPTED)
        if job is not None and job.task.members:
            self.world.admit(job, self._seats(job, seats, full))

    @rule(pick=SMALL, seats=st.lists(SMALL, min_size=1, max_size=11), full=st.booleans())
    def finish(self, pick: int, seats: list[int], full: bool) -> None:
        job = self._job(pick, ADMITTED)
        if job is not None and job.task.members:
            self.world.finish(job, self._seats(job, seats, full))

    @rule(
        pick=SMALL,
        phase=st.integers(0, 4),
        seats=st.lists(SMALL, min_size=1, max_size=11),
        full=st.booleans(),
    )
    def refuse(self, pick: int, phase: int, seats: list[int], full: bool) -> None:
        job = self._job(pick, DRAWN, ACCEPTED, ADMITTED)
        if job is not None and job.task.members:
            self.world.refuse(job, phase, self._seats(job, seats, full))

    @rule(pick=SMALL, steps=st.integers(1, 3))
    def run(self, pick: int, steps: int) -> None:
        """The next honest step of a task, some of them at once."""
        job = self._job(pick, DRAWN, ACCEPTED, ADMITTED)
        for _ in range(steps if job is not None else 0):
            assert job is not None
            self._go_on(job)

    def _go_on(self, job: Job) -> None:
        everyone = list(range(job.task.committee_size))
        if job.state == DRAWN:
            self.world.accept(job)
        elif job.state == ACCEPTED:
            self.world.admit(job, everyone)
        elif job.state == ADMITTED:
            self.world.finish(job, everyone)

    @rule(pick=SMALL, wait=st.booleans())
    def expire(self, pick: int, wait: bool) -> None:
        job = self._job(pick, *OPEN)
        if job is not None:
            if wait and job.state in OPEN:
                self.world.net.mine_to(self.world.over_at(job))
            self.world.expire(job)

    def _seats(self, job: Job, numbers: list[int], full: bool) -> list[int]:
        k = job.task.committee_size
        return list(range(k)) if full else seats_of(numbers, k)

    # --- nodes --------------------------------------------------------------------------------

    @rule(number=st.integers(0, 11), deposit=DEPOSITS, join=st.booleans())
    def register(self, number: int, deposit: int, join: bool) -> None:
        self.world.register(f"node {number}", deposit, join)

    @rule(
        pick=SMALL,
        name=st.sampled_from(("pause", "resume", "exit", "top_up", "rotate", "sync", "leave")),
        wei=DEPOSITS,
        wait=st.booleans(),
    )
    def node_acts(self, pick: int, name: str, wei: int, wait: bool) -> None:
        if name == "top_up":
            self.world.top_up(self._node(pick), wei)
        elif name == "rotate":
            self.world.rotate(self._node(pick), pick)
        elif name == "leave":
            node = self._node(pick, EXITING, BARRED)
            if wait and node.status in (EXITING, BARRED):
                self.world.net.mine_to(node.exit_at - 1)
            self.world.withdraw_deposit(node)
        else:
            fitting = {"pause": ACTIVE, "resume": PAUSED, "exit": ACTIVE, "sync": BARRED}[name]
            getattr(self.world, name)(self._node(pick, fitting))

    # --- money, time, strangers ---------------------------------------------------------------

    @rule(pick=SMALL)
    def withdraw(self, pick: int) -> None:
        self.world.withdraw(self._any_account(pick))

    @rule(blocks=st.sampled_from((1, 1, 2, 5, 13, 25, 80)))
    def time_passes(self, blocks: int) -> None:
        self.world.net.machine.mine(blocks)

    @rule(pick=SMALL, node=SMALL, headers=st.booleans())
    def equivocate(self, pick: int, node: int, headers: bool) -> None:
        job = self._job(pick)
        if job is not None:
            self.world.equivocate(job, self._node(node), headers)

    @rule(
        what=st.sampled_from(("meddle", "meddle", "forge", "force", "again", "advance")),
        sender=SMALL,
        pick=SMALL,
        which=SMALL,
    )
    def strangers(self, what: str, sender: int, pick: int, which: int) -> None:
        senders, job = [*ACCOUNTS, *self.world.nodes], self._job(pick)
        if what == "meddle":
            who = self._node(pick).keys.address
            self.world.meddle(senders[sender % len(senders)], job, who, which)
        elif what == "forge" and job is not None:
            self.world.forge(job, FORGED[which % len(FORGED)])
        elif what == "again":
            self.world.post_again(pick)
        elif what == "force":
            names = list(self.world.forced)
            self.world.force(names[which % len(names)], 10**18 + which)
        else:
            self.world.act(True, self.world.net.outsider, self.world.net.advance_call())
