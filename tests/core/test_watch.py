"""When a member was let ask, and when an honest Executor may end the questions."""

from __future__ import annotations

import pytest

from nodeclient.core.types import Address
from nodeclient.core.watch import DROPPED, NOT_WATCHED, Heard, Watch, how_heard

A, B, C, D = (Address(bytes([n]) * 20) for n in range(1, 5))


def test_declined_before_and_after__run_lies_between() -> None:
    watch = NOT_WATCHED.declined(1_000, 1_010).declined(3_000, 3_010)
    watch, reasons = watch.answered(5_000)
    assert (reasons, watch.longest) == ((), None)
    watch, reasons = watch.answered(9_000)
    assert reasons == ()
    watch = watch.declined(11_000, 11_500).declined(20_000, 20_010)
    assert watch == Watch(floor=3_000, first=5_000, last=9_000, ceiling=11_500)
    assert watch.longest == 8_500, "from when it was last asked in vain to when it was told no"


def test_answered_after_a_decline__was_declined_while_it_ran() -> None:
    watch = NOT_WATCHED.answered(1_000)[0].declined(2_000, 2_010)
    watch, reasons = watch.answered(3_000)
    assert reasons == (DROPPED,)
    assert watch.ceiling is None
    assert watch.answered(4_000)[1] == (), "told once"


@pytest.mark.parametrize(
    "watch",
    [
        NOT_WATCHED,
        Watch(floor=1, first=2, last=2),
        Watch(first=2, last=2, ceiling=3),
        Watch(floor=9_000, first=9_500, last=9_600, ceiling=10),  # this Node was rebooted
    ],
)
def test_longest__half_known__nothing_is_said(watch: Watch) -> None:
    assert watch.longest is None


@pytest.mark.parametrize(
    ("answered", "counted", "heard"),
    [
        ([], 0, Heard.TOO_LITTLE),
        ([A, B, C], 2, Heard.TOO_LITTLE),  # noted, but the Agent counts fewer
        ([A, B], 3, Heard.TOO_LITTLE),  # an answer of the Pi's own is nobody's
        ([A, A, A, A], 4, Heard.TOO_LITTLE),  # all to one member
        ([A, A, B], 3, Heard.ENOUGH),
        ([A, B, C], 3, Heard.ALL),
        ([A, A, D, D], 4, Heard.TOO_LITTLE),  # D has no seat
    ],
)
def test_how_heard__a_quorum_of_members_must_have_answers(
    answered: list[Address], counted: int, heard: Heard
) -> None:
    assert how_heard((A, B, C), answered, counted, 3) is heard
