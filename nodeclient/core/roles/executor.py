"""The Executor: claims, boots its Machine, proves it before and after, and finishes.

::

                   +- it accepts in its own draw ---v
    WATCHING -> LEADING -> DRAWN -> ACCEPTING -> BOOTING -> PREPARING -> GATHERING -> PROVING
       |           |                                ^                                    |
     CLOSED      CLOSED                             | AFTER             POLLING <--------+
                                                    |                      |
                              CLEANING <- RUNNING <- ADMITTING  (BEFORE) --+-- (AFTER) FINISHING
                                 |                                                        |
                                 +--> BOOTING with phase AFTER                          DONE

BOOTING to POLLING is walked twice, with ``phase`` BEFORE and AFTER. A Machine that is lost before
the BEFORE record boots again with the next attempt; one that is lost while it holds released keys
cannot be repaired, because no owner releases a second key: the Node gives up and the Task expires.
What the Node notices of its own Machine meanwhile (``boots.on_incident``) ends in one of the two.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.formats.hashes import sha256
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.roles import bars
from nodeclient.core.roles.boots import boot, give_up, on_handled, on_incident, on_lost
from nodeclient.core.roles.execution import (
    AT_REST,
    ENDED,
    HOLDING,
    ON_MACHINE,
    SEATED,
    Executor,
    State,
    Step,
)
from nodeclient.core.roles.race import (
    on_block_once_seated,
    on_block_while_leading,
    on_block_while_watching,
    on_claim_rejected,
    on_claimed,
    on_draw_rejected,
    on_end_rejected,
    on_ticket,
    on_vetted_before_the_draw,
)
from nodeclient.core.roles.table import build_table
from nodeclient.core.types import Ballot, Phase, TaskState

if TYPE_CHECKING:
    from nodeclient.core.case import Case, Me

__all__ = ["TABLE", "Executor", "State"]


def on_drawn(role: Executor, event: ev.CommitteeDrawn, case: Case, me: Me) -> Step:
    """Go on as far as the TaskSpec, which may have come before the draw, allows."""
    if event.executor != me.address:
        return replace(role, state=State.CLOSED), ()
    if role.reason:
        return replace(role, state=State.GAVE_UP), ()
    return take_up(role, case) if role.willing else (replace(role, state=State.DRAWN), ())


def take_up(role: Executor, case: Case) -> Step:
    """Boot for what the own draw accepted; otherwise accept first."""
    if case.state is TaskState.ACCEPTED:
        return boot(role, case, Phase.BEFORE, attempt=1)
    accept = do.SubmitAccept(commitment=case.commitment, task=case.on_chain())
    return replace(role, state=State.ACCEPTING), (accept,)


def on_drawn_again(role: Executor, event: ev.CommitteeDrawn, case: Case, me: Me) -> Step:
    """A reorganised chain tells the draw again, and it may be another one.

    The order to accept is repeated for the Task as it stands now; an unchanged one is sent once.
    """
    if event.executor != me.address:
        return on_ended(role, event, case, me)
    if role.state in (State.DRAWN, State.GAVE_UP):
        return role, ()
    if case.state is TaskState.ACCEPTED:
        return take_up(role, case) if role.state is State.ACCEPTING else (role, ())
    return role, (do.SubmitAccept(commitment=case.commitment, task=case.on_chain()),)


def on_drawn_after_all(role: Executor, event: ev.CommitteeDrawn, case: Case, me: Me) -> Step:
    """Out of the race on the chain as it was; a reorganised one may have drawn this Node."""
    if event.executor != me.address:
        return role, ()
    # What was vetted stays so: the same order is not carried out twice.
    return on_drawn(Executor(spec=role.spec, willing=role.willing), event, case, me)


def on_brief(role: Executor, event: ev.BriefReceived, case: Case, me: Me) -> Step:
    """The opening is here, to a leader or after the draw: look whether this Node can run it."""
    answer = do.Reply(commitment=case.commitment, request=event.request)
    if role.spec:
        return role, (answer,)
    vet = do.VetTask(commitment=case.commitment, spec=event.spec)
    return replace(role, spec=event.spec), (answer, vet)


def on_brief_too_early(role: Executor, event: ev.BriefReceived, case: Case, me: Me) -> Step:
    """The sender saw the claim or the draw before this Node did: it sends again."""
    refusal = "this node neither leads the task nor was drawn for it, as far as it sees"
    reply = do.Reply(commitment=case.commitment, request=event.request, refusal=refusal)
    return role, (reply,)


def on_brief_again(role: Executor, event: ev.BriefReceived, case: Case, me: Me) -> Step:
    return role, (do.Reply(commitment=case.commitment, request=event.request),)


def on_vetted(role: Executor, event: ev.TaskVetted, case: Case, me: Me) -> Step:
    """Accept what this Node can run; leave the rest to the deadline, which slashes nobody."""
    if event.reasons:
        return replace(role, state=State.GAVE_UP, reason="; ".join(event.reasons)), ()
    return take_up(replace(role, willing=True), case)


def on_accepted(role: Executor, event: ev.TaskAccepted, case: Case, me: Me) -> Step:
    return boot(role, case, Phase.BEFORE, attempt=1)


def on_booted(role: Executor, event: ev.MachineBooted, case: Case, me: Me) -> Step:
    """BEFORE: the fresh Agent gets the Task. AFTER: it gets nothing, it only states what it is."""
    if (event.phase, event.attempt) != (role.phase, role.attempt):
        return role, ()
    booted = replace(
        role,
        resume=event.resume,
        session_hash=sha256(event.session_hpke + event.session_signing),
    )
    if role.phase is Phase.AFTER:
        return gather(booted, case)
    order = do.PrepareTask(
        commitment=case.commitment,
        task=case.on_chain(),
        spec=role.spec,
        resume=event.resume,
        attempt=role.attempt,
    )
    return replace(booted, state=State.PREPARING), (order,)


def on_booted_in_vain(role: Executor, event: ev.MachineBooted, case: Case, me: Me) -> Step:
    """This Node gave the Task up while its Machine was on the way."""
    off = do.PowerOff(commitment=case.commitment, resume=event.resume)
    return role, (off,)


def on_prepared(role: Executor, event: ev.TaskPrepared, case: Case, me: Me) -> Step:
    """From here on the Machine holds the Task: this Node watches it by itself, too."""
    monitor = do.MonitorMachine(
        commitment=case.commitment,
        task=case.on_chain(),
        spec=role.spec,
        resume=role.resume,
        session_hash=role.session_hash,
        attempt=role.attempt,
    )
    gathering, actions = gather(role, case)
    return gathering, (*actions, monitor)


def gather(role: Executor, case: Case) -> Step:
    """Ask the Committee for the nonces of this (phase, attempt)."""
    order = do.CollectNonces(
        commitment=case.commitment,
        task=case.on_chain(),
        members=case.members,
        phase=role.phase,
        attempt=role.attempt,
    )
    return replace(role, state=State.GATHERING), (order,)


def on_nonces(role: Executor, event: ev.NoncesCollected, case: Case, me: Me) -> Step:
    if (event.phase, event.attempt) != (role.phase, role.attempt):
        return role, ()
    order = do.TakeEvidence(
        commitment=case.commitment,
        task=case.on_chain(),
        phase=role.phase,
        attempt=role.attempt,
        nonces=event.nonces,
        resume=role.resume,
        session_hash=role.session_hash,
        during=role.during,
        transcript=role.transcript,
    )
    return replace(role, state=State.PROVING, nonces=event.nonces), (order,)


def on_evidence(role: Executor, event: ev.EvidenceTaken, case: Case, me: Me) -> Step:
    if (event.phase, event.statement.attempt) != (role.phase, role.attempt):
        return role, ()
    order = do.CollectVotes(
        commitment=case.commitment,
        task=case.on_chain(),
        members=case.members,
        phase=role.phase,
        statement=event.statement,
        nonces=role.nonces,
    )
    return replace(role, state=State.POLLING, statement=event.statement), (order,)


def on_ballot(role: Executor, event: ev.BallotCollected, case: Case, me: Me) -> Step:
    """A quorum affirmed: bring the record on chain."""
    if role.statement is None:
        raise ValueError("votes were collected without a statement")
    order = do.SubmitRecord(
        commitment=case.commitment,
        task=case.on_chain(),
        members=case.members,
        phase=role.phase,
        statement=role.statement,
        ballot=Ballot(event.valid_until, event.voters, event.signatures),
    )
    state = State.ADMITTING if role.phase is Phase.BEFORE else State.FINISHING
    return replace(role, state=state), (order,)


def on_record_rejected(role: Executor, event: ev.TransactionRejected, case: Case, me: Me) -> Step:
    """A ballot that came too late is collected anew: same header, later ``valid_until``."""
    if event.order in bars.ORDERS:
        return on_end_rejected(role, event, case, me)
    if event.order not in ("admit", "finish") or role.statement is None:
        return role, ()
    if role.attempt >= me.boot_limit:
        return give_up(role, case, f"{event.order} was rejected: {event.reason}")
    return gather(replace(role, attempt=role.attempt + 1, nonces=()), case)


def on_admitted(role: Executor, event: ev.TaskAdmitted, case: Case, me: Me) -> Step:
    order = do.WatchMachine(commitment=case.commitment, task=case.on_chain(), resume=role.resume)
    return replace(role, state=State.RUNNING), (order,)


def on_key(role: Executor, event: ev.KeyOffered, case: Case, me: Me) -> Step:
    """Pass an owner's sealed key on; the same key again is only acknowledged."""
    answer = do.Reply(commitment=case.commitment, request=event.request)
    if event.cid in role.keys:
        return role, (answer,)
    deliver = do.DeliverKey(
        commitment=case.commitment, cid=event.cid, sealed=event.sealed, resume=role.resume
    )
    return replace(role, keys=(*role.keys, event.cid)), (answer, deliver)


