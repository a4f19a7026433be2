"""A chain that tells its facts again: the same ones or others, no role breaks, no key leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.case import Case, Role, unposted
from nodeclient.core.roles import broker, executor, member
from nodeclient.core.task import step, wakes
from nodeclient.core.types import TaskState
from tests.core.test_roles import (
    ASKER,
    COMMITMENT,
    ME,
    OTHER,
    OWNER,
    STATEMENT,
    THIRD,
    accepted,
    admitted,
    at,
    block,
    brief,
    claimed,
    confirming,
    consent_asked,
    drawn,
    kinds,
    me,
    ordered,
    owner,
    posted,
    queried,
    walk,
)

MEMBERS = (OTHER, THIRD, OWNER)
SETTLED = ev.TaskSettled(**at(40), evidence_root=b"a" * 31 + b"\0", voters=0b111)  # type: ignore[arg-type]
FAILED = ev.TaskFailed(**at(40), cause=6)  # type: ignore[arg-type]
EXPIRED = ev.TaskExpired(**at(40))  # type: ignore[arg-type]
QUICK: tuple[ev.TaskEvent, ...] = (
    posted(),
    claimed(ME),
    drawn(ME, MEMBERS, accepted=True),
    admitted(),
)
LIFE: tuple[ev.TaskEvent, ...] = (posted(), claimed(ME), drawn(ME, MEMBERS), accepted(), admitted())
GATHERED = ev.ConsentsGathered(commitment=COMMITMENT, consents=(b"c",))
VETTED = ev.TaskVetted(commitment=COMMITMENT, reasons=())
BEGINNINGS: dict[Role, tuple[ev.Event, ...]] = {
    Role.EXECUTOR: (),
    Role.MEMBER: (),
    Role.BROKER: (consent_asked(),),
    Role.RECEIVER: (consent_asked(),),
    Role.REQUESTER: (ordered(), GATHERED),
}
ADDRESS = {Role.EXECUTOR: ME, Role.MEMBER: OTHER, Role.REQUESTER: ASKER}


def between(role: Role, fact: ev.TaskEvent, quick: bool) -> tuple[ev.Event, ...]:
    """What else the role hears after a fact of its Task, so that it moves on."""
    hears = role in (Role.EXECUTOR, Role.MEMBER)
    if quick and role is Role.EXECUTOR:
        return (brief(), VETTED) if isinstance(fact, ev.TaskClaimed) else ()
    if isinstance(fact, ev.CommitteeDrawn) and hears:
        return (brief(),) if role is Role.MEMBER else (brief(), VETTED)
    return ()


def where(case: Case, role: Role) -> object:
    """The state of a role; None before it began."""
    data = getattr(case, role.value)
    return None if data is None else data.state


@pytest.mark.parametrize("life", [LIFE, QUICK], ids=["accept apart", "accept in the draw"])
@pytest.mark.parametrize("end", [SETTLED, FAILED, EXPIRED], ids=["settled", "failed", "expired"])
@pytest.mark.parametrize("role", Role)
def test_every_role__hears_its_whole_life_again_at_each_point__ends_where_it_would_have(
    role: Role, end: ev.TaskEvent, life: tuple[ev.TaskEvent, ...]
) -> None:
    who = me(ADDRESS.get(role, OWNER), role, Role.BROKER) if role is Role.RECEIVER else None
    who = who or me(ADDRESS.get(role, OWNER), role)
    told: list[ev.TaskEvent] = []
    case, _ = walk(who, *BEGINNINGS[role])
    for fact in (*life, end):
        told.append(fact)
        case, _ = step(case, fact, who)
        for more in between(role, fact, life is QUICK):
            case, _ = step(case, more, who)
        before = case
        for again in told:
            case, _ = step(case, again, who)
        assert where(case, role) == where(before, role)
        assert (case.state, case.task) == (before.state, before.task)


def drawn_executor() -> Case:
    case, _ = walk(me(ME, Role.EXECUTOR), *LIFE[:3], brief(), VETTED)
    return case


def test_executor__another_one_is_drawn_after_all__stops() -> None:
    case, _ = step(drawn_executor(), drawn(THIRD, MEMBERS), me(ME, Role.EXECUTOR))
    assert case.executor is not None
    assert case.executor.state is executor.State.CLOSED


def test_executor__is_drawn_after_all__begins() -> None:
    who = me(ME, Role.EXECUTOR)
    case, _ = walk(who, posted(), claimed(OTHER), drawn(OTHER, MEMBERS))
    case, _ = step(case, drawn(ME, MEMBERS), who)
    _, actions = step(case, brief(), who)
    assert "VetTask" in kinds(actions)


def test_executor__own_accepting_draw_replaces_another__boots() -> None:
    case, actions = step(drawn_executor(), drawn(ME, MEMBERS, accepted=True), me(ME, Role.EXECUTOR))
    assert kinds(actions) == ["BootMachine"]
    assert step(case, accepted(), me(ME, Role.EXECUTOR))[1] == ()


def test_executor__is_drawn_again_after_another_one__needs_no_second_look() -> None:
    """The order to vet was carried out; the same order is none any more."""
    who = me(ME, Role.EXECUTOR)
    case, _ = step(drawn_executor(), drawn(THIRD, MEMBERS), who)
    _, actions = step(case, drawn(ME, MEMBERS), who)
    assert kinds(actions) == ["SubmitAccept"]


def test_executor__draw_moves_to_another_block__accepts_the_task_as_it_now_stands() -> None:
    moved = replace(drawn(ME, MEMBERS), block=block(26))
    _, actions = step(drawn_executor(), moved, me(ME, Role.EXECUTOR))
    assert isinstance(actions[0], do.SubmitAccept)
    assert actions[0].task.step_at == 26


def test_member__loses_its_seat__answers_no_more() -> None:
    who = me(OTHER, Role.MEMBER)
    case, _ = walk(who, *LIFE[:3], brief())
    case, _ = step(case, drawn(ME, (THIRD, OWNER, ASKER)), who)
    assert case.member is not None
    assert case.member.state is member.State.CLOSED


def test_requester__another_committee_is_drawn__sends_it_the_taskspec() -> None:
    who = me(ASKER, Role.REQUESTER)
    case, _ = walk(who, ordered(), GATHERED, *LIFE[:3])
    _, actions = step(case, drawn(ME, (OTHER, THIRD, ASKER)), who)
    assert isinstance(actions[0], do.SendBrief)
    assert actions[0].members == (OTHER, THIRD, ASKER)


def readmitted(number: int, root: bytes = STATEMENT.evidence_root) -> ev.TaskAdmitted:
    return replace(admitted(), block=block(number), evidence_root=root)


def test_broker__record_moves_to_a_later_block__confirmations_count_from_there() -> None:
    case, _ = step(confirming(), readmitted(31), owner())
    assert step(case, ev.BlockSeen(block(32)), owner())[1] == ()
    assert kinds(step(case, ev.BlockSeen(block(33)), owner())[1]) == ["QueryMachine"]


def test_broker__record_moves_while_the_machine_is_asked__that_answer_releases_nothing() -> None:
    case, first = step(confirming(), ev.BlockSeen(block(32)), owner())
    case, _ = step(case, readmitted(33), owner())
    case, actions = step(case, queried(), owner())
    assert actions == ()
    case, second = step(case, ev.BlockSeen(block(35)), owner())
    assert kinds(second) == ["QueryMachine"]
    assert second != first  # an order like the first one would count as done


def test_broker__record_is_replaced_while_keys_are_sealed__none_leaves() -> None:
    case, _ = step(confirming(), ev.BlockSeen(block(32)), owner())
    case, _ = step(case, queried(), owner())
    case, _ = step(case, readmitted(33, b"x" * 31 + b"\0"), owner())
    sealed = ev.KeysSealed(commitment=COMMITMENT, keys=(("cid", b"sealed"),))
    case, actions = step(case, sealed, owner())
    assert actions == ()
    assert case.broker is not None
    assert case.broker.state is broker.State.REFUSED


def test_unposted__keys_that_left__leave_no_way_to_a_second_one() -> None:
    case, _ = step(confirming(), ev.BlockSeen(block(32)), owner())
    case, _ = step(case, queried(), owner())
    case, _ = step(case, ev.KeysSealed(commitment=COMMITMENT, keys=(("cid", b"s"),)), owner())
    case = unposted(case)
    for event in (posted(50), claimed(OTHER), drawn(OTHER), admitted(), ev.BlockSeen(block(60))):
        case, actions = step(case, event, owner())
        assert actions == ()


def test_unposted__consent_given__waits_for_the_posting_again() -> None:
    case = unposted(confirming())
    assert (case.task, case.state) == (None, None)
    case, _ = step(case, posted(50), owner())
    assert case.state is TaskState.POSTED
    assert case.broker is not None
    assert case.broker.state is broker.State.POSTED


def test_block__after_the_race__wakes_only_those_who_still_have_a_part() -> None:
    who = me(ME, Role.EXECUTOR)
    case, _ = walk(who, posted())
    assert wakes(case)
    case, _ = step(case, ev.BlockSeen(block(10 + 2 + 10 + 2 + 20 + 1)), who)
    assert not wakes(case)
