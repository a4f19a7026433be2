"""The rules, one step at a time: what each role orders, and what it never orders twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.formats.taskspec import (
    FunctionRef,
    Input,
    Limits,
    Receiver,
    TaskSpec,
    commit,
    commitment_of,
)
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.case import Case, Me, Role
from nodeclient.core.roles import broker, executor, member, receiver, requester
from nodeclient.core.roles.table import UnexpectedEvent
from nodeclient.core.task import TABLES, step
from nodeclient.core.types import (
    ZERO_HASH,
    Address,
    BlockRef,
    Commitment,
    DeadlineClass,
    Parameters,
    Phase,
    Statement,
    TaskId,
    TaskState,
    Verdict,
    Vote,
)

CID = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
ME, OTHER, THIRD, OWNER, ASKER = (Address(bytes([n]) * 20) for n in (1, 2, 3, 4, 5))
MEMBERS = (ME, OTHER, THIRD)
ROOT_KEY = (11, 12)
PARAMETERS = Parameters(
    chain_id=31337,
    market=Address(b"m" * 20),
    ledger=Address(b"l" * 20),
    entropy_delay=2,
    claim_window=10,
    draw_window=20,
    lookahead=1,
    posting_fee=1,
    classes=(DeadlineClass(30, 60, 90),) * 4,
)
SPEC = TaskSpec(
    salt=b"s" * 32,
    requester=ASKER,
    number=7,
    function=FunctionRef(CID, ASKER, b"d" * 32),
    command=("/usr/bin/python3", "/capsule/function/main.py"),
    runtime_image=b"i" * 32,
    inputs=(Input("list", CID, OWNER),),
    receivers=(Receiver("owner", OWNER, b"k" * 32),),
    connections=(),
    devices=(),
    limits=Limits(60, 256 << 20, 64 << 20, 32, 1000),
).encode()
COMMITMENT = Commitment(commitment_of(SPEC))
STATEMENT = Statement(1, b"n" * 32, b"e" * 31 + b"\0", b"k" * 32, 1, 2)


def me(address: Address = ME, *roles: Role) -> Me:
    return Me(address=address, roles=frozenset(roles or Role), parameters=PARAMETERS)


def block(number: int) -> BlockRef:
    return BlockRef(number, number.to_bytes(32, "big"))


def at(number: int) -> dict[str, object]:
    return {"block": block(number), "log_index": 0, "tx_hash": ZERO_HASH, "task": TaskId(1)}


def posted(number: int = 10) -> ev.TaskPosted:
    return ev.TaskPosted(
        **at(number),  # type: ignore[arg-type]
        requester=ASKER,
        commitment=COMMITMENT,
        executor_fee=1,
        member_fee=1,
        committee_size=3,
        class_id=0,
    )


def ordered(requester: Address = ASKER) -> ev.TaskOrdered:
    return ev.TaskOrdered(
        sender=requester,
        request=1,
        commitment=COMMITMENT,
        spec=SPEC,
        committee_size=3,
        class_id=0,
        executor_fee=1,
        member_fee=1,
    )


def drawn(
    executor_: Address, members: tuple[Address, ...] = MEMBERS, accepted: bool = False
) -> ev.CommitteeDrawn:
    return ev.CommitteeDrawn(
        **at(25),  # type: ignore[arg-type]
        executor=executor_,
        members=members,
        accepted=accepted,
        root_x=ROOT_KEY[0],
        root_y=ROOT_KEY[1],
    )


def claimed(leader: Address, ticket: int = 5) -> ev.TaskClaimed:
    return ev.TaskClaimed(**at(14), leader=leader, ticket=ticket, beta=b"b" * 32)  # type: ignore[arg-type]


def walk(who: Me, *events: ev.Event) -> tuple[Case, tuple[do.Action, ...]]:
    """Apply events in order; the Case and the actions of the last one."""
    case, actions = Case(COMMITMENT), ()
    for event in events:
        case, actions = step(case, event, who)
    return case, actions


def brief(sender: Address = ASKER, request: int = 1) -> ev.BriefReceived:
    return ev.BriefReceived(
        sender=sender, request=request, commitment=COMMITMENT, spec=SPEC, consents=()
    )


def kinds(actions: tuple[do.Action, ...]) -> list[str]:
    return [type(action).__name__ for action in actions]


def seated_member() -> tuple[Me, list[ev.Event]]:
    who = me(ME, Role.MEMBER)
    events: list[ev.Event] = [posted(), claimed(OTHER), drawn(OTHER, (ME, THIRD, OWNER)), brief()]
    return who, events


def accepted() -> ev.TaskAccepted:
    return ev.TaskAccepted(**at(27))  # type: ignore[arg-type]


def admitted() -> ev.TaskAdmitted:
    return ev.TaskAdmitted(**at(30), evidence_root=STATEMENT.evidence_root)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------- executor


def test_executor__evaluates_once_entropy_is_known__and_claims_in_its_block() -> None:
    who = me(ME, Role.EXECUTOR)
    case, actions = walk(who, posted(10), ev.BlockSeen(block(12)))
    assert actions == ()
    case, actions = step(case, ev.BlockSeen(block(13)), who)
    assert kinds(actions) == ["EvaluateTicket"]
    ticket = ev.TicketEvaluated(commitment=COMMITMENT, ticket=5, claim_at=15)
    case, _ = step(case, ticket, who)
    assert step(case, ev.BlockSeen(block(14)), who)[1] == ()
    case, actions = step(case, ev.BlockSeen(block(15)), who)
    assert kinds(actions) == ["SubmitClaim"]
    assert step(case, ev.BlockSeen(block(16)), who)[1] == ()


def test_executor__lower_ticket_leads_already__never_claims() -> None:
    who = me(ME, Role.EXECUTOR)
    ticket = ev.TicketEvaluated(commitment=COMMITMENT, ticket=9, claim_at=14)
    case, _ = walk(who, posted(10), ev.BlockSeen(block(13)), ticket, claimed(OTHER, 5))
    assert step(case, ev.BlockSeen(block(15)), who)[1] == ()


def rejected(order: str) -> ev.TransactionRejected:
    return ev.TransactionRejected(commitment=COMMITMENT, order=order, reason="market: stale")


def test_executor__somebody_claimed_in_between__claims_against_the_new_leader() -> None:
    who = me(ME, Role.EXECUTOR)
    ticket = ev.TicketEvaluated(commitment=COMMITMENT, ticket=3, claim_at=14)
    case, _ = walk(who, posted(10), ev.BlockSeen(block(13)), ticket, ev.BlockSeen(block(14)))
    case, _ = step(case, claimed(OTHER, 5), who)
    case, _ = step(case, rejected("claim"), who)
    case, actions = step(case, ev.BlockSeen(block(15)), who)
    assert isinstance(actions[0], do.SubmitClaim)
    assert actions[0].task.executor == OTHER


def test_executor__blocks_pass_while_its_draw_is_out__draws_again_only_when_it_was_rejected() -> (
    None
):
    who = me(ME, Role.EXECUTOR)
    case, actions = walk(who, posted(10), claimed(ME), ev.BlockSeen(block(26)))
    assert kinds(actions) == ["SubmitDraw"]
    for number in range(27, 40):
        case, actions = step(case, ev.BlockSeen(block(number)), who)
        assert actions == ()
    case, _ = step(case, rejected("draw"), who)
    assert kinds(step(case, ev.BlockSeen(block(40)), who)[1]) == ["SubmitDraw"]


def test_executor__machine_lost_before_the_record__boots_again_with_the_next_attempt() -> None:
    who = me(ME, Role.EXECUTOR)
    _, actions = walk(
        who,
        *(posted(), claimed(ME), drawn(ME, (OTHER, THIRD, OWNER)), brief()),
        ev.TaskVetted(commitment=COMMITMENT, reasons=()),
        accepted(),
        ev.MachineLost(commitment=COMMITMENT, reason="gone", resume=b""),
    )
    assert actions == (do.BootMachine(commitment=COMMITMENT, phase=Phase.BEFORE, attempt=2),)


def test_executor__machine_lost_while_it_holds_keys__gives_up() -> None:
    case, _ = running()
    case, actions = step(
        case, ev.MachineLost(commitment=COMMITMENT, reason="gone", resume=b"r"), me()
    )
    assert case.executor is not None
    assert case.executor.state is executor.State.GAVE_UP
    assert kinds(actions) == ["PowerOff"]


def test_executor__late_word_of_an_earlier_boot__loses_nothing() -> None:
    case, _ = running()
    assert case.executor is not None
    role = replace(case.executor, state=executor.State.BOOTING, phase=Phase.AFTER)
    late = ev.MachineLost(commitment=COMMITMENT, reason="a key did not reach it", resume=b"r")
    after, actions = step(replace(case, executor=role), late, me())
    assert after.executor == role
    assert actions == ()


def test_executor__outcome_of_another_attempt__is_not_taken_for_this_one() -> None:
    case, _ = running()
    assert case.executor is not None
    role = replace(case.executor, state=executor.State.BOOTING, phase=Phase.AFTER, attempt=2)
    booted = ev.MachineBooted(
        commitment=COMMITMENT,
        phase=Phase.AFTER,
        attempt=1,
        session_hpke=b"h" * 32,
        session_signing=b"s" * 64,
        resume=b"old",
    )
    after, actions = step(replace(case, executor=role), booted, me())
    assert after.executor == role
    assert actions == ()


def test_executor__claim_rejected_and_nobody_else_leads__claims_anew() -> None:
    who = me(ME, Role.EXECUTOR)
    ticket = ev.TicketEvaluated(commitment=COMMITMENT, ticket=3, claim_at=14)
    case, first = walk(who, posted(10), ev.BlockSeen(block(13)), ticket, ev.BlockSeen(block(14)))
    lost = ev.TransactionRejected(commitment=COMMITMENT, order="claim", reason="market: not open")
    case, _ = step(case, lost, who)
    _, second = step(case, ev.BlockSeen(block(15)), who)
    assert kinds(second) == ["SubmitClaim"]
    assert second != first  # an order like the first one would count as done


def running() -> tuple[Case, Me]:
    """A Case whose Executor waits for keys."""
    role = executor.Executor(state=executor.State.RUNNING, spec=SPEC, resume=b"r", attempt=1)
    case, _ = walk(me(), posted(), claimed(ME))
    return replace(case, executor=role, state=TaskState.ADMITTED), me()


def test_executor__same_key_twice__is_delivered_once() -> None:
    case, who = running()
    offer = ev.KeyOffered(sender=OWNER, request=1, commitment=COMMITMENT, cid=CID, sealed=b"k")
    case, first = step(case, offer, who)
    case, second = step(case, replace(offer, request=2, sealed=b"other"), who)
    assert kinds(first) == ["Reply", "DeliverKey"]
    assert kinds(second) == ["Reply"]


def test_executor__key_before_the_record__is_refused() -> None:
    who = me(ME, Role.EXECUTOR)
    case, _ = walk(who, posted(), claimed(ME), drawn(ME, (OTHER, THIRD, OWNER)))
    offer = ev.KeyOffered(sender=OWNER, request=1, commitment=COMMITMENT, cid=CID, sealed=b"k")
    _, actions = step(case, offer, who)
    assert isinstance(actions[0], do.Reply)
    assert actions[0].refusal


def test_executor__brief_before_it_saw_its_claim__asks_to_send_again() -> None:
    who = me(ME, Role.EXECUTOR)
    for events in ((posted(),), (posted(), claimed(OTHER))):
        _, actions = walk(who, *events, brief())
        assert isinstance(actions[0], do.Reply)
        assert actions[0].refusal


OPENS = 24  # the block whose entropy draws the task posted in block 10


def draw_of(actions: tuple[do.Action, ...]) -> do.SubmitDraw:
    (order,) = actions
    assert isinstance(order, do.SubmitDraw)
    return order


def test_executor__has_the_taskspec_and_can_run_it__its_draw_accepts_and_it_boots() -> None:
    who = me(ME, Role.EXECUTOR)
    case, actions = walk(who, posted(10), claimed(ME), brief())
    assert kinds(actions) == ["Reply", "VetTask"]
    case, actions = step(case, ev.TaskVetted(commitment=COMMITMENT, reasons=()), who)
    assert actions == ()
    assert step(case, ev.BlockSeen(block(OPENS)), who)[1] == ()
    case, actions = step(case, ev.BlockSeen(block(OPENS + 1)), who)
    assert draw_of(actions).accept
    case, actions = step(case, drawn(ME, (OTHER, THIRD, OWNER), accepted=True), who)
    assert kinds(actions) == ["BootMachine"]
    assert case.state is TaskState.ACCEPTED


def test_executor__taskspec_does_not_come__waits_a_little_and_only_draws() -> None:
    who = me(ME, Role.EXECUTOR)
    case, actions = walk(who, posted(10), claimed(ME), ev.BlockSeen(block(OPENS + 1)))
    assert actions == ()
    _, actions = step(case, ev.BlockSeen(block(OPENS + 2)), who)
    assert not draw_of(actions).accept


def test_executor__cannot_run_the_taskspec__draws_at_once_and_never_accepts() -> None:
    who = me(ME, Role.EXECUTOR)
    vetted = ev.TaskVetted(commitment=COMMITMENT, reasons=("no image",))
    case, actions = walk(
        who, posted(10), claimed(ME), brief(), vetted, ev.BlockSeen(block(OPENS + 1))
    )
    assert not draw_of(actions).accept
    case, actions = step(case, drawn(ME, (OTHER, THIRD, OWNER)), who)
    assert actions == ()
    assert case.executor is not None
    assert (case.executor.state, case.executor.reason) == (executor.State.GAVE_UP, "no image")


def test_executor__somebody_else_draws_first__accepts_in_a_transaction_of_its_own() -> None:
    who = me(ME, Role.EXECUTOR)
    vetted = ev.TaskVetted(commitment=COMMITMENT, reasons=())
    case, actions = walk(
        who, posted(10), claimed(ME), brief(), vetted, drawn(ME, (OTHER, THIRD, OWNER))
    )
    assert kinds(actions) == ["SubmitAccept"]
    _, actions = step(case, accepted(), who)
    assert kinds(actions) == ["BootMachine"]


# ------------------------------------------------------------------------------------ member


def nonce_asked(request: int, fresh: bytes, sender: Address = OTHER) -> ev.NonceAsked:
    return ev.NonceAsked(
        sender=sender,
        request=request,
        commitment=COMMITMENT,
        phase=Phase.BEFORE,
        attempt=1,
        fresh=fresh,
    )


def reply_of(actions: tuple[do.Action, ...]) -> do.Reply:
    return next(action for action in actions if isinstance(action, do.Reply))


def test_member__asked_twice__gives_the_first_nonce_again() -> None:
    who, events = seated_member()
    case, _ = walk(who, *events, accepted())
    case, first = step(case, nonce_asked(1, b"x" * 32), who)
    case, second = step(case, nonce_asked(2, b"y" * 32), who)
    assert reply_of(first).body == reply_of(second).body == b"x" * 32


def test_member__nonce_for_somebody_else_than_the_executor__is_refused() -> None:
    who, events = seated_member()
    case, _ = walk(who, *events, accepted())
    _, actions = step(case, nonce_asked(1, b"x" * 32, sender=THIRD), who)
    assert reply_of(actions).refusal


def test_member__executor_accepted_in_its_draw__gets_the_nonce() -> None:
    who = me(ME, Role.MEMBER)
    seats = drawn(OTHER, (ME, THIRD, OWNER), accepted=True)
    case, _ = walk(who, posted(), claimed(OTHER), seats, brief())
    _, actions = step(case, nonce_asked(1, b"x" * 32), who)
    assert reply_of(actions).body == b"x" * 32


def test_member__nonce_before_accept__is_refused() -> None:
    who, events = seated_member()
    case, _ = walk(who, *events)
    _, actions = step(case, nonce_asked(1, b"x" * 32), who)
    assert reply_of(actions).refusal


def vote(verdict: Verdict, by: Address = ME, header: bytes = b"h" * 32) -> Vote:
    return Vote(TaskId(1), Phase.BEFORE, 1, header, verdict, 87, by, b"r" * 32, b"v" * 32)


def appraised(verdict: Verdict, header: bytes = b"h" * 32) -> ev.EvidenceAppraised:
    return ev.EvidenceAppraised(
        commitment=COMMITMENT,
        phase=Phase.BEFORE,
        vote=vote(verdict, header=header),
        evidence_root=STATEMENT.evidence_root,
        reasons=() if verdict is Verdict.AFFIRMING else ("nonce: old",),
        summary=b"before",
    )


def test_member__two_appraisals_of_one_attempt__keeps_the_first_vote() -> None:
    who, events = seated_member()
    case, _ = walk(who, *events, accepted(), appraised(Verdict.AFFIRMING))
    case, _ = step(case, appraised(Verdict.CONTRAINDICATED, header=b"o" * 32), who)
    assert case.member is not None
    assert [v.verdict for v in case.member.votes] == [Verdict.AFFIRMING]


def test_member__finding_during_the_run__is_voted_once_and_never_forgotten() -> None:
    who, events = seated_member()
    case, _ = walk(who, *events, accepted(), appraised(Verdict.AFFIRMING), admitted())
    bad = ev.QuestionAnswered(
        commitment=COMMITMENT, nonce=b"q" * 32, evidence_root=b"", reasons=("silence",)
    )
    good = replace(bad, nonce=b"w" * 32, evidence_root=b"e" * 32, reasons=())
    case, first = step(case, bad, who)
    case, second = step(case, good, who)
    case, third = step(case, replace(bad, reasons=("silence again",)), who)
    assert kinds(first) == ["SignDissent"]
    assert second == third == ()
    assert case.member is not None
    assert case.member.findings == ("silence", "silence again")


def test_member__quorum_of_dissent_over_one_digest__refuses_once() -> None:
    who, events = seated_member()
    case, _ = walk(who, *events, accepted())
    case, _ = step(case, appraised(Verdict.CONTRAINDICATED), who)
    fellow = ev.VoteReceived(
        sender=THIRD, request=1, commitment=COMMITMENT, vote=vote(Verdict.CONTRAINDICATED, THIRD)
    )
    case, actions = step(case, fellow, who)
    assert "SubmitRefuse" in kinds(actions)
    third = replace(fellow, request=2, vote=vote(Verdict.CONTRAINDICATED, OWNER))
    _, again = step(case, third, who)
    assert "SubmitRefuse" not in kinds(again)


@pytest.mark.parametrize(
    "other",
    [
        vote(Verdict.CONTRAINDICATED, OTHER),  # no member: the Executor itself
        vote(Verdict.AFFIRMING, THIRD),
        vote(Verdict.CONTRAINDICATED, THIRD, header=b"x" * 32),
        vote(Verdict.CONTRAINDICATED, ME),
    ],
)
def test_member__votes_that_do_not_add_up__refuse_nothing(other: Vote) -> None:
    who, events = seated_member()
    case, _ = walk(who, *events, accepted(), appraised(Verdict.CONTRAINDICATED))
    fellow = ev.VoteReceived(sender=THIRD, request=1, commitment=COMMITMENT, vote=other)
    _, actions = step(case, fellow, who)
    assert "SubmitRefuse" not in kinds(actions)


def test_member__late_for_before__learns_it_from_the_record_first() -> None:
    who, events = seated_member()
    case, actions = walk(who, *events, accepted(), admitted())
    assert kinds(actions) == ["LearnBefore"]
    root = STATEMENT.evidence_root
    learned = ev.BeforeLearned(commitment=COMMITMENT, evidence_root=root, summary=b"s")
    _, actions = step(case, learned, who)
    assert kinds(actions) == ["AskDuring"]


def test_member__another_attempt_was_admitted_than_it_affirmed__learns_that_one_first() -> None:
    who, events = seated_member()
    case, _ = walk(who, *events, accepted(), appraised(Verdict.AFFIRMING))
    _, actions = step(case, replace(admitted(), evidence_root=b"2" * 31 + b"\0"), who)
    assert kinds(actions) == ["LearnBefore"]


def nonce_after() -> ev.NonceAsked:
    return replace(nonce_asked(7, b"z" * 32), phase=Phase.AFTER)


def test_member__briefed_after_the_run_began__learns_before_and_takes_part() -> None:
    who, events = seated_member()
    case, _ = walk(who, *events[:3], accepted(), admitted())
    assert reply_of(step(case, nonce_after(), who)[1]).refusal
    case, actions = step(case, brief(request=3), who)
    assert "LearnBefore" in kinds(actions)
    assert reply_of(step(case, nonce_after(), who)[1]).refusal
    root = STATEMENT.evidence_root
    learned = ev.BeforeLearned(commitment=COMMITMENT, evidence_root=root, summary=b"s")
    case, actions = step(case, learned, who)
    assert kinds(actions) == ["AskDuring"]
    assert reply_of(step(case, nonce_after(), who)[1]).body == b"z" * 32


def appraisal(request: int) -> ev.AppraisalAsked:
    return ev.AppraisalAsked(
        sender=OTHER,
        request=request,
        commitment=COMMITMENT,
        phase=Phase.BEFORE,
        statement=STATEMENT,
        evidence=b"e" * request,
        nonces=(),
    )


def test_member__asked_again_while_it_appraises__appraises_once() -> None:
    who, events = seated_member()
    case, _ = walk(who, *events, accepted(), nonce_asked(1, b"x" * 32))
    case, first = step(case, appraisal(2), who)
    _, second = step(case, appraisal(3), who)
    assert "AppraiseEvidence" in kinds(first)
    assert kinds(second) == ["Reply"]


def test_member__one_fellow_floods_it_with_votes__the_others_still_count() -> None:
    who, events = seated_member()
    case, _ = walk(who, *events, accepted(), appraised(Verdict.CONTRAINDICATED))
    for number in range(200):
        spam = vote(Verdict.CONTRAINDICATED, OWNER, header=number.to_bytes(32, "big"))
        flood = ev.VoteReceived(sender=OWNER, request=9, commitment=COMMITMENT, vote=spam)
        case, _ = step(case, flood, who)
    honest = vote(Verdict.CONTRAINDICATED, THIRD)
    fellow = ev.VoteReceived(sender=THIRD, request=1, commitment=COMMITMENT, vote=honest)
    _, actions = step(case, fellow, who)
    assert "SubmitRefuse" in kinds(actions)


def test_receiver__somebody_else_than_the_executor_announces__takes_no_role() -> None:
    case, _ = walk(owner(), posted(), claimed(OTHER), drawn(OTHER, (ME, THIRD, ASKER)))
    notice = ev.ResultAnnounced(sender=THIRD, request=1, commitment=COMMITMENT)
    case, actions = step(case, notice, owner())
    assert case.receiver is None
    assert reply_of(actions).refusal


def test_member__deadline_long_over__ends_the_task() -> None:
    who, events = seated_member()
    case, _ = walk(who, *events)
    assert step(case, ev.BlockSeen(block(55)), who)[1] == ()
    case, actions = step(case, ev.BlockSeen(block(60)), who)
    assert kinds(actions) == ["SubmitExpire"]
    assert step(case, ev.BlockSeen(block(90)), who)[1] == ()
    case, _ = step(case, rejected("expire"), who)
    assert kinds(step(case, ev.BlockSeen(block(91)), who)[1]) == ["SubmitExpire"]


# ------------------------------------------------------------------------------------ broker


def consent_asked(request: int = 1, *reasons: str) -> ev.ConsentAsked:
    return ev.ConsentAsked(
        sender=ASKER, request=request, commitment=COMMITMENT, spec=SPEC, reasons=reasons
    )


def owner() -> Me:
    return me(OWNER, Role.BROKER, Role.RECEIVER)


def confirming() -> Case:
    case, _ = walk(owner(), consent_asked(), posted(), claimed(OTHER), drawn(OTHER), admitted())
    return case


def queried(*reasons: str, root: bytes = STATEMENT.evidence_root) -> ev.MachineQueried:
    return ev.MachineQueried(
        commitment=COMMITMENT, session_hpke=b"h" * 32, evidence_root=root, reasons=reasons
    )


def test_broker__policy_says_no__no_role_begins() -> None:
    case, actions = walk(owner(), consent_asked(1, "uses-spent: 1 of 1"))
    assert case.broker is None
    assert reply_of(actions).refusal == "uses-spent: 1 of 1"


def test_broker__asked_again_after_posting__is_a_second_use() -> None:
    case, _ = walk(owner(), consent_asked(), posted())
    _, actions = step(case, consent_asked(2), owner())
    assert reply_of(actions).refusal


def test_broker__waits_for_confirmations() -> None:
    case = confirming()
    assert step(case, ev.BlockSeen(block(31)), owner())[1] == ()
    assert kinds(step(case, ev.BlockSeen(block(32)), owner())[1]) == ["QueryMachine"]


@pytest.mark.parametrize("answer", [queried("session: another"), queried(root=b"x" * 31 + b"\0")])
def test_broker__own_appraisal_fails__releases_nothing(answer: ev.MachineQueried) -> None:
    case, _ = step(confirming(), ev.BlockSeen(block(32)), owner())
    case, actions = step(case, answer, owner())
    assert actions == ()
    assert case.broker is not None
    assert case.broker.state is broker.State.REFUSED
    assert step(case, queried(), owner()) == (case, ())


def test_broker__no_edge_leads_back_to_sealing() -> None:
    case, _ = step(confirming(), ev.BlockSeen(block(32)), owner())
    case, first = step(case, queried(), owner())
    sealed = ev.KeysSealed(commitment=COMMITMENT, keys=((CID, b"sealed"),))
    case, second = step(case, sealed, owner())
    assert kinds(first) == ["SealKeys"]
    assert kinds(second) == ["SendKeys"]
    with pytest.raises(UnexpectedEvent):
        step(case, replace(sealed, keys=((CID, b"another"),)), owner())
    with pytest.raises(UnexpectedEvent):
        step(case, queried(), owner())


def test_broker__task_fails_after_release__warns_the_owner() -> None:
    case, _ = step(confirming(), ev.BlockSeen(block(32)), owner())
    case, _ = step(case, queried(), owner())
    case, _ = step(case, ev.KeysSealed(commitment=COMMITMENT, keys=((CID, b"s"),)), owner())
    case, actions = step(case, ev.TaskFailed(**at(90), cause=7), owner())  # type: ignore[arg-type]
    assert kinds(actions) == ["WarnOwner"]
    assert case.broker is not None
    assert case.broker.state is broker.State.EXPOSED


# --------------------------------------------------------------------------------- requester


def test_requester__refused_consent__posts_nothing() -> None:
    who = me(ASKER, Role.REQUESTER, Role.BROKER)
    case, actions = walk(who, ordered())
    assert kinds(actions) == ["Reply", "GatherConsents"]
    case, actions = step(case, ev.ConsentRefused(commitment=COMMITMENT, reasons=("no",)), who)
    assert actions == ()
    assert case.requester is not None
    assert case.requester.state is requester.State.REFUSED


def test_requester__all_agreed__posts_the_hash_under_its_number() -> None:
    who = me(ASKER, Role.REQUESTER)
    agreed = ev.ConsentsGathered(commitment=COMMITMENT, consents=())
    _, (order,) = walk(who, ordered(), agreed)
    assert isinstance(order, do.SubmitPost)
    assert commit(order.spec_hash, ASKER, order.number) == COMMITMENT


def test_requester__race_is_over__leader_alone_gets_the_taskspec_once() -> None:
    who = me(ASKER, Role.REQUESTER)
    agreed = ev.ConsentsGathered(commitment=COMMITMENT, consents=(b"c",))
    unled, _ = walk(who, ordered(), agreed, posted(10))
    case, _ = step(unled, claimed(OTHER), who)
    over = PARAMETERS.claim_end(case.on_chain())
    assert step(case, ev.BlockSeen(block(over - 1)), who)[1] == ()
    assert "SendBrief" not in kinds(step(unled, ev.BlockSeen(block(over)), who)[1])
    case, (order,) = step(case, ev.BlockSeen(block(over)), who)
    assert isinstance(order, do.SendBrief)
    assert (order.executor, order.members, order.consents) == (OTHER, (), (b"c",))
    assert step(case, ev.BlockSeen(block(over + 1)), who)[1] == ()
    case, _ = step(case, claimed(THIRD, 3), who)  # a reorganisation: another one leads
    _, (order,) = step(case, ev.BlockSeen(block(over + 2)), who)
    assert isinstance(order, do.SendBrief)
    assert order.executor == THIRD


def test_requester__leader_holds_the_draw_back__draws_itself() -> None:
    """The leader sees the committee before it is drawn; it must not be the only one who draws."""
    who = me(ASKER, Role.REQUESTER)
    agreed = ev.ConsentsGathered(commitment=COMMITMENT, consents=())
    unled, _ = walk(who, ordered(), agreed, posted(10))
    case, _ = step(unled, claimed(OTHER), who)
    case, _ = step(case, ev.BlockSeen(block(PARAMETERS.claim_end(case.on_chain()))), who)
    entropy = PARAMETERS.draw_entropy_block(case.on_chain())
    grace = PARAMETERS.draw_window // 8
    assert step(case, ev.BlockSeen(block(entropy + grace)), who)[1] == ()
    late = ev.BlockSeen(block(entropy + grace + 1))
    case, actions = step(case, late, who)
    assert kinds(actions) == ["SubmitDraw"]
    assert step(case, ev.BlockSeen(block(late.block.number + 1)), who)[1] == ()
    assert kinds(step(unled, late, who)[1]) == ["SubmitExpire"]


def test_draw_entropy_block__stands_a_stride_apart_and_never_too_early() -> None:
    stride = 2 * (PARAMETERS.lookahead + 1)
    for number in range(40):
        task = walk(me(), posted(number))[0].on_chain()
        block_ = PARAMETERS.draw_entropy_block(task)
        first = PARAMETERS.claim_end(task) + PARAMETERS.entropy_delay
        assert block_ % stride == 0
        assert first <= block_ < first + stride


# ---------------------------------------------------------------------------------- outcomes


def settled(voters: int = 0b111) -> ev.TaskSettled:
    return ev.TaskSettled(**at(60), evidence_root=STATEMENT.evidence_root, voters=voters)  # type: ignore[arg-type]


def learned(cid: str = "") -> ev.OutcomeLearned:
    return ev.OutcomeLearned(
        commitment=COMMITMENT, outcome=b"told", owner=b"o" * 64, name="owner", cid=cid
    )


@pytest.mark.parametrize(
    ("voters", "phase", "excused"),
    [
        (0b110, Phase.AFTER, True),  # its vote was left out, or was a dissent
        (0b110, Phase.DURING, True),
        (0b110, Phase.BEFORE, False),  # the contract takes votes on the run only
        (0b111, Phase.AFTER, False),
    ],
)
def test_member__settled_without_its_vote__shows_it(
    voters: int, phase: Phase, excused: bool
) -> None:
    who, events = seated_member()
    case, _ = walk(who, *events, accepted(), admitted())
    assert case.member is not None
    cast = replace(vote(Verdict.CONTRAINDICATED), phase=phase)
    case = replace(case, member=replace(case.member, votes=(cast,)))
    case, actions = step(case, settled(voters), who)
    assert case.member is not None
    assert case.member.state is member.State.CLOSED
    orders = [one for one in actions if isinstance(one, do.SubmitExcuse)]
    assert [(one.seat, one.vote) for one in orders] == ([(0, cast)] if excused else [])


def test_member__settled_and_never_voted__has_nothing_to_show() -> None:
    who, events = seated_member()
    case, _ = walk(who, *events, accepted(), admitted())
    _, actions = step(case, settled(0b110), who)
    assert "SubmitExcuse" not in kinds(actions)


@pytest.mark.parametrize("phase", [Phase.AFTER, Phase.DURING])
def test_member__settled_while_it_judged__casts_its_vote_and_shows_it_once(phase: Phase) -> None:
    """An Executor that keeps its results from one member must not turn dissent into silence."""
    who, events = seated_member()
    cast = replace(vote(Verdict.CONTRAINDICATED), phase=phase)
    case, _ = walk(who, *events, accepted(), admitted(), settled(0b110))
    judged = judged_late(cast)
    assert step(case, replace(judged, vote=replace(cast, phase=Phase.BEFORE)), who)[1] == ()
    case, actions = step(case, judged, who)
    assert [(one.seat, one.vote) for one in actions if isinstance(one, do.SubmitExcuse)] == [
        (0, cast)
    ]
    assert case.member is not None
    assert case.member.votes == (cast,)
    assert step(case, judged, who)[1] == ()
    assert step(case, judged_late(replace(cast, attempt=cast.attempt + 1)), who)[1] == ()


def judged_late(cast: Vote) -> ev.EvidenceAppraised | ev.DissentSigned:
    if cast.phase is Phase.DURING:
        return ev.DissentSigned(commitment=COMMITMENT, vote=cast)
    return replace(appraised(cast.verdict), phase=cast.phase, vote=cast)


def test_member__task_ended_otherwise_while_it_judged__shows_nothing() -> None:
    who, events = seated_member()
    cast = replace(vote(Verdict.CONTRAINDICATED), phase=Phase.AFTER)
    for end in (settled(0b111), ev.TaskExpired(**at(60))):  # type: ignore[arg-type]
        case, _ = walk(who, *events, accepted(), admitted(), end)
        assert step(case, judged_late(cast), who)[1] == ()


def test_receiver__run_left_no_result__is_done_and_fetches_nothing() -> None:
    case, actions = walk(owner(), consent_asked(), posted(), drawn(OTHER), settled())
    assert kinds(actions) == ["LearnOutcome"]
    case, actions = step(case, learned(), owner())
    assert actions == ()
    assert case.receiver is not None
    assert (case.receiver.state, case.receiver.outcome) == (receiver.State.DONE, b"told")


def test_receiver__result_named_by_the_committee__fetches_that_one() -> None:
    case, _ = walk(owner(), consent_asked(), posted(), drawn(OTHER), settled())
    _, actions = step(case, learned(CID), owner())
    assert isinstance(actions[0], do.FetchResult)
    assert (actions[0].cid, actions[0].owner) == (CID, b"o" * 64)


def test_requester_and_receiver_in_one__learn_the_outcome_by_one_order() -> None:
    """Both roles order it; the same order twice is one row of the outbox."""
    who = me(OWNER, Role.REQUESTER, Role.BROKER, Role.RECEIVER)
    own = replace(posted(), requester=OWNER)
    case, actions = walk(who, ordered(OWNER), own, drawn(OTHER), settled())
    first, second = (each for each in actions if isinstance(each, do.LearnOutcome))
    assert first == second
    case, _ = step(case, learned(), who)
    assert case.requester is not None
    assert case.receiver is not None
    assert case.requester.outcome == case.receiver.outcome == b"told"


# ------------------------------------------------------------------------------------ tables


@pytest.mark.parametrize("role", list(Role))
def test_every_state_of_a_role__stands_in_its_table(role: Role) -> None:
    table = TABLES[role]
    states = {state for state, _ in table}
    assert states == set(type(next(iter(states))))


def test_event_that_no_table_expects__raises() -> None:
    case, who = running()
    with pytest.raises(UnexpectedEvent):
        step(case, ev.TaskPrepared(commitment=COMMITMENT), who)


def test_peer_without_any_role_to_ask__is_refused() -> None:
    case, _ = walk(me(ME, Role.EXECUTOR), posted())
    _, actions = step(case, nonce_asked(1, b"x" * 32), me(ME, Role.EXECUTOR))
    assert reply_of(actions).refusal


def test_member_of_a_task__is_told_apart_by_seat() -> None:
    case, _ = walk(me(OWNER, Role.MEMBER), posted(), claimed(OTHER), drawn(OTHER))
    assert case.member is None
    assert isinstance(member.Member(), member.Member)