def on_key_out_of_place(role: Executor, event: ev.KeyOffered, case: Case, me: Me) -> Step:
    """After the run a repeated key is acknowledged; before the record none is taken."""
    refusal = "" if event.cid in role.keys else "no machine waits for a key"
    answer = do.Reply(commitment=case.commitment, request=event.request, refusal=refusal)
    return role, (answer,)


def on_ran(role: Executor, event: ev.MachineRan, case: Case, me: Me) -> Step:
    order = do.CleanMachine(commitment=case.commitment, resume=role.resume, before=case.before_root)
    ran = replace(role, state=State.CLEANING, outcome=event.outcome)
    return ran, (order,)


def on_cleaned(role: Executor, event: ev.MachineCleaned, case: Case, me: Me) -> Step:
    cleaned = replace(role, transcript=event.transcript, during=event.during)
    return boot(cleaned, case, Phase.AFTER, attempt=1)


def on_settled(role: Executor, event: ev.TaskSettled, case: Case, me: Me) -> Step:
    off = do.PowerOff(commitment=case.commitment, resume=role.resume)
    tell = do.AnnounceResults(commitment=case.commitment, task=case.on_chain(), spec=role.spec)
    return replace(role, state=State.DONE), (off, tell)


def on_ended(role: Executor, event: ev.TaskEvent, case: Case, me: Me) -> Step:
    off = do.PowerOff(commitment=case.commitment, resume=role.resume)
    return replace(role, state=State.CLOSED), (off,) if role.resume else ()


