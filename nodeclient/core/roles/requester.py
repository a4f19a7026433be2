"""The requester: gathers consents, posts, sends the TaskSpec, and ends what others let lie.

The leader gets the TaskSpec once the race is over, so that its draw can accept; the Committee when
it is drawn.

::

    CONSENTING -> POSTING -> POSTED -> BRIEFING -> WAITING -> DONE | FAILED
        |            |
      REFUSED     REFUSED

A settled Task says nothing of the function: how its run ended the requester learns afterwards from
the Committee, because the chain must not know.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from agent.formats.hashes import keccak256
from agent.formats.taskspec import TaskSpec
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.roles import bars
from nodeclient.core.roles.table import Actions, build_table, ignored
from nodeclient.core.types import ZERO_ADDRESS, Address, TaskState

if TYPE_CHECKING:
    from nodeclient.core.case import Case, Me


class State(StrEnum):
    """Where the requester stands in its Task."""

    CONSENTING = "consenting"
    POSTING = "posting"
    POSTED = "posted"
    BRIEFING = "briefing"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"


ENDED = (State.DONE, State.FAILED, State.REFUSED)
OPEN = (State.POSTED, State.BRIEFING, State.WAITING)


@dataclass(frozen=True, slots=True)
class Requester:
    """Data of the role. Fees in wei; ``post`` False: somebody else sends the transaction;
    ``briefed``: the leader to which the TaskSpec goes before the draw."""

    spec: bytes
    committee_size: int
    class_id: int
    executor_fee: int
    member_fee: int
    post: bool
    state: State = State.CONSENTING
    consents: tuple[bytes, ...] = ()
    reasons: tuple[str, ...] = ()
    expiring: bool = False
    expire_tried_at: int = 0
    draw_tried_at: int = 0
    briefed: Address = ZERO_ADDRESS
    outcome: bytes = b""


Step = tuple[Requester, Actions]


def on_ordered(event: ev.TaskOrdered, case: Case, me: Me) -> tuple[Requester, Actions]:
    """The operator's order starts everything."""
    role = Requester(
        spec=event.spec,
        committee_size=event.committee_size,
        class_id=event.class_id,
        executor_fee=event.executor_fee,
        member_fee=event.member_fee,
        post=event.post,
    )
    gather = do.GatherConsents(
        commitment=case.commitment, spec=event.spec, committee_size=event.committee_size
    )
    reply = do.Reply(commitment=case.commitment, request=event.request, body=case.commitment)
    return role, (reply, gather)


def on_ordered_again(role: Requester, event: ev.TaskOrdered, case: Case, me: Me) -> Step:
    reply = do.Reply(commitment=case.commitment, request=event.request, body=case.commitment)
    return role, (reply,)


def on_consents(role: Requester, event: ev.ConsentsGathered, case: Case, me: Me) -> Step:
    """Post only what every owner agreed to."""
    agreed = replace(role, state=State.POSTING, consents=event.consents)
    if not role.post:
        return agreed, ()
    order = do.SubmitPost(
        commitment=case.commitment,
        spec_hash=keccak256(role.spec),
        number=TaskSpec.decode(role.spec).number,
        committee_size=role.committee_size,
        class_id=role.class_id,
        executor_fee=role.executor_fee,
        member_fee=role.member_fee,
    )
    return agreed, (order,)


def on_refused(role: Requester, event: ev.ConsentRefused, case: Case, me: Me) -> Step:
    return replace(role, state=State.REFUSED, reasons=event.reasons), ()


def on_post_rejected(role: Requester, event: ev.TransactionRejected, case: Case, me: Me) -> Step:
    return replace(role, state=State.REFUSED, reasons=(event.reason,)), ()


def on_posted(role: Requester, event: ev.TaskPosted, case: Case, me: Me) -> Step:
    """By this account: the commitment holds it, so nobody else can post the same."""
    return replace(role, state=State.POSTED), ()


def on_drawn(role: Requester, event: ev.CommitteeDrawn, case: Case, me: Me) -> Step:
    order = send_brief(role, case, event.members)
    # A reorganised chain may tell another draw: to whom it is news, the TaskSpec goes.
    again = role.state is State.WAITING
    return replace(role, state=State.WAITING if again else State.BRIEFING), (order,)


def send_brief(role: Requester, case: Case, members: tuple[Address, ...]) -> do.SendBrief:
    """The order to send the TaskSpec to the leader or Executor, and to members."""
    task = case.on_chain()
    return do.SendBrief(
        commitment=case.commitment,
        task=task,
        executor=task.executor,
        members=members,
        spec=role.spec,
        consents=role.consents,
    )


def on_briefed(role: Requester, event: ev.ActionDone, case: Case, me: Me) -> Step:
    if event.action != do.SendBrief.__name__:
        return role, ()
    return replace(role, state=State.WAITING), ()


