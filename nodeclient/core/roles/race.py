"""The Executor's rules until the Committee is drawn: tickets, claims, and the leader's draw.

They are rows of the table in ``executor``, like all its rules.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.roles import bars
from nodeclient.core.roles.execution import Executor, State, Step
from nodeclient.core.types import ZERO_ADDRESS

if TYPE_CHECKING:
    from nodeclient.core.case import Case, Me

DRAW_PATIENCE = 16  # part of the draw window in which a leader waits for the TaskSpec


def on_block_while_watching(role: Executor, event: ev.BlockSeen, case: Case, me: Me) -> Step:
    """Evaluate the ticket once alpha exists; claim in the block that the ticket allows."""
    task, number = case.on_chain(), event.block.number
    if number > me.parameters.draw_end(task):
        return replace(role, state=State.CLOSED), ()
    if number > me.parameters.claim_end(task):
        return role, ()
    if not role.evaluating and number > me.parameters.entropy_block(task):
        asked = do.EvaluateTicket(commitment=case.commitment, task=task)
        return replace(role, evaluating=True), (asked,)
    due = role.claim_at is not None and number >= role.claim_at and not role.claimed
    beaten = task.executor != ZERO_ADDRESS and task.ticket <= role.ticket
    if due and not beaten:
        claim = do.SubmitClaim(commitment=case.commitment, task=task, at=number)
        return replace(role, claimed=True), (claim,)
    return role, ()


def on_ticket(role: Executor, event: ev.TicketEvaluated, case: Case, me: Me) -> Step:
    return replace(role, claim_at=event.claim_at, ticket=event.ticket), ()


def on_claim_rejected(role: Executor, event: ev.TransactionRejected, case: Case, me: Me) -> Step:
    """Somebody claimed in between: look again in the next block, with the Task as it then is."""
    return replace(role, claimed=False if event.order == "claim" else role.claimed), ()


def on_claimed(role: Executor, event: ev.TaskClaimed, case: Case, me: Me) -> Step:
    """Lead, or fall back behind a lower ticket."""
    if event.leader == me.address:
        return replace(role, state=State.LEADING, drawing=False), ()
    return replace(role, state=State.WATCHING), ()


def on_block_while_leading(role: Executor, event: ev.BlockSeen, case: Case, me: Me) -> Step:
    """The leader draws, once: the order outlives a restart, and blocks pass while it waits.

    With the TaskSpec in hand the draw accepts, which saves a transaction. It waits for it half as
    long as the requester waits for the draw; without it, or unable to run it, it only draws.
    """
    task, number = case.on_chain(), event.block.number
    if number > me.parameters.draw_end(task):
        return replace(role, state=State.CLOSED), ()
    if bars.is_doomed(case):
        return on_block_once_seated(role, event, case, me)
    opens = me.parameters.draw_entropy_block(task)
    if number <= opens or role.drawing:
        return role, ()
    decided = role.willing or role.reason
    if not decided and number <= opens + me.parameters.draw_window // DRAW_PATIENCE:
        return role, ()
    draw = do.SubmitDraw(commitment=case.commitment, task=task, at=number, accept=role.willing)
    return replace(role, drawing=True), (draw,)


def on_draw_rejected(role: Executor, event: ev.TransactionRejected, case: Case, me: Me) -> Step:
    """Tried again in the next block while the window lasts."""
    again = replace(role, drawing=False if event.order == "draw" else role.drawing)
    return on_end_rejected(again, event, case, me)


def on_block_once_seated(role: Executor, event: ev.BlockSeen, case: Case, me: Me) -> Step:
    """Last of all, but before the deadline, the Executor ends a Task that a bar has doomed, its own
    hardware's, too: its Deposit stays bound until somebody does."""
    number, place = event.block.number, 1 + len(case.members)
    soon = number < role.ending_tried_at + bars.PAUSE
    due = bars.is_due(case, me, number, place) or bars.is_pressing(case, me, number)
    if role.ending or soon or not due:
        return role, ()
    return replace(role, ending=True, ending_tried_at=number), (bars.fail_barred(case, number),)


def on_end_rejected(role: Executor, event: ev.TransactionRejected, case: Case, me: Me) -> Step:
    return replace(role, ending=role.ending and event.order not in bars.ORDERS), ()


def on_vetted_before_the_draw(role: Executor, event: ev.TaskVetted, case: Case, me: Me) -> Step:
    """The draw will say it."""
    return replace(role, willing=not event.reasons, reason="; ".join(event.reasons)), ()
