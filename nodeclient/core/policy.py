"""What the owner of a Capsule permits. Everything that is not listed is refused.

A policy belongs to one Capsule and is applied twice: before the owner consents to a task (nobody
knows the Executor yet), and before a content key is released (with the Executor's facts; Evidence
is judged by ``core.appraisal`` under ``core.evidence_policy``).

A function is permitted *together with its command*: with a free command, a task could run the
runtime image's own ``cp`` on the inputs and name the right function digest all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from agent.formats.taskspec import TaskSpec
from nodeclient.core.reasons import Code, Reason, reason
from nodeclient.core.types import Address, RootClass

LEAST_COMMITTEE = 3  # TaskMarket takes no smaller one
MOST_COMMITTEE = 11
MOST_AMOUNT = 2**128 - 1  # wei: more than there is, so nobody has it


@dataclass(frozen=True, slots=True)
class PermittedFunction:
    """One function (sha256 of its archive) started by exactly this command."""

    digest: bytes
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PermittedReceiver:
    """A Node that may receive results. Without ``hpke_public``: under the key of its contact."""

    node: Address
    hpke_public: bytes | None = None


@dataclass(frozen=True, slots=True)
class OwnerPolicy:
    """The default values permit nothing. Deposit in wei, reputation in basis points,
    ``expires_at`` in seconds since 1970, ``expires_block`` as block number; one of them is needed.
    """

    functions: frozenset[PermittedFunction] = frozenset()
    runtime_images: frozenset[bytes] = frozenset()
    receivers: frozenset[PermittedReceiver] = frozenset()
    uses: int = 0
    expires_at: int | None = None
    expires_block: int | None = None
    smallest_committee: int = MOST_COMMITTEE
    least_reputation: int = 10_000
    least_deposit: int = MOST_AMOUNT
    root_classes: frozenset[RootClass] = frozenset()
    vouch: frozenset[str] = frozenset()
    connections: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()
    simulated: frozenset[str] = frozenset()


class Stage(Enum):
    """What is about to happen."""

    CONSENT = "consent"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class ExecutorFacts:
    """What the registry and the reputation ledger say of the drawn Executor."""

    reputation: int
    deposit: int
    root_class: RootClass


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """Facts of the moment. ``uses``: consents already given under this policy, this task not
    counted. ``contact_keys``: HPKE keys of proven contacts. ``now`` in seconds since 1970.
    """

    stage: Stage
    owner: Address
    cid: str
    now: int
    block: int
    uses: int
    committee_size: int
    contact_keys: Mapping[bytes, bytes] = field(default_factory=dict)
    executor: ExecutorFacts | None = None


def permits(
    policy: OwnerPolicy | None, spec: TaskSpec, context: PolicyContext
) -> tuple[Reason, ...]:
    """Every reason against; empty means permitted. No policy permits nothing."""
    if policy is None:
        return (reason(Code.NO_POLICY, "this capsule has no policy; write one to permit anything"),)
    return (
        *_what_runs(policy, spec, context),
        *_who_receives(policy, spec, context),
        *_what_it_reaches(policy, spec),
        *_how_often_and_long(policy, context),
        *_who_executes(policy, context),
    )


def _what_runs(policy: OwnerPolicy, spec: TaskSpec, context: PolicyContext) -> Iterator[Reason]:
    named = {(entry.cid, entry.owner) for entry in spec.inputs}
    named.add((spec.function.cid, spec.function.owner))
    if (context.cid, context.owner) not in named:
        yield reason(Code.CAPSULE_NOT_NAMED, "the task does not name this capsule as its owner's")
    digests = {entry.digest for entry in policy.functions}
    if spec.function.digest not in digests:
        text = f"function {spec.function.digest.hex()} is not on the list"
        yield reason(Code.FUNCTION_NOT_PERMITTED, text)
    elif PermittedFunction(spec.function.digest, spec.command) not in policy.functions:
        yield reason(Code.COMMAND_NOT_PERMITTED, "the function is to be started by another command")
    if spec.runtime_image not in policy.runtime_images:
        text = f"runtime image {spec.runtime_image.hex()} is not on the list"
        yield reason(Code.RUNTIME_NOT_PERMITTED, text)


def _who_receives(policy: OwnerPolicy, spec: TaskSpec, context: PolicyContext) -> Iterator[Reason]:
    for receiver in spec.receivers:
        # A node without a key of its own in the policy is known by its contact: else a requester
        # could put his key beside a permitted node's address.
        permitted = {
            context.contact_keys.get(entry.node) if entry.hpke_public is None else entry.hpke_public
            for entry in policy.receivers
            if entry.node == receiver.node
        }
        if receiver.hpke_public not in permitted:
            text = f"0x{receiver.node.hex()} with this key may not receive results"
            yield reason(Code.RECEIVER_NOT_PERMITTED, text)


def _what_it_reaches(policy: OwnerPolicy, spec: TaskSpec) -> Iterator[Reason]:
    for connection in spec.connections:
        if connection not in policy.connections:
            yield reason(Code.CONNECTION_NOT_PERMITTED, f"{connection} is not on the list")
    for device in spec.devices:
        if device not in policy.devices:
            yield reason(Code.DEVICE_NOT_PERMITTED, f"{device} is not on the list")


def _how_often_and_long(policy: OwnerPolicy, context: PolicyContext) -> Iterator[Reason]:
    if context.uses >= policy.uses:
        yield reason(Code.USES_SPENT, f"{context.uses} of {policy.uses} uses are spent")
    if policy.expires_at is None and policy.expires_block is None:
        yield reason(Code.EXPIRED, "the policy names no end; set expires_at or expires_block")
    if policy.expires_at is not None and context.now >= policy.expires_at:
        yield reason(Code.EXPIRED, f"expired {context.now - policy.expires_at} s ago")
    if policy.expires_block is not None and context.block >= policy.expires_block:
        yield reason(Code.EXPIRED, f"expired at block {policy.expires_block}")
    if context.committee_size < max(policy.smallest_committee, LEAST_COMMITTEE):
        text = f"{context.committee_size} members, at least {policy.smallest_committee} wanted"
        yield reason(Code.COMMITTEE_TOO_SMALL, text)


def _who_executes(policy: OwnerPolicy, context: PolicyContext) -> Iterator[Reason]:
    if not policy.root_classes:
        yield reason(Code.ROOT_CLASS_NOT_PERMITTED, "the policy permits no class of root")
    if not policy.vouch:
        yield reason(Code.VOUCH_NOT_PERMITTED, "the policy permits nobody to vouch")
    executor = context.executor
    if executor is None:
        if context.stage is Stage.RELEASE:
            yield reason(Code.EXECUTOR_UNKNOWN, "no facts about the executor; ask the chain again")
        return
    if executor.reputation < policy.least_reputation:
        text = f"{executor.reputation} bps, at least {policy.least_reputation} wanted"
        yield reason(Code.REPUTATION_TOO_LOW, text)
    if executor.deposit < policy.least_deposit:
        text = f"{executor.deposit} wei, at least {policy.least_deposit} wanted"
        yield reason(Code.DEPOSIT_TOO_LOW, text)
    if policy.root_classes and executor.root_class not in policy.root_classes:
        text = f"root class {executor.root_class.name} is not on the list"
        yield reason(Code.ROOT_CLASS_NOT_PERMITTED, text)
