"""A Committee member: a Verifier that gives nonces, appraises, asks during the run, and votes.

::

    SEATED -> BRIEFED -> (TaskAdmitted) QUESTIONING -> CLOSED

What a member said once it says again, for ever: its first nonce and its first vote of a (phase,
attempt) are kept before they are sent, because two differing votes are a slashable fact. A finding
is sticky: a later good answer does not launder it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.roles import bars, reports
from nodeclient.core.roles.questions import (
    on_answer,
    on_declined,
    on_question,
    on_reported,
)
from nodeclient.core.roles.seat import (
    LIVE,
    MAX_ATTEMPTS,
    READY,
    Member,
    State,
    Step,
    merge,
    reply,
)
from nodeclient.core.roles.table import build_table
from nodeclient.core.types import (
    Ballot,
    Phase,
    TaskState,
    Verdict,
    Vote,
    quorum_of,
)

if TYPE_CHECKING:
    from nodeclient.core.case import Case, Me

__all__ = ["TABLE", "Member", "State"]


def on_brief(role: Member, event: ev.BriefReceived, case: Case, me: Me) -> Step:
    """Keep it, and relay it: a requester cannot leave out the Executor and blame it."""
    task = case.on_chain()
    relay = do.SendBrief(
        commitment=case.commitment,
        task=task,
        executor=task.executor,
        members=(),
        spec=event.spec,
        consents=event.consents,
    )
    briefed = replace(role, spec=event.spec)
    if role.state is State.SEATED:
        briefed = replace(briefed, state=State.BRIEFED)
    return briefed, (reply(case, event), relay)


def on_late_brief(role: Member, event: ev.BriefReceived, case: Case, me: Me) -> Step:
    """The run began without this member. It learns what BEFORE showed, and takes part from now."""
    if role.spec:
        return on_brief_again(role, event, case, me)
    briefed, actions = on_brief(role, event, case, me)
    return briefed, (*actions, learn_before(case, case.before_root))


def on_brief_again(role: Member, event: ev.BriefReceived, case: Case, me: Me) -> Step:
    return role, (reply(case, event),)


def on_nonce(role: Member, event: ev.NonceAsked, case: Case, me: Me) -> Step:
    """The first nonce of a (phase, attempt) stays; only the Executor gets one.

    A nonce promises an appraisal, so a member that cannot make one yet gives none: it would have
    to contraindicate an honest Executor for what it does not know itself.
    """
    if event.sender != case.on_chain().executor:
        return role, (reply(case, event, refusal="only the executor of the task gets a nonce"),)
    wanted = TaskState.ACCEPTED if event.phase is Phase.BEFORE else TaskState.ADMITTED
    if event.phase is Phase.DURING or case.state is not wanted:
        return role, (reply(case, event, refusal=f"the task is not in state {wanted.name} yet"),)
    if not role.spec or (event.phase is Phase.AFTER and role.before_root != case.before_root):
        return role, (reply(case, event, refusal="this member lacks TaskSpec or BEFORE Evidence"),)
    known = role.nonce_of(event.phase, event.attempt)
    if known:
        return role, (reply(case, event, known),)
    if not 0 < event.attempt <= MAX_ATTEMPTS:
        return role, (reply(case, event, refusal="no further attempt is appraised"),)
    given = (*role.nonces, (event.phase, event.attempt, event.fresh))
    return replace(role, nonces=given), (reply(case, event, event.fresh),)


def on_nonce_unbriefed(role: Member, event: ev.NonceAsked, case: Case, me: Me) -> Step:
    return role, (reply(case, event, refusal="this member has no TaskSpec yet"),)


def on_appraisal(role: Member, event: ev.AppraisalAsked, case: Case, me: Me) -> Step:
    """Appraise what answers this member's own nonce; repeat a vote that was cast."""
    phase, attempt = event.phase, event.statement.attempt
    if event.sender != case.on_chain().executor:
        return role, (reply(case, event, refusal="only the executor of the task is appraised"),)
    if reports.is_blocked(role.reported, phase, attempt):
        # Withheld, also one that was cast: it was about a boot that the Executor itself gave up.
        refusal = "the executor reported that it gave this boot up; it is not affirmed"
        return role, (reply(case, event, refusal=refusal),)
    if bars.executor_barred(case) or me.address in case.barred:
        return role, (reply(case, event, refusal="a vote barred this hardware"),)
    cast = role.vote_of(phase, attempt)
    if cast is not None:
        return role, (reply(case, event, cast),)
    nonce = role.nonce_of(phase, attempt)
    if not nonce:
        return role, (reply(case, event, refusal="this member gave no nonce for the attempt"),)
    # The vote goes out when it is kept: the Executor asks again and finds it cast.
    wait = reply(case, event, refusal="appraising; ask again")
    if role.appraising == (phase, attempt):
        return role, (wait,)
    order = do.AppraiseEvidence(
        commitment=case.commitment,
        task=case.on_chain(),
        spec=role.spec,
        members=case.members,
        phase=phase,
        statement=event.statement,
        evidence=event.evidence,
        nonces=event.nonces,
        own_nonce=nonce,
        asked=role.asked,
        answers=role.answers,
        before=role.before,
        findings=role.findings,
        longest=role.watch.longest,
    )
    return replace(role, appraising=(phase, attempt)), (order, wait)


