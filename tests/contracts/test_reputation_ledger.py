"""Reputation and credit on titanoboa; the market is a contract account that calls as itself."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import boa
import pytest
from eth_utils import keccak

from tests.contracts.anvil import ROOT

HALF_LIFE: Final = 1000
SPAN: Final = 20
NEWCOMER: Final = 1000
START: Final = 22_345_680  # as high as on a real chain; the first block of a span


@dataclass
class Setting:
    ledger: Any
    market: str
    attestation: str
    registry: str

    def as_market(self) -> Any:
        return boa.env.prank(self.market)


@pytest.fixture(scope="module")
def deployed() -> Setting:
    names = ("registry", "attestation", "market")
    registry, attestation, market = (boa.env.generate_address(name) for name in names)
    ledger = boa.load(
        str(ROOT / "contracts" / "ReputationLedger.vy"),
        *(HALF_LIFE, SPAN, registry, attestation, market),
    )
    return Setting(ledger, market, attestation, registry)


@pytest.fixture
def setting(deployed: Setting) -> Iterator[Setting]:
    with boa.env.anchor():
        boa.env.evm.patch.block_number = START
        yield deployed


def node(number: int) -> str:
    return f"0x{0xA0000 + number:040X}"


def settle(setting: Setting, voted: int = 0b111, fee: int = 100, member_fee: int = 7) -> None:
    with setting.as_market():
        setting.ledger.settle(1, node(0), fee, [node(1), node(2), node(3)], voted, member_fee)


def pass_blocks(number: int) -> None:
    boa.env.evm.patch.block_number += number


def test_reputation__newcomer__ten_percent(setting: Setting) -> None:
    assert setting.ledger.reputation(node(0)) == NEWCOMER
    assert setting.ledger.factor_at(node(0), START - 1) == 5000 + NEWCOMER


def test_settle__all_voted__credits_and_raises(setting: Setting) -> None:
    settle(setting)
    assert [setting.ledger.credit(node(i)) for i in range(4)] == [100, 7, 7, 7]
    assert setting.ledger.reputation(node(0)) == (1 + 1) * 10000 // 11
    assert setting.ledger.reputation(node(1)) == 10000 * 5 // 41


def test_settle__silent_member__unpaid_and_lower(setting: Setting) -> None:
    settle(setting, voted=0b101)
    assert setting.ledger.credit(node(2)) == 0
    assert setting.ledger.reputation(node(2)) < NEWCOMER


def test_settle__forty_tasks__needs_long_to_earn(setting: Setting) -> None:
    for _ in range(8):
        settle(setting)
    assert setting.ledger.reputation(node(0)) == 5000
    for _ in range(72):
        settle(setting)
    assert setting.ledger.reputation(node(0)) == 9000


def test_collect__twice__second_time_nothing(setting: Setting) -> None:
    settle(setting)
    with setting.as_market():
        assert setting.ledger.collect(node(0)) == 100
        assert setting.ledger.collect(node(0)) == 0
    assert setting.ledger.reputation(node(0)) > NEWCOMER


def test_decay__one_half_life__evidence_is_halved(setting: Setting) -> None:
    settle(setting)
    pass_blocks(HALF_LIFE)
    assert setting.ledger.reputation(node(0)) == int(1.5 * 10000 / 10.5)
    pass_blocks(HALF_LIFE * 100)
    assert setting.ledger.reputation(node(0)) == NEWCOMER


def test_penalise__each_cause__lowers_by_its_weight(setting: Setting) -> None:
    found = []
    for cause in (3, 4, 5, 6, 7, 8, 9):
        with setting.as_market():
            setting.ledger.penalise(1, node(cause), cause)
        found.append(setting.ledger.reputation(node(cause)))
    bad = [0.25, 0.5, 1, 4, 8, 64, 0.25]
    stored = [setting.ledger.history(node(cause)) for cause in (3, 4, 5, 6, 7, 8, 9)]
    assert stored == [(0, int(weight * 65536), START) for weight in bad]
    assert found == [int(10000 / (10 + weight)) for weight in bad]


def test_engage__gain_after_posting__does_not_count(setting: Setting) -> None:
    posted_at = boa.env.evm.patch.block_number
    pass_blocks(1)
    settle(setting)
    with setting.as_market():
        assert setting.ledger.engage(node(0), posted_at) == 5000 + NEWCOMER


def test_engage__gain_before_posting__counts(setting: Setting) -> None:
    settle(setting)
    pass_blocks(1)
    posted_at = boa.env.evm.patch.block_number
    pass_blocks(3)
    with setting.as_market():
        assert setting.ledger.engage(node(0), posted_at) > 5000 + NEWCOMER


def test_factor_at__loss_after_posting__counts_at_once(setting: Setting) -> None:
    posted_at = boa.env.evm.patch.block_number
    pass_blocks(1)
    with setting.as_market():
        setting.ledger.penalise(1, node(0), 8)
    assert setting.ledger.factor_at(node(0), posted_at) < 5000 + NEWCOMER


def test_factor_at__any_history__never_above_the_past_or_the_present(setting: Setting) -> None:
    rng = random.Random(11)
    past: dict[int, int] = {}
    tight = 0
    for _ in range(100):
        pass_blocks(rng.choice([1, 1, 2, 5, 30]))
        now = boa.env.evm.patch.block_number
        past[now] = setting.ledger.reputation(node(0))  # before this block's change
        with setting.as_market():
            if rng.random() < 0.7:
                setting.ledger.settle(1, node(0), 1, [], 0, 1)
            else:
                setting.ledger.penalise(1, node(0), rng.choice([3, 4, 5, 6]))
        present = setting.ledger.reputation(node(0))
        for number, then in past.items():
            if now - number <= SPAN:
                factor = setting.ledger.factor_at(node(0), number) - 5000
                assert factor <= min(then, present)
                tight += factor == min(then, present)
    assert tight > 40  # a bound, and not just the floor


def test_engage__twice__reverts_until_released(setting: Setting) -> None:
    with setting.as_market():
        setting.ledger.engage(node(0), START - 1)
        with boa.reverts("reputation: node is engaged"):
            setting.ledger.engage(node(0), START - 1)
        setting.ledger.release(node(0))
        assert not setting.ledger.engaged(node(0))
        setting.ledger.engage(node(0), START - 1)


def test_settle__executor_engaged_member_engaged__only_the_executor_is_released(
    setting: Setting,
) -> None:
    with setting.as_market():
        setting.ledger.engage(node(0), START - 1)
        setting.ledger.engage(node(1), START - 1)
    settle(setting)
    assert not setting.ledger.engaged(node(0))
    assert setting.ledger.engaged(node(1))


def test_open__again_by_a_known_node__keeps_the_history(setting: Setting) -> None:
    settle(setting)
    before = setting.ledger.history(node(0))
    with boa.env.prank(setting.registry):
        setting.ledger.open(node(0))
        setting.ledger.open(node(9))
    assert setting.ledger.history(node(0)) == before
    assert setting.ledger.reputation(node(9)) == NEWCOMER


def test_open__new_node__counts_as_a_newcomer_in_this_span_and_the_last(setting: Setting) -> None:
    with boa.env.prank(setting.registry):
        setting.ledger.open(node(9))
    assert setting.ledger.history(node(9)) == (0, 0, START)
    factors = [setting.ledger.factor_at(node(9), START - back) for back in (0, 1, SPAN, SPAN + 1)]
    assert factors == [5000 + NEWCOMER] * 3 + [5000]


def test_change__new_node_in_its_first_span__what_it_was_before_stays_the_bound(
    setting: Setting,
) -> None:
    with boa.env.prank(setting.registry):
        setting.ledger.open(node(0))
    for _ in range(2):
        settle(setting)
        factors = [setting.ledger.factor_at(node(0), START - back) for back in (0, 1)]
        assert factors == [5000 + NEWCOMER] * 2


def test_change__first_blocks_of_a_chain__newcomer_before_it(setting: Setting) -> None:
    boa.env.evm.patch.block_number = SPAN + 1  # a slot without a change reads as block 0
    settle(setting)
    assert setting.ledger.factor_at(node(0), SPAN + 1) == 5000 + NEWCOMER
    assert setting.ledger.factor_at(node(0), SPAN - 1) == 5000 + NEWCOMER


@pytest.mark.parametrize(
    ("call", "arguments", "reason"),
    [
        ("settle", (1, "0x" + "11" * 20, 1, [], 0, 1), "reputation: only the market"),
        ("penalise", (1, "0x" + "11" * 20, 4), "reputation: only market and ledger"),
        ("collect", ("0x" + "11" * 20,), "reputation: only the market"),
        ("engage", ("0x" + "11" * 20, 1), "reputation: only the market"),
        ("release", ("0x" + "11" * 20,), "reputation: only the market"),
        ("open", ("0x" + "11" * 20,), "reputation: only the registry"),
    ],
)
def test_call__outsider__reverts(
    setting: Setting, call: str, arguments: tuple[Any, ...], reason: str
) -> None:
    with boa.env.prank(boa.env.generate_address("outsider")), boa.reverts(reason):
        getattr(setting.ledger, call)(*arguments)


@pytest.mark.parametrize("cause", [0, 1, 2, 10])
def test_penalise__not_a_fault__reverts(setting: Setting, cause: int) -> None:
    with setting.as_market(), boa.reverts("reputation: not a fault"):
        setting.ledger.penalise(1, node(0), cause)


def test_excuse__outsider_and_market__revert(setting: Setting) -> None:
    settle(setting, voted=0b011)
    for caller in (setting.market, setting.registry, node(3)):
        with boa.env.prank(caller), boa.reverts("reputation: only the attestation ledger"):
            setting.ledger.excuse(1, [node(1), node(2), node(3)], 2)


def test_excuse__later__takes_back_what_is_left_of_the_silence_and_no_more(
    setting: Setting,
) -> None:
    members = [node(1), node(2), node(3)]
    with setting.as_market():
        setting.ledger.penalise(7, node(3), 4)
    settle(setting, voted=0b011)
    pass_blocks(SPAN)
    with boa.env.prank(setting.attestation):
        setting.ledger.excuse(1, members, 2)
    _, bad, _ = setting.ledger.history(node(3))
    only_the_fault = 32768 * (2 * HALF_LIFE - SPAN) // (2 * HALF_LIFE)
    assert only_the_fault - 2 <= bad <= only_the_fault + 2


@pytest.mark.parametrize("odd", [0, 1])
def test_excuse__first_seat_alone_was_silent__once_whatever_the_block(
    setting: Setting, odd: int
) -> None:
    pass_blocks((boa.env.evm.patch.block_number + odd) % 2)
    settle(setting, voted=0b110)
    members = [node(1), node(2), node(3)]
    with boa.env.prank(setting.attestation):
        setting.ledger.excuse(1, members, 0)
        with boa.reverts("reputation: seat was not silent"):
            setting.ledger.excuse(1, members, 0)


def test_excuse__gain_after_posting__does_not_count_for_the_ticket(setting: Setting) -> None:
    settle(setting, voted=0b011)
    pass_blocks(1)
    posted_at = boa.env.evm.patch.block_number
    low = setting.ledger.reputation(node(3))
    pass_blocks(1)
    with boa.env.prank(setting.attestation):
        setting.ledger.excuse(1, [node(1), node(2), node(3)], 2)
    assert setting.ledger.reputation(node(3)) > low
    assert setting.ledger.factor_at(node(3), posted_at) <= 5000 + low


# --- one slot holds all -------------------------------------------------------------------------

LARGEST: Final = 2**32 - 1


def put(setting: Setting, who: str, **fields: int) -> None:
    """Write a slot: what years of tasks lead to."""
    at = {"good": 0, "bad": 32, "updated_at": 64, "last": 104, "this": 120, "engaged": 136}
    word = sum(value << (at | {"credit": 144})[name] for name, value in fields.items())
    slot = keccak(bytes(32) + int(who, 16).to_bytes(32, "big"))  # `slots` is the first variable
    boa.env.set_storage(setting.ledger.address, int.from_bytes(slot), word)


def test_settle__evidence_and_credit__exact_beside_each_other(setting: Setting) -> None:
    now = boa.env.evm.patch.block_number
    settle(setting, voted=0b101)
    assert setting.ledger.history(node(0)) == (65536, 0, now)
    assert setting.ledger.history(node(1)) == (16384, 0, now)
    assert setting.ledger.history(node(2)) == (0, 16384, now)
    pass_blocks(HALF_LIFE // 4)
    settle(setting, voted=0b110)
    later = now + HALF_LIFE // 4
    assert setting.ledger.history(node(0)) == (65536 * 7 // 8 + 65536, 0, later)
    assert setting.ledger.history(node(1)) == (16384 * 7 // 8, 16384, later)
    assert setting.ledger.history(node(2)) == (16384, 16384 * 7 // 8, later)
    assert [setting.ledger.credit(node(i)) for i in range(4)] == [200, 7, 7, 14]


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (0, 0),
        (74385, 127615),
        (890933, 514620),
        (265010, 136027),
        (127684, 20031),
        (93444, 129538),
        (106478, 32317),
    ],
)
def test_reputation__evidence__mean_with_one_success_in_ten_to_the_basis_point(
    setting: Setting, good: int, bad: int
) -> None:
    now = boa.env.evm.patch.block_number
    put(setting, node(1), good=good, bad=bad, updated_at=now)
    exact = (65536 + good) * 10000 // (10 * 65536 + good + bad)
    assert setting.ledger.reputation(node(1)) == exact


@pytest.mark.parametrize("cause", [2, 4])
def test_change__most_evidence_that_fits__stays_there(setting: Setting, cause: int) -> None:
    now = boa.env.evm.patch.block_number
    put(setting, node(1), good=LARGEST - 1, bad=LARGEST - 1, updated_at=now, credit=5)
    with setting.as_market():
        if cause == 2:
            setting.ledger.settle(1, node(0), 0, [node(1)], 1, 1)
        else:
            setting.ledger.penalise(1, node(1), cause)
    full = (LARGEST, LARGEST - 1) if cause == 2 else (LARGEST - 1, LARGEST)
    assert setting.ledger.history(node(1)) == (*full, now)
    assert setting.ledger.credit(node(1)) == (6 if cause == 2 else 5)


def test_settle__credit_of_113_bits__reverts(setting: Setting) -> None:
    settle(setting, fee=2**112 - 2)
    settle(setting, fee=1)
    assert setting.ledger.credit(node(0)) == 2**112 - 1
    assert setting.ledger.history(node(0))[0] == 2 * 65536
    with boa.reverts("reputation: credit too large"):
        settle(setting, fee=1)


def test_collect__engaged_node__keeps_all_but_the_credit(setting: Setting) -> None:
    settle(setting)
    before = setting.ledger.history(node(0))
    with setting.as_market():
        setting.ledger.engage(node(0), boa.env.evm.patch.block_number)
        assert setting.ledger.collect(node(0)) == 100
    assert setting.ledger.history(node(0)) == before
    assert setting.ledger.engaged(node(0))
    assert setting.ledger.credit(node(0)) == 0


def test_collect__one_wei_in_a_full_slot__paid_once_and_the_rest_stays(setting: Setting) -> None:
    full = {"good": LARGEST, "bad": LARGEST, "updated_at": 2**40 - 1}
    put(setting, node(1), **full, last=65535, this=65535, engaged=1, credit=1)
    with setting.as_market():
        assert [setting.ledger.collect(node(1)) for _ in range(2)] == [1, 0]
    assert setting.ledger.history(node(1)) == (LARGEST, LARGEST, 2**40 - 1)
    assert setting.ledger.engaged(node(1))


def faded(evidence: int, elapsed: int) -> int:
    """Evidence after less than a half-life."""
    return evidence * (2 * HALF_LIFE - elapsed) // (2 * HALF_LIFE)


@pytest.mark.parametrize("elapsed", [0, 1, HALF_LIFE - 1, HALF_LIFE - 2])
def test_slot__neighbours_full__each_field_is_read_alone(setting: Setting, elapsed: int) -> None:
    good, bad, then = 2**31 + 1, 2**30 + 1, START - elapsed
    around = {"last": 65535, "this": 65535, "engaged": 1, "credit": 2**111 + 1}
    put(setting, node(1), good=good, bad=bad, updated_at=then, **around)
    good_now, bad_now = faded(good, elapsed), faded(bad, elapsed)
    mean = (65536 + good_now) * 10000 // (10 * 65536 + good_now + bad_now)
    ledger = setting.ledger
    assert ledger.reputation(node(1)) == mean
    assert ledger.factor_at(node(1), START) == 5000 + mean
    with setting.as_market():
        ledger.penalise(1, node(1), 4)
    assert ledger.history(node(1)) == (good_now, bad_now + 32768, START)
    assert (ledger.engaged(node(1)), ledger.credit(node(1))) == (True, 2**111 + 1)


def test_release__credit_and_history__stay(setting: Setting) -> None:
    settle(setting)
    before = setting.ledger.history(node(0))
    with setting.as_market():
        setting.ledger.engage(node(0), boa.env.evm.patch.block_number)
        setting.ledger.release(node(0))
    assert (setting.ledger.history(node(0)), setting.ledger.credit(node(0))) == (before, 100)
    assert not setting.ledger.engaged(node(0))


def test_factor_at__previous_span__its_lowest_and_before_it_the_floor(setting: Setting) -> None:
    first = boa.env.evm.patch.block_number  # the first of its span
    assert first % SPAN == 0
    settle(setting)
    low = int(1.99 * 10000 / 10.99)  # one task, a fiftieth of a half-life later
    pass_blocks(SPAN)
    settle(setting)  # the previous span began with a newcomer
    assert setting.ledger.factor_at(node(0), first + SPAN) == 5000 + low
    assert setting.ledger.factor_at(node(0), first) == 5000 + NEWCOMER
    assert setting.ledger.factor_at(node(0), first - 1) == 5000
    pass_blocks(SPAN)
    settle(setting)
    assert setting.ledger.factor_at(node(0), first + SPAN) == 5000 + low
    assert setting.ledger.factor_at(node(0), first + SPAN - 1) == 5000
    pass_blocks(2 * SPAN)
    settle(setting)
    # a span without a change: what stood all the time
    assert setting.ledger.factor_at(node(0), first + 4 * SPAN - 1) > 5000 + low


def test_excuse__twice_or_another_seat__reverts(setting: Setting) -> None:
    members = [node(1), node(2), node(3)]
    settle(setting, voted=0b010)
    with boa.env.prank(setting.attestation):
        setting.ledger.excuse(1, members, 2)
        for seat in (1, 2):
            with boa.reverts("reputation: seat was not silent"):
                setting.ledger.excuse(1, members, seat)
        with boa.reverts("reputation: not the committee"):
            setting.ledger.excuse(1, members[:2], 0)
        with boa.reverts("reputation: seat was not silent"):
            setting.ledger.excuse(2, members, 0)
        setting.ledger.excuse(1, members, 0)
    assert setting.ledger.history(node(1))[1] == setting.ledger.history(node(3))[1] == 0


def test_parameters__what_it_was_created_with(setting: Setting) -> None:
    ledger = setting.ledger
    assert (ledger.half_life(), ledger.window()) == (HALF_LIFE, SPAN)
    neighbours = (ledger.registry(), ledger.attestation(), ledger.market())
    assert neighbours == (setting.registry, setting.attestation, setting.market)


@pytest.mark.parametrize(
    ("field", "bits", "read"),
    [
        ("good", 32, (LARGEST, 0, 0, False, 0)),
        ("bad", 32, (0, LARGEST, 0, False, 0)),
        ("updated_at", 40, (0, 0, 2**40 - 1, False, 0)),
        ("last", 16, (0, 0, 0, False, 0)),
        ("this", 16, (0, 0, 0, False, 0)),
        ("engaged", 1, (0, 0, 0, True, 0)),
        ("credit", 112, (0, 0, 0, False, 2**112 - 1)),
    ],
)
def test_slot__one_field_full__no_other_sees_it(
    setting: Setting, field: str, bits: int, read: tuple[int, ...]
) -> None:
    put(setting, node(1), **{field: 2**bits - 1})
    ledger = setting.ledger
    rest = (ledger.engaged(node(1)), ledger.credit(node(1)))
    assert (*ledger.history(node(1)), *rest) == read