def on_block(role: Requester, event: ev.BlockSeen, case: Case, me: Me) -> Step:
    """Nobody's silence keeps the fees: after a deadline the requester ends the Task."""
    if case.state is None or case.over:
        return role, ()
    if draw_is_late(role, event.block.number, case, me) and not bars.is_doomed(case):
        draw = do.SubmitDraw(
            commitment=case.commitment, task=case.on_chain(), at=event.block.number
        )
        return replace(role, draw_tried_at=event.block.number), (draw,)
    number = event.block.number
    order = bars.ending(case, me, number, 0, role.expire_tried_at)
    if order is None or role.expiring or number < role.expire_tried_at + bars.PAUSE:
        return role, ()
    return replace(role, expiring=True, expire_tried_at=number), (order,)


def on_block_while_posted(role: Requester, event: ev.BlockSeen, case: Case, me: Me) -> Step:
    """Once no lower ticket can come, the leader gets the TaskSpec; a reorganisation's next one too.

    It sees it in any case, unless it keeps the draw from everybody; the Committee is not known yet.
    """
    task = case.on_chain()
    led = task.executor not in (ZERO_ADDRESS, role.briefed)
    if led and not bars.is_doomed(case) and me.parameters.claim_end(task) <= event.block.number:
        briefing = replace(role, briefed=task.executor)
        return briefing, (send_brief(role, case, members=()),)
    return on_block(role, event, case, me)


def on_rejected(role: Requester, event: ev.TransactionRejected, case: Case, me: Me) -> Step:
    """An expiry that the market refused may be tried again; an unanswered one is still out."""
    return replace(role, expiring=role.expiring and event.order not in bars.ORDERS), ()


def draw_is_late(role: Requester, number: int, case: Case, me: Me) -> bool:
    """Whether the leader holds the draw back: it can see the Committee first, and must not choose.

    The leader gets an eighth of the window, enough for a restart, so that usually one is sent.
    """
    task = case.on_chain()
    if case.state is not TaskState.POSTED or task.executor == ZERO_ADDRESS:
        return False
    grace = me.parameters.draw_window // 8
    late = number - me.parameters.draw_entropy_block(task) > grace
    return late and number <= me.parameters.draw_end(task) and number >= role.draw_tried_at + 5


def on_settled(role: Requester, event: ev.TaskSettled, case: Case, me: Me) -> Step:
    order = do.LearnOutcome(commitment=case.commitment, task=case.on_chain(), members=case.members)
    return replace(role, state=State.DONE), (order,)


def on_learned(role: Requester, event: ev.OutcomeLearned, case: Case, me: Me) -> Step:
    return replace(role, outcome=event.outcome), ()


def on_failed(role: Requester, event: ev.TaskFailed, case: Case, me: Me) -> Step:
    return replace(role, state=State.FAILED), ()


TABLE = build_table(
    handled={
        (State.CONSENTING, ev.ConsentsGathered): on_consents,
        (State.CONSENTING, ev.ConsentRefused): on_refused,
        (State.POSTING, ev.TransactionRejected): on_post_rejected,
        (State.POSTED, ev.BlockSeen): on_block_while_posted,
        (State.BRIEFING, ev.ActionDone): on_briefed,
        (State.DONE, ev.OutcomeLearned): on_learned,
        (State.DONE, ev.OutcomeDenied): ignored,
    },
    everywhere={
        ev.TaskOrdered: (tuple(State), on_ordered_again),
        ev.TaskPosted: ((State.CONSENTING, State.POSTING, State.REFUSED), on_posted),
        ev.CommitteeDrawn: (OPEN, on_drawn),
        ev.BlockSeen: ((State.BRIEFING, State.WAITING), on_block),
        ev.TransactionRejected: (OPEN, on_rejected),
        ev.TaskSettled: (OPEN, on_settled),
        ev.TaskFailed: (OPEN, on_failed),
        ev.TaskExpired: (OPEN, on_failed),
    },
    ignoring={
        ev.BlockSeen: tuple(s for s in State if s not in OPEN),
        ev.TransactionMined: tuple(State),
        ev.TransactionRejected: (State.CONSENTING, *ENDED),
        ev.ActionDone: tuple(s for s in State if s is not State.BRIEFING),
        ev.ConsentsGathered: (*OPEN, *ENDED),
        ev.ConsentRefused: (*OPEN, *ENDED),
        # What a reorganised chain tells again.
        ev.TaskPosted: (*OPEN, State.DONE, State.FAILED),
        ev.CommitteeDrawn: ENDED,
        ev.TaskSettled: ENDED,
        ev.TaskFailed: ENDED,
        ev.TaskExpired: ENDED,
    },
)