def on_appraised(role: Member, event: ev.EvidenceAppraised, case: Case, me: Me) -> Step:
    """Keep the first vote of the (phase, attempt); share a contraindication."""
    if role.vote_of(event.phase, event.vote.attempt) is not None:
        return role, ()
    voted = replace(
        role,
        votes=(*role.votes, event.vote),
        findings=merge(role.findings, event.reasons),
    )
    if event.vote.verdict is Verdict.AFFIRMING:
        if event.phase is Phase.BEFORE:
            voted = replace(voted, before=event.summary, before_root=event.evidence_root)
        else:
            voted = replace(voted, after=event.summary)
        return voted, ()
    share = do.ShareVote(commitment=case.commitment, members=case.members, vote=event.vote)
    counted, more = count_dissent(voted, event.vote, case, me)
    return counted, (share, *more)


def on_admitted(role: Member, event: ev.TaskAdmitted, case: Case, me: Me) -> Step:
    """Ask at own times. A member that did not affirm *this* BEFORE Evidence (it was late, or saw
    another attempt) learns first what the record says."""
    questioning = replace(role, state=State.QUESTIONING)
    if not role.spec:
        return questioning, ()  # nobody sent the TaskSpec: there is nothing to hold answers against
    if role.before_root == event.evidence_root:
        return questioning, (ask_during(questioning, case),)
    return questioning, (learn_before(case, event.evidence_root),)


def learn_before(case: Case, evidence_root: bytes) -> do.LearnBefore:
    """The order to fetch the Evidence behind the record."""
    return do.LearnBefore(
        commitment=case.commitment, task=case.on_chain(), evidence_root=evidence_root
    )


def on_learned(role: Member, event: ev.BeforeLearned, case: Case, me: Me) -> Step:
    learned = replace(role, before=event.summary, before_root=event.evidence_root)
    return learned, (ask_during(learned, case),)


def ask_during(role: Member, case: Case) -> do.AskDuring:
    """The order to ask until the Task is over."""
    return do.AskDuring(
        commitment=case.commitment,
        task=case.on_chain(),
        spec=role.spec,
        before=role.before,
    )


def on_dissent(role: Member, event: ev.DissentSigned, case: Case, me: Me) -> Step:
    if role.vote_of(event.vote.phase, event.vote.attempt) is not None:
        return role, ()
    voted = replace(role, votes=(*role.votes, event.vote))
    share = do.ShareVote(commitment=case.commitment, members=case.members, vote=event.vote)
    counted, more = count_dissent(voted, event.vote, case, me)
    return counted, (share, *more)


