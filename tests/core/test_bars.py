"""What a bar by vote does to a Task: who ends it, when, and whom nobody serves any more."""

from __future__ import annotations

import pytest

from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.case import Me, Role
from nodeclient.core.roles import bars, broker
from nodeclient.core.task import step, wakes
from nodeclient.core.types import Address, Verdict
from tests.core.test_roles import (
    COMMITMENT,
    ME,
    OTHER,
    OWNER,
    THIRD,
    accepted,
    admitted,
    appraisal,
    at,
    block,
    claimed,
    confirming,
    drawn,
    kinds,
    me,
    nonce_asked,
    ordered,
    owner,
    posted,
    queried,
    seated_member,
    walk,
)

FOURTH = Address(b"\x09" * 20)
GATHERED = ev.ConsentsGathered(commitment=COMMITMENT, consents=(b"c",))
MEMBERS = (OTHER, THIRD, OWNER)


def barred(*nodes: Address, at: int = 30) -> ev.NodesBarred:
    return ev.NodesBarred(commitment=COMMITMENT, nodes=nodes, at=at)


def seen(number: int) -> ev.BlockSeen:
    return ev.BlockSeen(block(number))


def requesting(*events: ev.Event) -> tuple[Me, list[ev.Event]]:
    """A requester whose Task THIRD executes."""
    who = me(Address(b"\x05" * 20), Role.REQUESTER)
    return who, [ordered(who.address), GATHERED, posted(), claimed(FOURTH), *events]


DRAWN = drawn(FOURTH, MEMBERS)
RUNNING = (DRAWN, accepted(), admitted())


@pytest.mark.parametrize(
    ("before", "nodes", "ends"),
    [
        ((), (FOURTH,), True),
        ((), (OTHER,), False),
        ((DRAWN,), (FOURTH,), True),
        ((DRAWN,), (OTHER,), True),
        ((DRAWN, accepted()), (OWNER,), True),
        (RUNNING, (FOURTH,), True),
        (RUNNING, (OTHER,), False),  # two of three are a quorum still
        (RUNNING, (OTHER, THIRD), True),
        (RUNNING, (), False),
    ],
)
def test_requester__nodes_barred__ends_the_task_as_the_market_lets_it(
    before: tuple[ev.Event, ...], nodes: tuple[Address, ...], ends: bool
) -> None:
    who, events = requesting(*before, barred(*nodes))
    case, actions = walk(who, *events, seen(31))
    found = [each for each in actions if isinstance(each, do.SubmitFailBarred)]
    assert bool(found) is ends
    if ends:
        assert found[0].task == case.task
        assert found[0].members == (MEMBERS if before else ())


def test_requester__order_is_out__not_given_again_until_it_was_refused() -> None:
    who, events = requesting(DRAWN, barred(FOURTH), seen(31))
    case, actions = walk(who, *events, seen(32))
    assert kinds(actions) == []
    refused = ev.TransactionRejected(commitment=COMMITMENT, order="fail_barred", reason="x")
    case, _ = step(case, refused, who)
    case, actions = step(case, seen(33), who)
    assert kinds(actions) == []
    case, actions = step(case, seen(36), who)
    assert kinds(actions) == ["SubmitFailBarred"]


def test_requester__deadline_over__expires_only_what_the_market_does_not_end_as_barred() -> None:
    """`expire` slashes an Executor for judges that were barred."""
    who, events = requesting(*RUNNING, barred(OTHER, THIRD))
    case, actions = walk(who, *events, seen(5000))
    assert kinds(actions) == ["QueryMachine", "SubmitFailBarred"]  # it owns the function, too
    refused = ev.TransactionRejected(commitment=COMMITMENT, order="fail_barred", reason="x")
    case, _ = step(case, refused, who)
    _, actions = step(case, seen(5005), who)
    assert kinds(actions) == ["SubmitExpire"]


def test_member__deadline_over_before_its_turn__waits_and_does_not_expire() -> None:
    who = me(ME, Role.MEMBER)
    members = (OTHER, THIRD, ME)
    task = (posted(), claimed(FOURTH), drawn(FOURTH, members), accepted(), admitted())
    case, _ = walk(who, *task)
    assert case.state is not None
    end = who.parameters.deadline(case.on_chain(), case.state)
    case, _ = step(case, barred(OTHER, THIRD, at=end), who)
    case, actions = step(case, seen(end + who.expire_grace + 1), who)
    assert kinds(actions) == []
    _, actions = step(case, seen(end + who.expire_grace + 3), who)
    assert kinds(actions) == ["SubmitFailBarred"]


