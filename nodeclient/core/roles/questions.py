"""A member's rules during the run: what was asked, what came back, what was reported.

They are rows of the table in ``member``, like all its rules.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.roles import reports
from nodeclient.core.roles.seat import MAX_ANSWERS, Member, Step, merge, reply
from nodeclient.core.types import ZERO_HASH, Phase

if TYPE_CHECKING:
    from nodeclient.core.case import Case, Me


def on_question(role: Member, event: ev.QuestionDrawn, case: Case, me: Me) -> Step:
    return replace(role, asked=(*role.asked, event.nonce)[-MAX_ANSWERS:]), ()


def on_answer(role: Member, event: ev.QuestionAnswered, case: Case, me: Me) -> Step:
    """Remember the answer; the first finding is voted on at once, and never forgotten."""
    answers = role.answers
    if event.evidence_root and len(answers) < MAX_ANSWERS:
        answers = (*answers, (event.nonce, event.evidence_root))
    watch, dropped = role.watch.answered(event.at) if event.evidence_root else (role.watch, ())
    reasons = (*event.reasons, *dropped)
    asked = replace(role, answers=answers, findings=merge(role.findings, reasons), watch=watch)
    if not reasons or role.findings:
        return asked, ()
    order = do.SignDissent(
        commitment=case.commitment,
        task=case.on_chain(),
        phase=Phase.DURING,
        attempt=1,
        header=ZERO_HASH,
    )
    return asked, (order,)


def on_declined(role: Member, event: ev.QuestionDeclined, case: Case, me: Me) -> Step:
    """Honest before and after the run; what it says about the run is seen later."""
    return replace(role, watch=role.watch.declined(event.asked, event.told)), ()


def on_reported(role: Member, event: ev.IncidentReported, case: Case, me: Me) -> Step:
    """Keep what the Executor, and nobody else, tells of its own Machine. No vote follows."""
    if event.sender != case.on_chain().executor:
        return role, (reply(case, event, refusal="only the executor reports on its machine"),)
    return replace(role, reported=reports.keep(role.reported, event)), (reply(case, event),)
