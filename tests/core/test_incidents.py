"""Incidents in the rules: what the Executor orders, what a member keeps, whose vote it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.case import Case, Me
from nodeclient.core.incidents import Kind
from nodeclient.core.responses import Response
from nodeclient.core.roles import reports
from nodeclient.core.roles.boots import MAX_NOTICED
from nodeclient.core.roles.execution import HOLDING, Executor, State
from nodeclient.core.roles.reports import MAX_REPORTS, Reported
from nodeclient.core.task import step
from nodeclient.core.types import Phase, Verdict
from tests.core.test_roles import (
    COMMITMENT,
    OTHER,
    STATEMENT,
    THIRD,
    accepted,
    admitted,
    appraised,
    kinds,
    nonce_asked,
    reply_of,
    running,
    seated_member,
    walk,
)

REPORT, BAN, STOP, REBOOT, OFF = Response


def noticed(kind: Kind, text: str = "seen") -> ev.IncidentNoticed:
    return ev.IncidentNoticed(commitment=COMMITMENT, kind=kind, text=text, at=1_000)


def in_state(state: State, phase: Phase = Phase.BEFORE, attempt: int = 1) -> tuple[Case, Me]:
    """The executor of a running task, put into a state."""
    case, who = running()
    assert case.executor is not None
    role = replace(case.executor, state=state, phase=phase, attempt=attempt)
    return replace(case, executor=role), who


def role_of(case: Case) -> Executor:
    assert case.executor is not None
    return case.executor


def test_stray__thrice__reported_each_time_then_stopped_cut_and_banned() -> None:
    case, who = in_state(State.RUNNING)
    case, first = step(case, noticed(Kind.STRAY), who)
    case, _ = step(case, noticed(Kind.STRAY), who)
    assert kinds(first) == ["ReportIncident"]
    assert isinstance(first[0], do.ReportIncident)
    assert (first[0].phase, first[0].ended) == (Phase.DURING, False)
    assert role_of(case).state is State.RUNNING
    case, last = step(case, noticed(Kind.STRAY), who)
    assert kinds(last) == ["ReportIncident", "RespondToIncident"]
    assert isinstance(last[1], do.RespondToIncident)
    assert last[1].responses == (BAN, STOP, OFF)
    assert last[1].resume == role_of(case).resume
    assert role_of(case).state is State.GAVE_UP
    assert role_of(case).reason == "stray: seen"
    assert [each.done for each in role_of(case).noticed] == [True, True, False]
    case, _ = step(case, ev.IncidentHandled(commitment=COMMITMENT, number=2), who)
    assert all(each.done for each in role_of(case).noticed)


@pytest.mark.parametrize("state", HOLDING)
def test_hardware__wherever_the_machine_holds_the_task__given_up(state: State) -> None:
    case, who = in_state(state)
    case, actions = step(case, noticed(Kind.HARDWARE), who)
    assert role_of(case).state is State.GAVE_UP
    assert [a.responses for a in actions if isinstance(a, do.RespondToIncident)] == [(STOP, OFF)]


@pytest.mark.parametrize("state", [s for s in State if s not in HOLDING])
def test_incident__no_task_on_the_machine__changes_nothing(state: State) -> None:
    case, who = in_state(state)
    assert step(case, noticed(Kind.APPRAISAL), who) == (case, ())


def test_silence__before_any_key_was_released__boots_again_with_the_next_attempt() -> None:
    case, who = in_state(State.POLLING)
    case, actions = step(case, noticed(Kind.SILENCE), who)
    assert kinds(actions) == ["ReportIncident", "BootMachine"]
    assert isinstance(actions[0], do.ReportIncident)
    assert (actions[0].phase, actions[0].attempt, actions[0].ended) == (Phase.BEFORE, 1, True)
    assert (role_of(case).state, role_of(case).attempt) == (State.BOOTING, 2)


@pytest.mark.parametrize("state", [State.ADMITTING, State.RUNNING])
def test_silence__once_keys_may_be_released__power_goes_and_nothing_boots(state: State) -> None:
    case, who = in_state(state)
    case, actions = step(case, noticed(Kind.SILENCE), who)
    assert kinds(actions) == ["ReportIncident", "RespondToIncident"]
    assert isinstance(actions[1], do.RespondToIncident)
    assert actions[1].responses == (OFF,)
    assert role_of(case).state is State.GAVE_UP


def test_silence__no_attempt_left__power_goes() -> None:
    case, who = in_state(State.POLLING, attempt=3)
    case, actions = step(case, noticed(Kind.SILENCE), who)
    assert "BootMachine" not in kinds(actions)
    assert role_of(case).state is State.GAVE_UP


def test_operator_wants_nothing_done__kept_and_nothing_ordered() -> None:
    case, who = in_state(State.RUNNING)
    case, actions = step(case, noticed(Kind.STRAY), replace(who, responses={}))
    assert actions == ()
    assert [each.done for each in role_of(case).noticed] == [True]


def test_flood__bounded() -> None:
    case, who = in_state(State.RUNNING)
    who = replace(who, responses={Kind.STRAY: ((1, (REPORT,)),)})
    orders = 0
    for _ in range(MAX_NOTICED + 50):
        case, actions = step(case, noticed(Kind.STRAY, "x" * 999 + "\n"), who)
        orders += len(actions)
    assert len(role_of(case).noticed) == orders == MAX_NOTICED
    assert all(len(each.text) <= 200 for each in role_of(case).noticed)


def test_machine_booted_after_the_task_was_given_up__its_power_goes() -> None:
    case, who = in_state(State.BOOTING)
    case, _ = step(case, noticed(Kind.HARDWARE), who)
    late = ev.MachineBooted(
        commitment=COMMITMENT,
        phase=Phase.BEFORE,
        attempt=1,
        session_hpke=b"h" * 32,
        session_signing=b"s" * 64,
        resume=b"late",
    )
    case, (order,) = step(case, late, who)
    assert isinstance(order, do.PowerOff)
    assert order.resume == b"late"
    assert role_of(case).state is State.GAVE_UP


# ------------------------------------------------------------------------------------- member


def told(
    phase: Phase = Phase.DURING, attempt: int = 1, ended: bool = True, sender: bytes = OTHER
) -> ev.IncidentReported:
    return ev.IncidentReported(
        sender=sender,  # type: ignore[arg-type]
        request=9,
        commitment=COMMITMENT,
        phase=phase,
        attempt=attempt,
        kind=Kind.STRAY,
        text="udp",
        ended=ended,
    )


def questioning() -> tuple[Case, Me]:
    who, events = seated_member()
    case, _ = walk(who, *events, accepted(), admitted())
    return case, who


def test_report__of_somebody_else__refused_and_not_kept() -> None:
    case, who = questioning()
    after, actions = step(case, told(sender=THIRD), who)
    assert "only the executor" in reply_of(actions).refusal
    assert after.member == case.member


def test_report__of_the_executor__is_kept_once_and_costs_it_no_vote() -> None:
    """A vote against would cost it a whole unit; who hides and gives up loses a quarter."""
    case, who = questioning()
    case, actions = step(case, told(), who)
    assert kinds(actions) == ["Reply"]
    assert not reply_of(actions).refusal
    again, _ = step(case, told(), who)
    assert again == case
    assert case.member is not None
    assert case.member.votes == case.member.findings == ()
    assert [str(each) for each in case.member.reported] == [
        "reported: DURING 1: stray: udp, and gave the boot up"
    ]


def test_report__run_given_up__after_is_not_appraised_even_if_a_vote_was_cast() -> None:
    case, who = questioning()
    assert case.member is not None
    before = case
    for case in (before, cast_after(before)):
        case, _ = step(case, told(), who)
        _, actions = step(case, appraisal(), who)
        assert kinds(actions) == ["Reply"]
        assert "gave this boot up" in reply_of(actions).refusal
    case, _ = step(before, told(ended=False), who)
    _, actions = step(cast_after(case), appraisal(), who)
    assert not reply_of(actions).refusal, "a report alone decides nothing: the Evidence does"


def cast_after(case: Case) -> Case:
    assert case.member is not None
    cast = replace(appraised(Verdict.AFFIRMING).vote, phase=Phase.AFTER)
    return replace(case, member=replace(case.member, votes=(cast,)))


def appraisal() -> ev.AppraisalAsked:
    return ev.AppraisalAsked(
        sender=OTHER,
        request=3,
        commitment=COMMITMENT,
        phase=Phase.AFTER,
        statement=STATEMENT,
        evidence=b"e",
        nonces=(),
    )


def test_reports__block_the_boot_that_was_given_up_and_no_other() -> None:
    def kept(*given: tuple[Phase, int]) -> tuple[Reported, ...]:
        return tuple(Reported(phase, n, Kind.SILENCE, "", True) for phase, n in given)

    before = kept((Phase.BEFORE, 1))
    assert reports.is_blocked(before, Phase.BEFORE, 1)
    assert not reports.is_blocked(before, Phase.BEFORE, 2)
    assert not reports.is_blocked(before, Phase.AFTER, 1)
    during = kept((Phase.DURING, 1))
    assert reports.is_blocked(during, Phase.AFTER, 1)
    assert reports.is_blocked(during, Phase.AFTER, 7)
    after = kept((Phase.AFTER, 1))
    assert not reports.is_blocked(after, Phase.AFTER, 2)
    assert not reports.is_blocked((), Phase.AFTER, 1)


def test_reports__flood__bounded_and_the_end_of_a_boot_always_finds_room() -> None:
    kept: tuple[Reported, ...] = ()
    for number in range(500):
        kept = reports.keep(kept, replace(told(ended=False), text=str(number)))
    assert len(kept) == MAX_REPORTS
    kept = reports.keep(kept, told())
    kept = reports.keep(kept, replace(told(), text="again"))
    assert len(kept) == MAX_REPORTS + 1
    assert reports.is_blocked(kept, Phase.AFTER, 1)


# --------------------------------------------------------------------- questions of a member


def answer(at: int, *reasons: str, root: bytes = b"r" * 32) -> ev.QuestionAnswered:
    return ev.QuestionAnswered(
        commitment=COMMITMENT,
        nonce=bytes([at % 251]) * 32,
        evidence_root=root,
        reasons=reasons,
        at=at,
    )


def declined(at: int) -> ev.QuestionDeclined:
    return ev.QuestionDeclined(commitment=COMMITMENT, asked=at, told=at + 1)


def test_member__declined_between_two_answers__votes_against_and_keeps_it() -> None:
    case, who = questioning()
    for event in (declined(1), answer(2), declined(3)):
        case, actions = step(case, event, who)
        assert actions == ()
    case, actions = step(case, answer(4), who)
    assert kinds(actions) == ["SignDissent"]
    for event in (answer(5), declined(6)):
        case, actions = step(case, event, who)
        assert actions == ()
    assert case.member is not None
    assert [each.partition(":")[0] for each in case.member.findings] == ["dropped"]


def test_member__silence_then_good_answers__the_finding_stays() -> None:
    case, who = questioning()
    case, actions = step(case, answer(1, "silence: the machine did not answer", root=b""), who)
    assert kinds(actions) == ["SignDissent"]
    case, actions = step(case, answer(2), who)
    case, _ = step(case, answer(3, "silence: again", root=b""), who)
    assert actions == ()
    assert case.member is not None
    assert case.member.findings[0] == "silence: the machine did not answer"
    assert len(case.member.findings) == 2


def test_member__its_own_view_of_the_time__goes_into_the_appraisal_of_after() -> None:
    case, who = questioning()
    assert case.member is not None
    case = replace(case, member=replace(case.member, before_root=case.before_root))
    for event in (declined(1_000), answer(2_000), declined(9_000)):
        case, _ = step(case, event, who)
    case, _ = step(case, replace(nonce_asked(1, b"n" * 32), phase=Phase.AFTER), who)
    _, actions = step(case, appraisal(), who)
    (order,) = (each for each in actions if isinstance(each, do.AppraiseEvidence))
    assert order.longest == 8_001