def on_fellow_vote(role: Member, event: ev.VoteReceived, case: Case, me: Me) -> Step:
    counted, more = count_dissent(role, event.vote, case, me)
    return counted, (reply(case, event), *more)


def count_dissent(role: Member, vote: Vote, case: Case, me: Me) -> Step:
    """Collect contraindicated votes over one digest; a quorum of them refuses the Task.

    The bound is each member's own: one that sends votes over ever new headers must not take the
    room of the others.
    """
    seats = {member: seat for seat, member in enumerate(case.members)}
    if vote.verdict is not Verdict.CONTRAINDICATED or vote.member not in seats:
        return role, ()
    if any(v.member == vote.member and digest_of(v) == digest_of(vote) for v in role.dissent):
        return role, ()
    if sum(v.member == vote.member for v in role.dissent) >= MAX_ATTEMPTS:
        return role, ()
    gathered = replace(role, dissent=(*role.dissent, vote))
    same = [v for v in gathered.dissent if digest_of(v) == digest_of(vote)]
    if len(same) < quorum_of(len(case.members)) or role.refused:
        return gathered, ()
    same.sort(key=lambda v: seats[v.member])
    order = do.SubmitRefuse(
        commitment=case.commitment,
        task=case.on_chain(),
        members=case.members,
        phase=vote.phase,
        attempt=vote.attempt,
        header=vote.header,
        ballot=Ballot(
            valid_until=vote.valid_until,
            voters=sum(1 << seats[v.member] for v in same),
            signatures=tuple((v.r, v.vs) for v in same),
        ),
    )
    return replace(gathered, refused=True), (order,)


def digest_of(vote: Vote) -> tuple[object, ...]:
    """What all votes of one ballot must have in common."""
    return (vote.phase, vote.attempt, vote.header, vote.verdict, vote.valid_until)


def on_block(role: Member, event: ev.BlockSeen, case: Case, me: Me) -> Step:
    """End a Task that is barred, or whose deadline is long over, when its requester does not."""
    if me.address not in case.members:
        return role, ()
    number, place = event.block.number, 1 + case.members.index(me.address)
    order = bars.ending(case, me, number, place, role.expire_tried_at)
    if order is None or role.expiring or number < role.expire_tried_at + bars.PAUSE:
        return role, ()
    return replace(role, expiring=True, expire_tried_at=number), (order,)


def on_rejected(role: Member, event: ev.TransactionRejected, case: Case, me: Me) -> Step:
    """An expiry that the market refused may be tried again; an unanswered one is still out."""
    return replace(role, expiring=role.expiring and event.order not in bars.ORDERS), ()


def on_drawn_again(role: Member, event: ev.CommitteeDrawn, case: Case, me: Me) -> Step:
    """A reorganised chain tells the draw again, and it may be another one. What was promised and
    voted stays: it binds whatever seat this member has."""
    if me.address not in event.members:
        return replace(role, state=State.CLOSED), ()
    return replace(role, state=State.SEATED) if role.state is State.CLOSED else role, ()


def on_over(role: Member, event: ev.TaskEvent, case: Case, me: Me) -> Step:
    return replace(role, state=State.CLOSED), ()


def on_settled(role: Member, event: ev.TaskSettled, case: Case, me: Me) -> Step:
    """A dissent, or a vote that the Executor left out, is no silence: show it while it counts."""
    closed = replace(role, state=State.CLOSED)
    if me.address not in case.members or event.voters >> case.members.index(me.address) & 1:
        return closed, ()
    cast = [vote for vote in role.votes if vote.phase is not Phase.BEFORE]
    unheard = replace(closed, unheard=True)
    return show(unheard, cast[-1], case, me) if cast else (unheard, ())


def show(role: Member, vote: Vote, case: Case, me: Me) -> Step:
    """The order to bring this member's vote on chain."""
    order = do.SubmitExcuse(
        commitment=case.commitment,
        members=case.members,
        seat=case.members.index(me.address),
        vote=vote,
    )
    return replace(role, unheard=False), (order,)


