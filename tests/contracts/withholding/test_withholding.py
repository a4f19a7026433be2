"""Every row of `docs/withholding.md`, measured: balances, Deposits, reputation, blocks."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import pytest
from web3.logs import DISCARD
from web3.types import TxReceipt

from nodeclient.chain.presets import PRESETS
from tests.contracts.network import (
    CLAIM_WINDOW,
    CLASSES,
    DELAY,
    DRAW_WINDOW,
    EXECUTOR_FEE,
    MEMBER_FEE,
    NOBODY,
    POSTING_FEE,
    UNIT,
    Network,
    Task,
)
from tests.contracts.withholding import page
from tests.contracts.withholding.plays import CLASS, PLAYS, Scene

STATES: Final = {5: "SETTLED", 6: "FAILED", 7: "EXPIRED"}
EVIDENCE: Final = 65536  # of one settled task


@dataclass(frozen=True, slots=True)
class Standing:
    """What a table row speaks of, of one account."""

    owed: int
    deposit: int
    evidence: int

    @classmethod
    def of(cls, network: Network, account: str) -> Standing:
        """Of an account now."""
        good, bad, _ = network.reputation.functions.history(account).call()
        deposit = network.registry.functions.deposit(account).call()
        return cls(network.owed(account), deposit, good - bad)


def names_of(network: Network, task: Task | None = None) -> dict[str, int]:
    """What the names of the page stand for on the test network."""
    accept, admit, finish = CLASSES[CLASS]
    names = {
        "E": EXECUTOR_FEE, "M": MEMBER_FEE, "U": UNIT, "D": DELAY, "C": CLAIM_WINDOW,
        "W": DRAW_WINDOW, "accept": accept, "admit": admit, "finish": finish,
    }  # fmt: skip
    if task is not None:
        names |= {"k": task.committee_size, "e": network.entropy_block(task) - task.posted_at}
    return names


def blocks_of(network: Network, row: page.Row) -> int:
    """The blocks that the row names, for a task that will be posted in the next block."""
    if row.blocks == page.NOTHING:
        return 0
    posted_at = network.block + 1
    coming = Task(0, b"", NOBODY, posted_at, 0, 0, 3, CLASS)
    return int(page.value(row.blocks, names_of(network, coming)))


def ending(network: Network, task: Task, receipt: TxReceipt) -> str:
    """How the task ended, as the page says it."""
    failed: Any = network.market.events.TaskFailed().process_receipt(receipt, DISCARD)
    causes = [f" {event['args']['cause']}" for event in failed]
    return STATES[network.state(task)] + "".join(causes)


@pytest.mark.chain
@pytest.mark.parametrize("row", page.rows(), ids=lambda row: row.name)
def test_withholding__row_of_the_page__is_what_happens(network: Network, row: page.Row) -> None:
    accounts = [*network.nodes, network.requester, network.outsider]
    before = {account: Standing.of(network, account) for account in accounts}
    burned = network.market.functions.burned().call()
    scene = Scene(network, blocks_of(network, row))
    task, receipt = PLAYS[row.name](scene)
    after = {account: Standing.of(network, account) for account in accounts}
    names = names_of(network, task)

    assert ending(network, task, receipt) == row.ends
    if scene.blocks:
        start = task.step_at if task.members else task.posted_at
        assert receipt["blockNumber"] - start == scene.blocks
    assert network.market.functions.burned().call() - burned == POSTING_FEE

    def owed(account: str) -> int:
        return after[account].owed - before[account].owed

    def earned(account: str) -> Fraction:
        return Fraction(after[account].evidence - before[account].evidence, EVIDENCE)

    assert owed(network.requester) == page.value(row.requester, names)
    assert [owed(network.outsider)] == (page.values(row.reporter, names) or [0])
    executors = [task.executor] if task.executor != NOBODY else []
    assert [owed(one) for one in executors] == page.values(row.executor, names)
    assert [earned(one) for one in executors] == page.values(row.reputation, names)
    deposits = [after[one].deposit - before[one].deposit for one in executors]
    assert deposits == page.values(row.deposit, names)
    assert [owed(one) for one in task.members] == page.values(row.members, names)
    assert [earned(one) for one in task.members] == page.values(row.their_reputation, names)
    # whoever is not in the row: nothing happened to it
    others = set(accounts) - {network.requester, network.outsider, *executors, *task.members}
    assert all(after[other] == before[other] for other in others)


def test_withholding__rows_and_plays__are_the_same() -> None:
    assert [row.name for row in page.rows()] == list(PLAYS)


def test_withholding__longest_way_out__follows_from_the_parameters() -> None:
    columns = []
    for name in ("anvil", "mainnet"):
        preset = PRESETS[name]
        entropy = 2 * preset.entropy_delay + preset.claim_window + 2 * preset.lookahead + 1
        columns.append([entropy + preset.draw_window + sum(steps) + 1 for steps in preset.classes])
    expected = dict(enumerate(zip(*columns, strict=True)))
    assert page.longest() == expected
