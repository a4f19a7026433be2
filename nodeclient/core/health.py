"""How a Node is: one picture, which text, JSON, Prometheus and the webhook show alike.

It holds numbers and words of this Node and of the chain, and nothing of a task or its data: what a
monitoring system keeps is read by many. Adapters gather it (``nodeclient.health``); what is wrong
with it says ``core.verdict``. A part that could not be asked for is None, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nodeclient.core.images import ImageKind, ImageRecord, fault
from nodeclient.core.roothealth import RootHealth
from nodeclient.core.types import Address, NodeStatus, RootClass


class Use(StrEnum):
    """What an image on this Node is for."""

    BOOT = "boot"
    ERASER = "eraser"
    RUNTIME = "runtime"
    SERVICE = "service"


class Standing(StrEnum):
    """What ``ImageRegistry`` says of an image at the newest block."""

    APPROVED = "approved"
    UNKNOWN = "unknown"  # nobody ever approved it
    WAITING = "waiting"  # the timelock runs, or its window has not begun
    ENDED = "ended"  # its window is over
    REVOKED = "revoked"
    OTHER_KIND = "other-kind"  # approved, but not for this use


@dataclass(frozen=True, slots=True)
class RootPart:
    """The root of trust. ``simulated``: a software stand-in."""

    root_class: RootClass
    simulated: bool
    health: RootHealth


@dataclass(frozen=True, slots=True)
class RegistryPart:
    """What the registry says of this Node. Deposit and unit (the least of an ACTIVE Node) in wei,
    reputation in basis points. ``engaged``: a task of its own runs, or it sits in a Committee.
    """

    status: NodeStatus
    deposit: int
    unit: int
    reputation: int
    engaged: bool


@dataclass(frozen=True, slots=True)
class ImagePart:
    """One image on this Node. ``standing`` None: the chain was not asked. ``ends_at``: end of its
    window, in seconds since 1970; 0 where it was never approved.
    """

    use: Use
    id: bytes
    standing: Standing | None = None
    ends_at: int = 0


@dataclass(frozen=True, slots=True)
class ChainPart:
    """The newest block, its time (seconds since 1970), and the last block whose events this Node
    has applied; None: it keeps no cursor yet. ``registry`` None: the account never registered.
    """

    head: int
    head_at: int
    applied: int | None
    registry: RegistryPart | None


@dataclass(frozen=True, slots=True)
class MachinePart:
    """The Machine. ``incidents``: since the daemon started, by kind."""

    banned: bool
    incidents: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class GuardPart:
    """The guard of this Node's services. ``watched``: the last block against which it held all of
    them; 0: none yet.
    """

    watched: int


@dataclass(frozen=True, slots=True)
class PeerPart:
    """Other Nodes: known by their contacts, asked for a sign of life, and those that gave one.
    ``findings``: peers whose running set the chain does not approve.
    """

    known: int
    asked: int
    reachable: int
    findings: int = 0


@dataclass(frozen=True, slots=True)
class TaskPart:
    """Tasks. ``open``: those in which this Node still has something to do, by their state on
    chain. ``known``: all that it ever heard of. ``ended``: those that it took part in and that
    ended since the daemon started, by their last state.
    """

    open: tuple[tuple[str, int], ...]
    known: int
    ended: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """A Node at one moment, ``at`` in seconds since 1970.

    ``started_at``: when its daemon started; None: no daemon runs, and what only a daemon knows is
    None, too. ``drawable``: it takes a role for which Nodes are drawn. ``chain`` None: the RPC
    endpoint did not answer. ``guard`` None: no containers are watched, by its configuration.
    """

    at: int
    started_at: int | None
    account: Address
    drawable: bool
    root: RootPart
    chain: ChainPart | None
    images: tuple[ImagePart, ...]
    machine: MachinePart
    guard: GuardPart | None
    peers: PeerPart | None
    tasks: TaskPart | None


KINDS = {
    Use.BOOT: ImageKind.BOOT,
    Use.ERASER: ImageKind.BOOT,
    Use.SERVICE: ImageKind.SERVICE,
    Use.RUNTIME: ImageKind.RUNTIME,
}
"""Which kind of ``ImageRegistry`` an image must be approved as, to be used so."""


def standing_of(use: Use, record: ImageRecord | None, now: int) -> Standing:
    """The rule is ``core.images.fault``, at a block's time ``now``; here is only said why."""
    if not fault(record, KINDS[use], now):
        return Standing.APPROVED
    if record is None:
        return Standing.UNKNOWN
    if record.revoked:
        return Standing.REVOKED
    if record.kind is not KINDS[use]:
        return Standing.OTHER_KIND
    return Standing.WAITING if now <= record.not_after else Standing.ENDED
