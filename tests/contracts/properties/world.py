"""The market and its nodes beside a model of them in plain Python, and the invariants of both.

Each act decides from the model whether the contracts must allow it, does it, and books what it must
have changed. `check` then compares all of it with the chain. An act that the contracts allow and
the model does not, or the other way about, fails at once: so a missing guard is found by the act
itself, and money that goes astray by the comparison after it.

The names of the invariants stand in docs/invariants.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from web3.contract.contract import ContractFunction

from tests.contracts.network import POSTING_FEE, SPAN, UNBONDING, UNIT, Task
from tests.contracts.properties import adapter
from tests.contracts.properties.adapter import (
    ACCEPTED,
    ACTIVE,
    ADMITTED,
    BARRED,
    DRAWN,
    EXITED,
    EXITING,
    EXPIRED,
    FAILED,
    NONE,
    PAUSED,
    POSTED,
    SETTLED,
    STATES,
    Done,
    Quick,
    quorum,
)
from tests.contracts.signing import AFTER, BEFORE, DURING, NodeKeys

NOT_ADMITTED: Final = (DRAWN, ACCEPTED)
OPEN: Final = (POSTED, DRAWN, ACCEPTED, ADMITTED)
LIVE: Final = (ACTIVE, PAUSED, EXITING)
TOP_TIER: Final = 9
REWARD_BPS: Final = 500


@dataclass(slots=True)
class Node:
    """What must be true of a node; `standing` is its tier in the draw, None outside it."""

    label: str
    keys: NodeKeys
    status: int
    deposit: int
    standing: int | None
    exit_at: int = 0
    late: bool = False  # slashed while the draw stood still, not synced since


@dataclass(slots=True)
class Job:
    """A task and its state."""

    task: Task
    state: int
    proven: set[str] = field(default_factory=set)
    silent: set[int] = field(default_factory=set)  # seats that can still be excused


def tier_of(wei: int) -> int:
    """The naive tier: how often the Deposit holds twice the unit before."""
    tier = 0
    while tier < TOP_TIER and wei >= UNIT * 2 ** (tier + 1):
        tier += 1
    return tier


class World:
    """A network and its model. Every act returns True if the contracts allowed it."""

    def __init__(self, network: Quick) -> None:
        self.net = network
        self.nodes: dict[str, Node] = {}
        self.jobs: dict[int, Job] = {}
        self.owed: dict[str, int] = {network.requester: 0, network.outsider: 0}
        self.records: dict[tuple[int, int], tuple[int, bytes, int]] = {}
        self.forced = {"market": 0, "registry": 0, "reputation": 0, "attestation": 0}
        # accounts and task ids that the acts since the last comparison were about
        self.touched: set[str | int] = set()
        self.burned = 0
        self.postings = 0
        for number, units in enumerate(adapter.BASE_NODES):
            deposit = units * UNIT + UNIT // 2
            label = f"node {number}"
            keys = adapter.keys_of(label)
            self.nodes[keys.address] = Node(label, keys, ACTIVE, deposit, tier_of(deposit))
            self.owed[keys.address] = 0

    # --- how an act is judged -----------------------------------------------------------------

    def act(self, allowed: bool, sender: str, call: ContractFunction, value: int = 0) -> Done:
        """Send; fails if the contracts do not judge as the model does."""
        self.touched.add(sender)
        done = self.net.attempt(sender, call, value)
        if allowed:
            assert done.reason == "", f"{call.fn_name} was refused: {done.reason}"
        else:
            assert done.reason != "", f"{call.fn_name} was allowed"
            assert ": " in done.reason, f"{call.fn_name} was refused without a reason"
        return done

    def _frozen(self) -> bool:
        with self.net.next_block():
            return self.net.frozen_by() != 0

    def _moves(self, node: Node, status: int, deposit: int) -> bool:
        """Whether a change may be made: a node's place in the draw changes only when free."""
        wanted = tier_of(deposit) if status == ACTIVE else None
        return wanted == node.standing or not self._frozen()

    def _settle_place(self, node: Node) -> None:
        node.standing = tier_of(node.deposit) if node.status == ACTIVE else None
        node.late = False

    def _touch(self, job: Job) -> None:
        """What a step of a task may have changed."""
        task = job.task
        self.touched |= {task.id, task.requester, task.executor, *task.members}

    def _leads(self, account: str) -> bool:
        return any(job.state in OPEN and job.task.executor == account for job in self.jobs.values())

    # --- nodes --------------------------------------------------------------------------------

    def register(self, label: str, deposit: int, join: bool) -> bool:
        keys, call = self.net.enrol_call(label, join)
        old = self.nodes.get(keys.address)
        allowed = old is None or old.status in (NONE, EXITED)
        allowed = allowed and (not join or (deposit >= UNIT and not self._frozen()))
        former = old.keys if old else keys
        done = self.act(allowed, keys.address, call, deposit)
        if done.reason:
            self.net.nodes[keys.address] = former
            return False
        status = ACTIVE if join else PAUSED
        node = Node(label, keys, status, deposit, None)
        self._settle_place(node)
        self.nodes[keys.address] = node
        self.owed.setdefault(keys.address, 0)
        return True

    def top_up(self, node: Node, wei: int) -> bool:
        raised = node.deposit + wei
        allowed = node.status in (ACTIVE, PAUSED) and wei != 0
        allowed = allowed and self._moves(node, node.status, raised)
        call = self.net.node_call("top_up")
        if self.act(allowed, node.keys.address, call, wei).reason:
            return False
        node.deposit = raised
        self._settle_place(node)
        return True

    def pause(self, node: Node) -> bool:
        return self._turn(node, "pause", PAUSED, node.status == ACTIVE)

    def resume(self, node: Node) -> bool:
        return self._turn(node, "resume", ACTIVE, node.status == PAUSED and node.deposit >= UNIT)

    def exit(self, node: Node) -> bool:
        return self._turn(node, "exit", EXITING, node.status in (ACTIVE, PAUSED))

    def _turn(self, node: Node, name: str, status: int, allowed: bool) -> bool:
        allowed = allowed and self._moves(node, status, node.deposit)
        if self.act(allowed, node.keys.address, self.net.node_call(name)).reason:
            return False
        node.status = status
        node.exit_at = self.net.block + UNBONDING
        self._settle_place(node)
        return True

    def withdraw_deposit(self, node: Node) -> bool:
        account = node.keys.address
        allowed = (
            node.status in (EXITING, BARRED)
            and self.net.block + 1 >= node.exit_at
            and not self._leads(account)
            and (node.status == EXITING or node.deposit != 0)
            and self._moves(node, EXITED, 0)
        )
        before = self.net.balance(account)
        if self.act(allowed, account, self.net.node_call("withdraw_deposit")).reason:
            return False
        assert self.net.balance(account) - before == node.deposit
        assert not self._seated(account), "seats: a Deposit left before its task was over"
        if node.status == EXITING:
            node.status = EXITED
        node.deposit = 0
        self._settle_place(node)
        return True

    def rotate(self, node: Node, number: int) -> bool:
        keys, call = self.net.rotate_call(node.keys, number)
        if self.act(node.status in LIVE, node.keys.address, call).reason:
            return False
        node.keys = keys
        self.net.nodes[keys.address] = keys
        return True

    def sync(self, node: Node) -> bool:
        allowed = self._moves(node, node.status, node.deposit)
        self.touched.add(node.keys.address)
        call = self.net.node_call("sync", node.keys.address)
        if self.act(allowed, self.net.outsider, call).reason:
            return False
        self._settle_place(node)
        return True

    def _seated(self, account: str) -> list[int]:
        """Tasks whose deadline is not over and that the account executes or verifies."""
        return [
            job.task.id
            for job in self.jobs.values()
            if job.state in (DRAWN, ACCEPTED, ADMITTED)
            and account in (job.task.executor, *job.task.members)
            and self.net.block <= self.net.deadline(job.task, job.state)
        ]

    def _slash(self, account: str, wei: int, reporter: str) -> None:
        """Book a slash that a transaction of the latest block made."""
        node = self.nodes[account]
        if node.status in (NONE, EXITED):
            return
        taken = min(wei, node.deposit)
        node.deposit -= taken
        self.owed[reporter] += taken * REWARD_BPS // 10_000
        if node.deposit < UNIT and node.status != BARRED:
            if node.status != EXITING:
                node.exit_at = self.net.block + UNBONDING
            node.status = BARRED
        if self.net.frozen_by() == 0:
            self._settle_place(node)
        else:
            wanted = tier_of(node.deposit) if node.status == ACTIVE else None
            node.late = wanted != node.standing

    # --- tasks --------------------------------------------------------------------------------

    def post(self, k: int, class_id: int, fees: tuple[int, int]) -> Job:
        self.postings += 1
        call, task = self.net.posting(self.postings, k, class_id, fees)
        done = self.act(True, task.requester, call, POSTING_FEE + task.escrow)
        job = Job(self.net.posted(task, done.receipt), POSTED)
        assert job.task.id not in self.jobs
        self.jobs[job.task.id] = job
        self.burned += POSTING_FEE
        return job

    def post_again(self, pick: int) -> None:
        """A number that was used counts no second time."""
        if self.postings:
            call, task = self.net.posting(1 + pick % self.postings, 3, 0, (0, 0))
            self.act(False, task.requester, call, POSTING_FEE)

    def claim(self, job: Job, node: Node) -> bool:
        task, now = job.task, self.net.block + 1
        self._touch(job)
        if now <= task.posted_at + adapter.DELAY:
            return False  # the header that a claim needs is not there yet
        with self.net.next_block():
            ticket = self.net.ticket(task, node.keys)
        allowed = (
            job.state == POSTED
            and now <= self.net.last_claim(task)
            and ticket is not None
            and (task.executor == adapter.NOBODY or ticket < task.ticket)
        )
        assert ticket is None or not self._leads(node.keys.address), "one task at a time"
        assert ticket is None or node.status == ACTIVE
        done = self.act(allowed, node.keys.address, self.net.claim_call(task, node.keys))
        if not done.reason:
            job.task = self.net.fold(task, done.receipt)
            assert (job.task.executor, job.task.ticket) == (node.keys.address, ticket)
        return not done.reason

    def draw(self, job: Job, accept: bool = False, stranger: bool = False) -> bool:
        task, now = job.task, self.net.block + 1
        self._touch(job)
        at = self.net.entropy_block(task)
        if now <= at:
            return False
        led = job.state == POSTED and task.executor != adapter.NOBODY
        standing = {who for who, node in self.nodes.items() if node.standing is not None}
        enough = len(standing - {task.executor}) >= task.committee_size
        sender = self.net.outsider if stranger or not led else task.executor
        allowed = led and enough and now <= self.net.last_draw(task)
        allowed = allowed and not (accept and stranger)
        done = self.act(allowed, sender, self.net.draw_by_call(task, accept))
        if done.reason:
            return False
        job.task = self.net.fold(task, done.receipt)
        job.state = ACCEPTED if accept else DRAWN
        members = job.task.members
        assert len(set(members)) == task.committee_size
        assert set(members) <= standing - {task.executor}
        for member in members:
            node = self.nodes[member]
            assert node.status == ACTIVE or node.late, "a node out of service was drawn"
        return True

    def accept(self, job: Job, sender: str = "") -> bool:
        self._touch(job)
        allowed = self._in_time(job, ACCEPTED - 1) and sender in ("", job.task.executor)
        call = self.net.accept_call(job.task)
        done = self.act(allowed, sender or job.task.executor, call)
        return self._step(job, done, ACCEPTED)

    def admit(self, job: Job, seats: Sequence[int]) -> bool:
        return self._record(job, seats, ACCEPTED, BEFORE, ADMITTED)

    def finish(self, job: Job, seats: Sequence[int]) -> bool:
        if not self._record(job, seats, ADMITTED, AFTER, SETTLED):
            return False
        task = job.task
        self.owed[task.executor] += task.executor_fee
        for seat in seats:
            self.owed[task.members[seat]] += task.member_fee
        job.silent = set(range(task.committee_size)) - set(seats)
        silent = task.committee_size - len(seats)
        self.owed[task.requester] += silent * task.member_fee
        return True

    def _record(self, job: Job, seats: Sequence[int], state: int, phase: int, then: int) -> bool:
        self._touch(job)
        allowed = self._in_time(job, state) and len(seats) >= quorum(job.task.committee_size)
        call = self.net.record_call(job.task, phase, seats)
        return self._step(job, self.act(allowed, job.task.executor, call), then)

    def _in_time(self, job: Job, state: int) -> bool:
        return job.state == state and self.net.block + 1 <= self.net.deadline(job.task, state)

    def _step(self, job: Job, done: Done, then: int) -> bool:
        if done.reason:
            return False
        job.task, job.state = self.net.fold(job.task, done.receipt), then
        return True

    def refuse(self, job: Job, phase: int, seats: Sequence[int]) -> bool:
        self._touch(job)
        fits = phase == BEFORE if job.state in NOT_ADMITTED else phase in (DURING, AFTER)
        allowed = (
            job.state in (DRAWN, ACCEPTED, ADMITTED)
            and fits
            and len(seats) >= quorum(job.task.committee_size)
        )
        call = self.net.refuse_call(job.task, phase, seats)
        return self._fail(job, self.act(allowed, self.net.outsider, call), FAILED, UNIT)

    def expire(self, job: Job) -> bool:
        self._touch(job)
        allowed = job.state in OPEN and self.net.block + 1 > self.over_at(job)
        then = EXPIRED if job.state == POSTED else FAILED
        call = self.net.expire_call(job.task)
        return self._fail(job, self.act(allowed, self.net.outsider, call), then, UNIT // 4)

    def _fail(self, job: Job, done: Done, then: int, slashed: int) -> bool:
        if done.reason:
            return False
        admitted, job.state = job.state == ADMITTED, then
        job.task = self.net.fold(job.task, done.receipt)
        self.owed[job.task.requester] += job.task.escrow
        if admitted:
            self._slash(job.task.executor, slashed, self.net.outsider)
        return True

    def over_at(self, job: Job) -> int:
        """The last block in which the task can still go on without `expire`."""
        task = job.task
        if job.state != POSTED:
            return self.net.deadline(task, job.state)
        if task.executor == adapter.NOBODY:
            return self.net.last_claim(task)
        with self.net.next_block():
            possible = self.net.can_draw(task)
        return self.net.last_draw(task) if possible else self.net.entropy_block(task)

    def excuse(self, job: Job, seat: int) -> bool:
        """A silent member shows a vote: it gets some reputation back, and no money."""
        self._touch(job)
        over = self.net.block + 1 > job.task.step_at + SPAN
        allowed = job.state == SETTLED and seat in job.silent and not over
        before = self.net.reputation_of(job.task.members[seat])
        call = self.net.excuse_call(job.task, seat)
        if self.act(allowed, self.net.outsider, call).reason:
            return False
        assert self.net.reputation_of(job.task.members[seat]) >= before
        job.silent.discard(seat)
        return True

    def equivocate(self, job: Job, node: Node, headers: bool) -> bool:
        account, fault = node.keys.address, f"{node.keys.address} {headers}"
        self.touched.add(account)
        call = (
            self.net.double_header_call(job.task, node.keys)
            if headers
            else self.net.double_vote_call(job.task.id, node.keys)
        )
        allowed = fault not in job.proven
        if self.act(allowed, self.net.outsider, call).reason:
            return False
        job.proven.add(fault)
        self._slash(account, 2**255, self.net.outsider)
        return True

    # --- money and strangers ------------------------------------------------------------------

    def withdraw(self, account: str) -> bool:
        due, before = self.owed[account], self.net.balance(account)
        done = self.act(due != 0, account, self.net.withdraw_call())
        assert self.net.balance(account) - before == due
        if not done.reason:
            self.owed[account] = 0
        return not done.reason

    def force(self, contract: str, wei: int) -> None:
        """Wei that no function took in."""
        address = getattr(self.net, contract).address
        self.net.machine.set_balance(address, self.net.balance(address) + wei)
        self.forced[contract] += wei

    def meddle(self, sender: str, job: Job | None, node: str, which: int) -> None:
        """A call that belongs to another contract, by somebody else."""
        self.touched |= {node, *([job.task.id] if job else [])}
        calls = self.net.privileged_calls(job.task if job else None, node)
        self.act(False, sender, calls[which % len(calls)])

    def forge(self, job: Job, name: str) -> None:
        """A step of a task that is not the stored one: refused whatever is forged."""
        task = job.task
        forged = {
            "fee": replace(task, executor_fee=task.executor_fee + 1),
            "requester": replace(task, requester=self.net.outsider),
            "size": replace(task, committee_size=task.committee_size + 1),
            "class": replace(task, class_id=(task.class_id + 1) % 4),
            "step": replace(task, step_at=task.step_at - 1),
            "executor": replace(task, executor=self.net.outsider),
            "root": replace(task, root_x=task.root_x + 1),
        }[name]
        self.act(False, self.net.outsider, self.net.expire_call(forged))
        self.act(False, self.net.outsider, self.net.accept_call(forged))

    # --- what must hold after every step ------------------------------------------------------

    def check(self, whole: bool = True) -> None:
        """Compare with the chain: everything, or what was touched since the last comparison."""
        accounts = self.owed if whole else [who for who in self.owed if who in self.touched]
        jobs = [job for job in self.jobs.values() if whole or job.task.id in self.touched]
        self.touched = set()
        self._check_money(accounts)
        for account in accounts:
            if account in self.nodes:
                self._check_node(account, self.nodes[account])
        self._check_draw_structure(whole)
        for job in jobs:
            self._check_task(job)
        running = [job.task.executor for job in self.jobs.values() if job.state in OPEN]
        led = [account for account in running if account != adapter.NOBODY]
        assert len(led) == len(set(led)), "one task at a time"

    def _check_money(self, accounts: Iterable[str]) -> None:
        net = self.net
        for account in accounts:
            assert net.owed(account) == self.owed[account], f"owed to {account}"
        assert net.burned() == self.burned
        escrow = sum(job.task.escrow for job in self.jobs.values() if job.state in OPEN)
        market = escrow + sum(self.owed.values()) + self.burned + self.forced["market"]
        assert net.balance(net.market.address) == market, "escrow + owed + burned == balance"
        deposits = sum(node.deposit for node in self.nodes.values()) + self.forced["registry"]
        assert net.balance(net.registry.address) == deposits, "deposits == balance"

    def _check_node(self, account: str, node: Node) -> None:
        status, deposit, tier = self.net.standing_of(account)
        assert (status, deposit, tier) == (node.status, node.deposit, tier_of(node.deposit))
        assert self.net.engaged(account) == self._leads(account), "one task at a time"
        reputation = self.net.reputation_of(account)
        assert 0 <= reputation <= 10_000
        factor = self.net.factor(account, max(1, self.net.block - 5))
        assert 5_000 <= factor <= 5_000 + reputation

    def _check_draw_structure(self, whole: bool) -> None:
        standing = {who: node.standing for who, node in self.nodes.items()}
        naive = {who: tier for who, tier in standing.items() if tier is not None}
        assert self.net.total_weight() == sum(2**tier for tier in naive.values())
        assert self.net.drawable() == len(naive)
        if whole and 0 < len(naive) <= 11:
            seed = self.net.block.to_bytes(32, "big")
            assert sorted(self.net.drawn_by(seed, len(naive))) == sorted(naive)

    def _check_task(self, job: Job) -> None:
        state = self.net.task_state(job.task)
        assert state == job.state, f"{STATES[state]} is not {STATES[job.state]}"
        for phase in (BEFORE, DURING, AFTER):
            record = self.net.record(job.task, phase)
            known = self.records.get((job.task.id, phase))
            assert known is None or record == known, "records never change"
            if record[0] != 0:
                self.records[job.task.id, phase] = record

    # --- everybody falls silent ---------------------------------------------------------------

    def fall_silent(self) -> None:
        """Nobody does anything but take out what is theirs: nothing remains but what is burned."""
        for job in self.jobs.values():
            if job.state in OPEN:
                self.net.mine_to(self.over_at(job))
                assert self.expire(job), "no state keeps money beyond its deadline"
        for account, wei in self.owed.items():
            if wei:
                assert self.withdraw(account)
        for node in self.nodes.values():
            if node.status in (ACTIVE, PAUSED):
                assert self.exit(node)
        self.net.machine.mine(UNBONDING)
        for node in self.nodes.values():
            if node.status == EXITING or (node.status == BARRED and node.deposit):
                assert self.withdraw_deposit(node)
        self.check()
        net = self.net
        assert net.balance(net.market.address) == self.burned + self.forced["market"]
        assert net.balance(net.registry.address) == self.forced["registry"]
