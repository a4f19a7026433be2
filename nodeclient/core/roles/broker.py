"""The key broker of a data owner (and of a requester for its function): a Relying Party of its own.

::

    CONSENTED -> POSTED -> CONFIRMING -> QUERYING -> SEALING -> SENDING -> RELEASED -> DONE
                                            |                      \\____________/ (task failed)
                                         REFUSED                        EXPOSED

One consent, one task, one use. The committee's quorum is necessary, never sufficient: the broker
puts its own nonce to the Machine and appraises the answer under the owner's policy. Sealed bytes
are journalled (KeysSealed, in the transaction that orders them sent) before they leave; the same
bytes may be sent again, a second key never: no edge leads back to SEALING.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from agent.formats.taskspec import TaskSpec
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.roles.bars import executor_barred
from nodeclient.core.roles.table import Actions, build_table
from nodeclient.core.types import Address

if TYPE_CHECKING:
    from nodeclient.core.case import Case, Me


class State(StrEnum):
    """Where the broker stands in a Task."""

    CONSENTED = "consented"
    POSTED = "posted"
    CONFIRMING = "confirming"
    QUERYING = "querying"
    SEALING = "sealing"
    SENDING = "sending"
    RELEASED = "released"
    REFUSED = "refused"
    DONE = "done"
    EXPOSED = "exposed"
    CLOSED = "closed"


OUT = (State.SENDING, State.RELEASED)
ENDED = (State.DONE, State.EXPOSED, State.CLOSED)
NOTHING_SEALED = (State.POSTED, State.CONFIRMING, State.QUERYING)
WAITING = (*NOTHING_SEALED, State.SEALING, State.REFUSED)


@dataclass(frozen=True, slots=True)
class Broker:
    """Data of the role. ``keys`` holds what was sealed, to whom stands in ``session_hpke``."""

    state: State = State.CONSENTED
    spec: bytes = b""
    cids: tuple[str, ...] = ()
    admitted_at: int = 0
    evidence_root: bytes = b""
    session_hpke: bytes = b""
    keys: tuple[tuple[str, bytes], ...] = ()
    reasons: tuple[str, ...] = ()


Step = tuple[Broker, Actions]


def owned_cids(spec: TaskSpec, owner: Address) -> tuple[str, ...]:
    """The capsules of a TaskSpec whose keys this owner holds."""
    inputs = tuple(item.cid for item in spec.inputs if item.owner == owner)
    function = (spec.function.cid,) if spec.function.owner == owner else ()
    return function + inputs


def on_consent_asked(event: ev.ConsentAsked, case: Case, me: Me) -> tuple[Broker | None, Actions]:
    """The first question about a commitment decides; the answer is the policy's.

    Nobody asks for consent to what is posted already: that requester did not want to know.
    """
    reasons = event.reasons
    if case.task is not None:
        reasons = (*reasons, "the task is posted already: ask before posting")
    if reasons:
        refusal = "; ".join(reasons)
        no = do.Reply(commitment=case.commitment, request=event.request, refusal=refusal)
        return None, (no,)
    cids = owned_cids(TaskSpec.decode(event.spec), me.address)
    sign = do.SignConsent(commitment=case.commitment, request=event.request, cids=cids)
    return Broker(spec=event.spec, cids=cids), (sign,)


def on_consent_again(role: Broker, event: ev.ConsentAsked, case: Case, me: Me) -> Step:
    """The same TaskSpec, not posted yet: the same consent. Anything later is a second use."""
    if role.state is State.CONSENTED:
        sign = do.SignConsent(commitment=case.commitment, request=event.request, cids=role.cids)
        return role, (sign,)
    refusal = "this commitment was used: build a new TaskSpec with a fresh salt"
    return role, (do.Reply(commitment=case.commitment, request=event.request, refusal=refusal),)


def on_posted(role: Broker, event: ev.TaskPosted, case: Case, me: Me) -> Step:
    return replace(role, state=State.POSTED), ()


def on_admitted(role: Broker, event: ev.TaskAdmitted, case: Case, me: Me) -> Step:
    """Count from this record. One that a reorganised chain tells again is counted anew, also when
    the Machine is being asked: that answer then speaks of a record that is gone."""
    confirming = replace(
        role,
        state=State.CONFIRMING,
        admitted_at=event.block.number,
        evidence_root=event.evidence_root,
    )
    return confirming, ()


def on_block(role: Broker, event: ev.BlockSeen, case: Case, me: Me) -> Step:
    """Wait until the BEFORE record is final for this deployment."""
    if executor_barred(case):
        return refuse_barred(role)
    if event.block.number < role.admitted_at + me.confirmations:
        return role, ()
    query = do.QueryMachine(
        commitment=case.commitment,
        task=case.on_chain(),
        spec=role.spec,
        evidence_root=role.evidence_root,
        at=event.block.number,
    )
    return replace(role, state=State.QUERYING), (query,)


def on_block_while_asking(role: Broker, event: ev.BlockSeen, case: Case, me: Me) -> Step:
    """A bar meanwhile. That this listens to blocks is also what has the Case told of bars."""
    return refuse_barred(role) if executor_barred(case) else (role, ())


def on_queried(role: Broker, event: ev.MachineQueried, case: Case, me: Me) -> Step:
    """Seal to the session key that this broker itself appraised, or refuse for good."""
    if executor_barred(case):
        return refuse_barred(role)
    if event.reasons or event.evidence_root != role.evidence_root:
        reasons = event.reasons or ("the Evidence is not the one on chain",)
        return replace(role, state=State.REFUSED, reasons=reasons), ()
    seal = do.SealKeys(
        commitment=case.commitment,
        task=case.on_chain(),
        cids=role.cids,
        session_hpke=event.session_hpke,
        evidence_root=role.evidence_root,
    )
    return replace(role, state=State.SEALING, session_hpke=event.session_hpke), (seal,)


def on_admitted_again(role: Broker, event: ev.TaskAdmitted, case: Case, me: Me) -> Step:
    """Told again by a reorganised chain while keys are sealed, which leave only for its root."""
    if event.evidence_root == role.evidence_root:
        return role, ()
    return replace(role, state=State.REFUSED, reasons=("the BEFORE record was replaced",)), ()


def refuse_barred(role: Broker) -> Step:
    """Nobody knows what broken hardware does with a key."""
    reasons = ("a vote barred the executor's hardware",)
    return replace(role, state=State.REFUSED, reasons=reasons), ()


def on_sealed(role: Broker, event: ev.KeysSealed, case: Case, me: Me) -> Step:
    if executor_barred(case):
        return refuse_barred(role)
    send = do.SendKeys(
        commitment=case.commitment, executor=case.on_chain().executor, keys=event.keys
    )
    return replace(role, state=State.SENDING, keys=event.keys), (send,)


def on_sent(role: Broker, event: ev.ActionDone, case: Case, me: Me) -> Step:
    if event.action != do.SendKeys.__name__:
        return role, ()
    return replace(role, state=State.RELEASED), ()


def on_settled(role: Broker, event: ev.TaskSettled, case: Case, me: Me) -> Step:
    return replace(role, state=State.DONE), ()


def on_ended(role: Broker, event: ev.TaskFailed, case: Case, me: Me) -> Step:
    """A Task that fails after release leaves the Capsules exposed: the owner must know."""
    if role.state not in OUT:
        return replace(role, state=State.CLOSED), ()
    warn = do.WarnOwner(commitment=case.commitment, cids=role.cids)
    return replace(role, state=State.EXPOSED), (warn,)


TABLE = build_table(
    handled={
        (State.CONSENTED, ev.TaskPosted): on_posted,
        (State.SEALING, ev.TaskAdmitted): on_admitted_again,
        (State.CONFIRMING, ev.BlockSeen): on_block,
        (State.QUERYING, ev.MachineQueried): on_queried,
        (State.SEALING, ev.KeysSealed): on_sealed,
        (State.SENDING, ev.ActionDone): on_sent,
    },
    everywhere={
        ev.BlockSeen: ((State.QUERYING, State.SEALING), on_block_while_asking),
        ev.ConsentAsked: (tuple(State), on_consent_again),
        ev.TaskAdmitted: (NOTHING_SEALED, on_admitted),
        ev.TaskSettled: ((*WAITING, *OUT), on_settled),
        ev.TaskFailed: ((*WAITING, *OUT), on_ended),
        ev.TaskExpired: ((*WAITING, *OUT), on_ended),
    },
    ignoring={
        ev.BlockSeen: tuple(State),
        ev.ActionDone: tuple(s for s in State if s is not State.SENDING),
        # The Task may end, its record be reorganised, or its Executor be barred, while a question
        # is on its way.
        ev.MachineQueried: (State.CONFIRMING, State.REFUSED, *ENDED),
        ev.KeysSealed: (State.REFUSED, *ENDED),
        # What a reorganised chain tells again.
        ev.TaskPosted: tuple(s for s in State if s is not State.CONSENTED),
        ev.TaskAdmitted: (*OUT, State.REFUSED, *ENDED),
        ev.TaskSettled: ENDED,
        ev.TaskFailed: ENDED,
        ev.TaskExpired: ENDED,
    },
)