def on_late_vote(
    role: Member, event: ev.EvidenceAppraised | ev.DissentSigned, case: Case, me: Me
) -> Step:
    """The Executor's ballot was full before this member had judged, say because it kept its results
    back from it: the vote is cast all the same, and shown."""
    vote = event.vote
    late = role.unheard and vote.phase is not Phase.BEFORE
    if not late or role.vote_of(vote.phase, vote.attempt) is not None:
        return role, ()
    return show(replace(role, votes=(*role.votes, vote)), vote, case, me)


def on_late_question(role: Member, event: ev.PeerEvent, case: Case, me: Me) -> Step:
    return role, (reply(case, event, refusal="the task is over"),)


def on_appraisal_unbriefed(role: Member, event: ev.AppraisalAsked, case: Case, me: Me) -> Step:
    return role, (reply(case, event, refusal="this member has no TaskSpec yet"),)


def on_late_appraisal(role: Member, event: ev.AppraisalAsked, case: Case, me: Me) -> Step:
    cast = role.vote_of(event.phase, event.statement.attempt)
    refusal = "" if cast else "the task is over"
    return role, (reply(case, event, cast, refusal),)


TABLE = build_table(
    handled={
        (State.SEATED, ev.BriefReceived): on_brief,
        (State.SEATED, ev.NonceAsked): on_nonce_unbriefed,
        (State.SEATED, ev.AppraisalAsked): on_appraisal_unbriefed,
        (State.BRIEFED, ev.BriefReceived): on_brief_again,
        (State.QUESTIONING, ev.BriefReceived): on_late_brief,
        (State.QUESTIONING, ev.BeforeLearned): on_learned,
        (State.CLOSED, ev.NonceAsked): on_late_question,
        (State.CLOSED, ev.AppraisalAsked): on_late_appraisal,
        (State.CLOSED, ev.VoteReceived): on_late_question,
        (State.CLOSED, ev.BriefReceived): on_brief_again,
        (State.CLOSED, ev.IncidentReported): on_late_question,
        (State.CLOSED, ev.EvidenceAppraised): on_late_vote,
        (State.CLOSED, ev.DissentSigned): on_late_vote,
    },
    everywhere={
        ev.CommitteeDrawn: (State, on_drawn_again),
        ev.NonceAsked: (READY, on_nonce),
        ev.AppraisalAsked: (READY, on_appraisal),
        ev.EvidenceAppraised: (READY, on_appraised),
        ev.TaskAdmitted: ((State.SEATED, State.BRIEFED), on_admitted),
        ev.QuestionAnswered: ((State.QUESTIONING,), on_answer),
        ev.QuestionDrawn: ((State.QUESTIONING,), on_question),
        ev.QuestionDeclined: ((State.QUESTIONING,), on_declined),
        ev.IncidentReported: (LIVE, on_reported),
        ev.DissentSigned: (READY, on_dissent),
        ev.VoteReceived: (LIVE, on_fellow_vote),
        ev.BlockSeen: (LIVE, on_block),
        ev.TransactionRejected: (LIVE, on_rejected),
        ev.TaskSettled: (LIVE, on_settled),
        ev.TaskFailed: (LIVE, on_over),
        ev.TaskExpired: (LIVE, on_over),
    },
    ignoring={
        ev.BlockSeen: (State.CLOSED,),
        ev.TransactionMined: tuple(State),
        ev.TransactionRejected: (State.CLOSED,),
        ev.ActionDone: tuple(State),
        # An answer may come in after the Task has ended.
        ev.BeforeLearned: (State.CLOSED,),
        ev.QuestionDrawn: (State.CLOSED,),
        ev.QuestionAnswered: (State.CLOSED,),
        ev.QuestionDeclined: (State.CLOSED,),
        # What a reorganised chain tells again.
        ev.TaskAdmitted: (State.QUESTIONING, State.CLOSED),
        ev.TaskSettled: (State.CLOSED,),
        ev.TaskFailed: (State.CLOSED,),
        ev.TaskExpired: (State.CLOSED,),
    },
)
