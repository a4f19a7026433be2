"""What is wrong with a Node, from its picture alone: faults make it unhealthy, notices do not.

A fault is what this Node's operator must put right, and what nobody else can cause: a stranger who
runs unapproved images must not make honest Nodes look ill, or their watchdogs would restart them.
So findings about peers are notices, and so is that none of them answers: they may all be down. The
texts name nothing of a task.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from nodeclient.core.health import ChainPart, GuardPart, Picture, RegistryPart, Standing, Use
from nodeclient.core.types import NodeStatus

DAY = 86_400  # seconds


class Fault(StrEnum):
    """Why a Node is not healthy. Stable words, for programs."""

    DAEMON_STOPPED = "daemon-stopped"
    ROOT_UNUSABLE = "root-unusable"
    ROOT_TAMPERED = "root-tampered"
    CHAIN_UNREACHABLE = "chain-unreachable"
    CHAIN_STALE = "chain-stale"
    CHAIN_BEHIND = "chain-behind"
    NOT_REGISTERED = "not-registered"
    NOT_ACTIVE = "not-active"
    DEPOSIT_LOW = "deposit-low"
    MACHINE_BANNED = "machine-banned"
    IMAGE_NOT_APPROVED = "image-not-approved"
    SERVICES_UNWATCHED = "services-unwatched"


class Notice(StrEnum):
    """What its operator should look at."""

    IMAGE_ENDS_SOON = "image-ends-soon"
    PEER_FINDINGS = "peer-findings"
    PEERS_UNREACHABLE = "peers-unreachable"


@dataclass(frozen=True, slots=True)
class Remark:
    """One fault or notice: what is wrong, and what to do."""

    code: Fault | Notice
    text: str
    next_step: str

    @property
    def is_fault(self) -> bool:
        """Whether it makes the Node unhealthy."""
        return isinstance(self.code, Fault)


@dataclass(frozen=True, slots=True)
class Bounds:
    """``head_age``: seconds since the newest block; ``behind``: blocks between what is applied and
    the head; ``unwatched``: blocks between what the guard of the services saw and the head, the
    time in which a revoked image must stop; ``soon``: seconds until the window of an image ends.
    """

    head_age: float = 120.0  # ten slots of Ethereum
    behind: int = 10
    unwatched: int = 2
    soon: int = 14 * DAY


def judge(picture: Picture, bounds: Bounds = Bounds()) -> tuple[Remark, ...]:
    """Everything that is wrong, in a fixed order."""
    return (
        *_daemon(picture),
        *_root(picture),
        *_chain(picture, bounds),
        *_registry(picture),
        *_machine(picture),
        *_images(picture, bounds),
        *_guard(picture, bounds),
        *_peers(picture),
    )


def healthy(remarks: tuple[Remark, ...]) -> bool:
    """Whether none of them is a fault."""
    return not any(remark.is_fault for remark in remarks)


def _daemon(picture: Picture) -> Iterator[Remark]:
    if picture.started_at is None:
        yield Remark(Fault.DAEMON_STOPPED, "no daemon runs", "start it: sealrun node run")


def _root(picture: Picture) -> Iterator[Remark]:
    health = picture.root.health
    if health.tampered:
        text = f"the root of trust was tampered with: {health.detail}"
        yield Remark(Fault.ROOT_TAMPERED, text, "look at the device; trust none of its keys")
    if not health.usable:
        text = f"the root of trust is not usable: {health.detail}"
        yield Remark(Fault.ROOT_UNUSABLE, text, "look at the device, then start the daemon anew")


def _chain(picture: Picture, bounds: Bounds) -> Iterator[Remark]:
    chain = picture.chain
    if chain is None:
        text = "the chain's RPC endpoint does not answer"
        yield Remark(Fault.CHAIN_UNREACHABLE, text, "check chain.rpc in config.toml")
        return
    age = picture.at - chain.head_at
    if age > bounds.head_age:
        text = f"the newest block {chain.head} is {age} s old"
        yield Remark(Fault.CHAIN_STALE, text, "check the chain's node and this host's clock")
    lag = behind(chain)
    if picture.started_at is not None and lag is not None and lag > bounds.behind:
        text = f"{lag} blocks are not applied yet"
        yield Remark(Fault.CHAIN_BEHIND, text, "wait; if it grows, see node.log")


def behind(chain: ChainPart) -> int | None:
    """Blocks between what is applied and the head; None: nothing was ever applied."""
    return None if chain.applied is None else max(0, chain.head - chain.applied)


def _registry(picture: Picture) -> Iterator[Remark]:
    if picture.chain is None:
        return
    record = picture.chain.registry
    if record is None:
        register = "register it: ape run register_node"
        yield Remark(Fault.NOT_REGISTERED, "the account is not registered", register)
    elif picture.drawable:  # owners and requesters are PAUSED for good, and need no Deposit
        yield from _drawn(record)


def _drawn(record: RegistryPart) -> Iterator[Remark]:
    if record.status is not NodeStatus.ACTIVE:
        text = f"the node is {record.status.name}: no task is drawn for it"
        yield Remark(Fault.NOT_ACTIVE, text, NEXT_OF[record.status])
    if record.deposit < record.unit:
        text = f"the deposit of {record.deposit} wei is below one unit of {record.unit} wei"
        yield Remark(Fault.DEPOSIT_LOW, text, "add to it: ape run top_up")


NEXT_OF = {
    NodeStatus.PENDING: "wait for its admission",
    NodeStatus.PAUSED: "find out why, then: sealrun node resume",
    NodeStatus.EXITING: "collect the deposit after unbonding: ape run withdraw",
    NodeStatus.EXITED: "register it again, or stop the daemon",
    NodeStatus.BARRED: "read the registry's events about it",
}


def _machine(picture: Picture) -> Iterator[Remark]:
    if picture.machine.banned:
        pardon = "look at the machine, then lift it: sealrun node pardon"
        yield Remark(Fault.MACHINE_BANNED, "the machine is banned", pardon)


def _images(picture: Picture, bounds: Bounds) -> Iterator[Remark]:
    """Runtime images that merely lie here run nowhere: the registry decides when a task comes."""
    for image in picture.images:
        if image.use is Use.RUNTIME or image.standing is None:
            continue
        name = f"{image.use} image {image.id.hex()}"
        left = image.ends_at - picture.at
        if image.standing is not Standing.APPROVED:
            text = f"{name} is not approved: {image.standing}"
            step = "use an approved one, or have it approved: ape run approve_image"
            yield Remark(Fault.IMAGE_NOT_APPROVED, text, step)
        elif left < bounds.soon:
            text = f"the approval of {name} ends in {max(0, left) // 3600} h"
            yield Remark(Notice.IMAGE_ENDS_SOON, text, "take a newer image")


def _guard(picture: Picture, bounds: Bounds) -> Iterator[Remark]:
    """Without a head there is nothing to compare with, and that is a fault of its own."""
    if picture.guard is None:
        return
    lag = None if picture.chain is None else unwatched(picture.guard, picture.chain)
    if not picture.guard.watched:
        text = "the services were never held against the chain"
    elif lag is not None and lag > bounds.unwatched:
        text = f"the services were last held against block {picture.guard.watched}, {lag} off"
    else:
        return
    step = "see node.log, or the log of: sealrun node guard"
    yield Remark(Fault.SERVICES_UNWATCHED, text, step)


def unwatched(guard: GuardPart, chain: ChainPart) -> int:
    """Blocks between what the guard saw and the head. One that saw blocks which the chain has not
    saw another chain, and is as blind: both directions count."""
    return abs(chain.head - guard.watched)


def _peers(picture: Picture) -> Iterator[Remark]:
    peers = picture.peers
    if peers is None:
        return
    if peers.asked and not peers.reachable:
        text = f"none of {peers.asked} peers gives a sign of life"
        yield Remark(Notice.PEERS_UNREACHABLE, text, "check this host's network and firewall")
    if peers.findings:
        text = f"{peers.findings} peers run what the chain does not approve"
        yield Remark(Notice.PEER_FINDINGS, text, "see node.log")
