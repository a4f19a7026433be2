"""What the Executor's rules know of a Task: states and data. Their story stands in ``executor``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nodeclient.core.incidents import Kind
from nodeclient.core.responses import Response
from nodeclient.core.roles.table import Actions
from nodeclient.core.types import Address, Phase, Statement


class State(StrEnum):
    """Where the Executor stands in a Task."""

    WATCHING = "watching"
    LEADING = "leading"
    DRAWN = "drawn"
    ACCEPTING = "accepting"
    BOOTING = "booting"
    PREPARING = "preparing"
    GATHERING = "gathering"
    PROVING = "proving"
    POLLING = "polling"
    ADMITTING = "admitting"
    RUNNING = "running"
    CLEANING = "cleaning"
    FINISHING = "finishing"
    DONE = "done"
    GAVE_UP = "gave up"
    CLOSED = "closed"


ENDED = (State.DONE, State.CLOSED)
SEATED = tuple(s for s in State if s not in (State.WATCHING, State.LEADING, *ENDED))
AT_REST = (State.GAVE_UP, *ENDED)
ON_MACHINE = (State.BOOTING, State.PREPARING, State.GATHERING, State.PROVING, State.POLLING)
HOLDING = (*ON_MACHINE, State.ADMITTING, State.RUNNING, State.CLEANING, State.FINISHING)


@dataclass(frozen=True, slots=True)
class Noticed:
    """An incident on the own Machine, and what was ordered about it. ``at``: seconds since 1970;
    ``done``: nothing is left to be done to the Machine."""

    kind: Kind
    text: str
    at: int
    responses: tuple[Response, ...]
    done: bool = False


@dataclass(frozen=True, slots=True)
class Executor:
    """Data of the role. ``resume`` is the root-sealed record that finds the Machine again;
    ``willing``: the TaskSpec is here and this Node can run it; ``ending``: a call that ends the
    barred Task is out; ``noticed``: incidents, in order."""

    state: State = State.WATCHING
    evaluating: bool = False
    claim_at: int | None = None
    ticket: int = 0
    claimed: bool = False
    drawing: bool = False
    spec: bytes = b""
    willing: bool = False
    phase: Phase = Phase.BEFORE
    attempt: int = 0
    resume: bytes = b""
    session_hash: bytes = b""
    nonces: tuple[tuple[Address, bytes], ...] = ()
    statement: Statement | None = None
    keys: tuple[str, ...] = ()
    outcome: bytes = b""
    during: tuple[tuple[Address, bytes, bytes], ...] = ()
    transcript: bytes = b""
    reason: str = ""
    ending: bool = False
    ending_tried_at: int = 0
    noticed: tuple[Noticed, ...] = ()


Step = tuple[Executor, Actions]
