"""The Executor's rules about its Machine as a whole: booted, lost, noticed to misbehave, given up.

They are rows of the table in ``executor``, like all its rules.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.responses import Response, decide, ends
from nodeclient.core.roles.execution import ON_MACHINE, Executor, Noticed, State, Step
from nodeclient.core.types import Phase

if TYPE_CHECKING:
    from nodeclient.core.case import Case, Me

MAX_NOTICED = 64  # incidents of one Task that are kept and acted on one by one
MAX_TEXT = 200  # characters


def boot(role: Executor, case: Case, phase: Phase, attempt: int) -> Step:
    """Order a fresh boot for a phase."""
    fresh = replace(role, state=State.BOOTING, phase=phase, attempt=attempt, nonces=())
    order = do.BootMachine(commitment=case.commitment, phase=phase, attempt=attempt)
    return fresh, (order,)


def may_boot_again(role: Executor, me: Me) -> bool:
    """Whether a fresh boot could take up the Task: nothing was released to the one that is lost,
    or all of it is erased."""
    return role.state in ON_MACHINE and role.attempt < me.boot_limit


def on_lost(role: Executor, event: ev.MachineLost, case: Case, me: Me) -> Step:
    """Boot again where nothing was released or all is erased; else give up.

    The loss of an earlier boot, told late by a key that was on its way to it, is none of this one.
    """
    if event.resume != (b"" if role.state is State.BOOTING else role.resume):
        return role, ()
    if may_boot_again(role, me):
        return boot(role, case, role.phase, role.attempt + 1)
    return give_up(role, case, event.reason)


def give_up(role: Executor, case: Case, reason: str) -> Step:
    """Nothing more can be done here: power off and let the deadline end the Task."""
    off = do.PowerOff(commitment=case.commitment, resume=role.resume)
    gone = replace(role, state=State.GAVE_UP, reason=reason)
    return gone, (off,) if role.resume else ()


def on_incident(role: Executor, event: ev.IncidentNoticed, case: Case, me: Me) -> Step:
    """Keep it, and order what the operator's table says. The order is written down with it, so that
    a Node that is killed in between carries it out when it is back."""
    number = len(role.noticed)
    if number >= MAX_NOTICED:
        return role, ()
    count = 1 + sum(each.kind is event.kind for each in role.noticed)
    due = decide(me.responses, event.kind, count, may_boot_again(role, me))
    text = "".join(c if c.isprintable() else "?" for c in event.text[:MAX_TEXT])
    noticed = Noticed(event.kind, text, event.at, due, done=not ends(due))
    kept = replace(role, noticed=(*role.noticed, noticed))
    actions = orders(kept, case, number, noticed)
    if ends(due):
        return replace(kept, state=State.GAVE_UP, reason=f"{event.kind}: {text}"), actions
    if Response.REBOOT in due:
        rebooted, boots = boot(kept, case, kept.phase, kept.attempt + 1)
        return rebooted, (*actions, *boots)
    return kept, actions


def orders(role: Executor, case: Case, number: int, noticed: Noticed) -> tuple[do.Action, ...]:
    """The orders of one incident: what is told to members, what is done to the Machine."""
    found: list[do.Action] = []
    if Response.REPORT in noticed.responses:
        report = do.ReportIncident(
            commitment=case.commitment,
            members=case.members,
            phase=Phase.DURING if released(role) else role.phase,
            attempt=role.attempt,
            number=number,
            kind=noticed.kind,
            text=noticed.text,
            ended=ends(noticed.responses) or Response.REBOOT in noticed.responses,
        )
        found.append(report)
    if not noticed.done:
        respond = do.RespondToIncident(
            commitment=case.commitment,
            resume=role.resume,
            number=number,
            kind=noticed.kind,
            text=noticed.text,
            responses=tuple(r for r in noticed.responses if r is not Response.REPORT),
        )
        found.append(respond)
    return tuple(found)


def released(role: Executor) -> bool:
    """Whether the boot is the one of the record, to which owners release keys."""
    return role.state in (State.ADMITTING, State.RUNNING, State.CLEANING)


def on_handled(role: Executor, event: ev.IncidentHandled, case: Case, me: Me) -> Step:
    """Note that it is done; a reorganised chain may have taken the Case back meanwhile."""
    if event.number >= len(role.noticed):
        return role, ()
    noticed = list(role.noticed)
    noticed[event.number] = replace(noticed[event.number], done=True)
    return replace(role, noticed=tuple(noticed)), ()
