"""The table of responses: exhaustively what is done, for every kind, count and moment."""

from __future__ import annotations

import itertools

import pytest

from nodeclient.core.incidents import Kind
from nodeclient.core.responses import DEFAULTS, ENDING, Response, decide, ends, override

REPORT, BAN, STOP, REBOOT, OFF = Response
WANTED = {
    # kind: (a fresh boot may take up the task, none may), at the 1st, 2nd, 3rd and 10th
    Kind.STRAY: [[(REPORT,), (REPORT,), (REPORT, BAN, STOP, OFF), (REPORT, BAN, STOP, OFF)]] * 2,
    Kind.PROXY: [[(REPORT,)] * 4] * 2,  # a function must not be able to end its own Executor
    Kind.HARDWARE: [[(REPORT, STOP, OFF)] * 4] * 2,
    Kind.SILENCE: [[(REPORT, REBOOT)] * 4, [(REPORT, OFF)] * 4],
    Kind.APPRAISAL: [[(REPORT, BAN, OFF)] * 4] * 2,
    Kind.SERVICE: [[()] * 4] * 2,  # a service of the Pi is no matter of the Machine's task
    Kind.ROOT: [[()] * 4] * 2,  # the whole node ends, see tests/node/test_rootguard.py
}


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("may_reboot", [True, False])
def test_defaults__every_kind_and_count(kind: Kind, may_reboot: bool) -> None:
    found = [decide(DEFAULTS, kind, count, may_reboot) for count in (1, 2, 3, 10)]
    assert found == WANTED[kind][0 if may_reboot else 1]


def test_decide__every_set_of_responses__never_both_a_reboot_and_an_end() -> None:
    """All 32 sets, with and without the possibility of a boot."""
    for size in range(len(Response) + 1):
        for row in itertools.combinations(Response, size):
            for may_reboot in (True, False):
                due = decide({Kind.STRAY: ((1, row),)}, Kind.STRAY, 1, may_reboot)
                assert set(due) - {OFF} <= set(row), "nothing is added but the power switch"
                assert set(due) >= set(row) - {REBOOT}
                assert not (REBOOT in due and (ENDING & set(due) or not may_reboot))
                assert REBOOT not in row or {REBOOT, OFF} & set(due), "a boot is never just left"
                assert ends(due) is bool(ENDING & set(due))
                assert list(due) == [each for each in Response if each in due]


def test_decide__rows_in_any_order__the_highest_that_was_reached() -> None:
    table = {Kind.STRAY: ((5, (BAN,)), (2, (REPORT,)))}
    found = [decide(table, Kind.STRAY, count, True) for count in range(1, 7)]
    assert found == [(), (REPORT,), (REPORT,), (REPORT,), (BAN,), (BAN,)]
    assert decide(table, Kind.PROXY, 9, True) == ()


def test_override__a_kind_that_is_named__loses_its_whole_default() -> None:
    table = override(DEFAULTS, {Kind.STRAY: ((2, (REPORT,)),)})
    assert decide(table, Kind.STRAY, 1, True) == ()
    assert decide(table, Kind.STRAY, 9, True) == (REPORT,)
    assert table[Kind.HARDWARE] == DEFAULTS[Kind.HARDWARE]