TABLE = build_table(
    handled={
        (State.WATCHING, ev.BlockSeen): on_block_while_watching,
        (State.WATCHING, ev.TransactionRejected): on_claim_rejected,
        (State.LEADING, ev.BlockSeen): on_block_while_leading,
        (State.LEADING, ev.TransactionRejected): on_draw_rejected,
        (State.WATCHING, ev.BriefReceived): on_brief_too_early,
        (State.LEADING, ev.BriefReceived): on_brief,
        (State.LEADING, ev.TaskVetted): on_vetted_before_the_draw,
        # A reorganised chain may take the lead away meanwhile.
        (State.WATCHING, ev.TaskVetted): on_vetted_before_the_draw,
        (State.DRAWN, ev.BriefReceived): on_brief,
        (State.DRAWN, ev.TaskVetted): on_vetted,
        (State.ACCEPTING, ev.TaskAccepted): on_accepted,
        (State.BOOTING, ev.MachineBooted): on_booted,
        (State.GAVE_UP, ev.MachineBooted): on_booted_in_vain,
        (State.PREPARING, ev.TaskPrepared): on_prepared,
        (State.GATHERING, ev.NoncesCollected): on_nonces,
        (State.PROVING, ev.EvidenceTaken): on_evidence,
        (State.POLLING, ev.BallotCollected): on_ballot,
        (State.ADMITTING, ev.TaskAdmitted): on_admitted,
        (State.ADMITTING, ev.TransactionRejected): on_record_rejected,
        (State.FINISHING, ev.TransactionRejected): on_record_rejected,
        (State.RUNNING, ev.KeyOffered): on_key,
        (State.RUNNING, ev.MachineRan): on_ran,
        (State.CLEANING, ev.MachineCleaned): on_cleaned,
        (State.CLOSED, ev.CommitteeDrawn): on_drawn_after_all,
        **{(state, ev.CommitteeDrawn): on_drawn_again for state in SEATED},
    },
    everywhere={
        ev.TicketEvaluated: ((State.WATCHING, State.LEADING), on_ticket),
        ev.TaskClaimed: ((State.WATCHING, State.LEADING), on_claimed),
        ev.CommitteeDrawn: ((State.WATCHING, State.LEADING), on_drawn),
        ev.BriefReceived: ([s for s in SEATED if s is not State.DRAWN], on_brief_again),
        ev.KeyOffered: ([s for s in State if s is not State.RUNNING], on_key_out_of_place),
        ev.MachineLost: (
            (*ON_MACHINE, State.ADMITTING, State.RUNNING, State.CLEANING),
            on_lost,
        ),
        ev.BlockSeen: (SEATED, on_block_once_seated),
        ev.TransactionRejected: (
            [s for s in SEATED if s not in (State.ADMITTING, State.FINISHING)],
            on_end_rejected,
        ),
        ev.IncidentNoticed: (HOLDING, on_incident),
        ev.IncidentHandled: (State, on_handled),
        ev.TaskSettled: (SEATED, on_settled),
        ev.TaskFailed: ([s for s in State if s not in ENDED], on_ended),
        ev.TaskExpired: ([s for s in State if s not in ENDED], on_ended),
    },
    ignoring={
        ev.BlockSeen: tuple(State),
        ev.TransactionRejected: tuple(State),
        ev.TransactionMined: tuple(State),
        ev.KeyDelivered: tuple(State),
        ev.IncidentNoticed: tuple(State),
        ev.TicketEvaluated: (State.DRAWN, *AT_REST),
        ev.BriefReceived: AT_REST,
        # What a reorganised chain tells again.
        ev.TaskClaimed: tuple(State),
        ev.CommitteeDrawn: (State.DONE,),
        ev.TaskAccepted: tuple(State),
        ev.TaskAdmitted: tuple(State),
        ev.TaskSettled: tuple(State),
        ev.TaskFailed: ENDED,
        ev.TaskExpired: ENDED,
        # A Machine that this Node gave up, or a Task that ended meanwhile, may still answer.
        **dict.fromkeys(
            (
                ev.TaskVetted,
                ev.MachineBooted,
                ev.TaskPrepared,
                ev.NoncesCollected,
                ev.EvidenceTaken,
                ev.BallotCollected,
                ev.MachineRan,
                ev.MachineCleaned,
                ev.MachineLost,
            ),
            AT_REST,
        ),
    },
)
