"""What a member's rules know of a Task: states and data. Their story stands in ``member``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.roles.reports import Reported
from nodeclient.core.roles.table import Actions
from nodeclient.core.types import Phase, Vote
from nodeclient.core.watch import NOT_WATCHED, Watch

if TYPE_CHECKING:
    from nodeclient.core.case import Case

MAX_ATTEMPTS = 8  # bounds what an Executor, or a fellow member, can make a member remember
MAX_ANSWERS = 4096


class State(StrEnum):
    """Where a member stands in a Task."""

    SEATED = "seated"
    BRIEFED = "briefed"
    QUESTIONING = "questioning"
    CLOSED = "closed"


LIVE = (State.SEATED, State.BRIEFED, State.QUESTIONING)
READY = (State.BRIEFED, State.QUESTIONING)


@dataclass(frozen=True, slots=True)
class Member:
    """Data of the role. ``before`` is what later phases need of the BEFORE Evidence whose root is
    ``before_root``; ``appraising`` the (phase, attempt) that is being judged just now; ``watch``:
    when it was let ask; ``reported``: what the Executor told of its own Machine; ``unheard``: the
    settlement counted this member as silent, and it has shown no vote.
    """

    state: State = State.SEATED
    spec: bytes = b""
    nonces: tuple[tuple[int, int, bytes], ...] = ()
    votes: tuple[Vote, ...] = ()
    appraising: tuple[int, int] | None = None
    before: bytes = b""
    before_root: bytes = b""
    after: bytes = b""
    asked: tuple[bytes, ...] = ()
    answers: tuple[tuple[bytes, bytes], ...] = ()
    findings: tuple[str, ...] = ()
    watch: Watch = NOT_WATCHED
    reported: tuple[Reported, ...] = ()
    dissent: tuple[Vote, ...] = ()
    refused: bool = False
    expiring: bool = False
    expire_tried_at: int = 0
    unheard: bool = False

    def nonce_of(self, phase: Phase, attempt: int) -> bytes:
        """The nonce given for a (phase, attempt); empty when none was."""
        return next((n for p, a, n in self.nonces if (p, a) == (phase, attempt)), b"")

    def vote_of(self, phase: Phase, attempt: int) -> Vote | None:
        """The vote cast for a (phase, attempt)."""
        return next((v for v in self.votes if (v.phase, v.attempt) == (phase, attempt)), None)


Step = tuple[Member, Actions]


def reply(case: Case, event: ev.PeerEvent, body: object = None, refusal: str = "") -> do.Reply:
    """Answer the peer that waits."""
    return do.Reply(commitment=case.commitment, request=event.request, body=body, refusal=refusal)


def merge(old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    """Findings only grow."""
    return old + tuple(reason for reason in new if reason not in old)