def test_bar__undone_by_a_reorganisation__nothing_is_ended() -> None:
    who, events = requesting(DRAWN, barred(FOURTH), barred())
    case, actions = walk(who, *events, seen(31))
    assert (case.barred, kinds(actions)) == ((), [])


@pytest.mark.parametrize("seat", [0, 2])
def test_member__executor_barred__ends_the_task_when_its_turn_has_come(seat: int) -> None:
    who = me(ME, Role.MEMBER)
    members = [OTHER, THIRD]
    members.insert(seat, ME)
    events = [posted(), claimed(FOURTH), drawn(FOURTH, tuple(members)), barred(FOURTH)]
    turn = 30 + who.expire_grace + 1 + seat
    case, actions = walk(who, *events, seen(turn - 1))
    assert kinds(actions) == []
    _, actions = step(case, seen(turn), who)
    assert kinds(actions) == ["SubmitFailBarred"]


@pytest.mark.parametrize("nodes", [(ME,), (OTHER,)])
def test_executor__itself_or_a_member_barred__ends_the_task_last(
    nodes: tuple[Address, ...],
) -> None:
    who = me(ME, Role.EXECUTOR)
    events = [posted(), claimed(ME), drawn(ME, MEMBERS, accepted=True), barred(*nodes)]
    turn = 30 + who.expire_grace + 1 + len(MEMBERS)
    case, actions = walk(who, *events, seen(turn - 1))
    assert kinds(actions) == []
    assert wakes(case)
    case, actions = step(case, seen(turn), who)
    assert kinds(actions) == ["SubmitFailBarred"]
    _, actions = step(case, seen(turn + 1), who)
    assert kinds(actions) == []


@pytest.mark.parametrize("left", [0, bars.RESERVE - 1, bars.RESERVE])
def test_executor__judges_barred_near_its_deadline__waits_for_nobody(left: int) -> None:
    """`expire`, by anybody in the block after it, would slash it."""
    who = me(ME, Role.EXECUTOR)
    task = (posted(), claimed(ME), drawn(ME, MEMBERS, accepted=True), admitted())
    case, _ = walk(who, *task)
    assert case.state is not None
    now = who.parameters.deadline(case.on_chain(), case.state) - left
    case, _ = step(case, barred(OTHER, THIRD, at=now - 1), who)
    _, actions = step(case, seen(now), who)
    assert kinds(actions) == (["SubmitFailBarred"] if left < bars.RESERVE else [])


def test_leader__barred__does_not_draw() -> None:
    who = me(ME, Role.EXECUTOR)
    _, actions = walk(who, posted(), claimed(ME), barred(ME), seen(34))
    assert kinds(actions) == ["SubmitFailBarred"]


def test_member__executor_barred__affirms_nothing_more() -> None:
    who, events = seated_member()
    events += [accepted(), nonce_asked(1, b"x" * 32)]
    asked = appraisal(2)
    case, actions = walk(who, *events, barred(OTHER), asked)
    assert kinds(actions) == ["Reply"]
    assert "barred" in actions[0].refusal  # type: ignore[attr-defined]
    case, actions = walk(who, *events, barred(OWNER), asked)
    assert "AppraiseEvidence" in kinds(actions)
    assert case.member is not None
    assert Verdict.AFFIRMING not in [vote.verdict for vote in case.member.votes]


def test_broker__executor_barred_before_the_question__refuses() -> None:
    who = owner()
    case, _ = step(confirming(), barred(OTHER), who)
    case, actions = step(case, seen(100), who)
    assert kinds(actions) == []
    assert case.broker is not None
    assert case.broker.state is broker.State.REFUSED


def test_broker__executor_barred_while_it_asks_or_seals__no_key_leaves() -> None:
    who = owner()
    case, actions = step(confirming(), seen(100), who)
    assert kinds(actions) == ["QueryMachine"]
    told = barred(case.on_chain().executor)
    late, _ = step(case, told, who)
    late, actions = step(late, queried(), who)
    assert kinds(actions) == []
    sealing, actions = step(case, queried(), who)
    assert kinds(actions) == ["SealKeys"]
    sealing, _ = step(sealing, told, who)
    sealed = ev.KeysSealed(commitment=COMMITMENT, keys=(("cid", b"k"),))
    sealing, actions = step(sealing, sealed, who)
    assert kinds(actions) == []
    for each in (late, sealing):
        assert each.broker is not None
        assert each.broker.state is broker.State.REFUSED


def test_case__over__is_ended_by_nobody() -> None:
    who, events = requesting(DRAWN, ev.TaskFailed(**at(40), cause=11))  # type: ignore[arg-type]
    case, _ = walk(who, *events, barred(FOURTH))
    _, actions = step(case, seen(60), who)
    assert kinds(actions) == []
