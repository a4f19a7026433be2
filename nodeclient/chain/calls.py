"""An order in the rules' words → calldata of the deployment."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from nodeclient.chain.deployment import Deployment
from nodeclient.core.types import Ballot, Vote
from nodeclient.ports import Order


@dataclass(frozen=True, slots=True)
class Call:
    """What goes into a transaction. `value` in wei; an empty `to` creates a contract."""

    label: str
    to: bytes
    data: bytes
    value: int


def build_call(deployment: Deployment, order: Order) -> Call:
    """Encode an order. Raises `AbiMismatch` when its arguments do not fit the contract's ABI and
    `DeploymentInvalid` when there is no such contract."""
    contract = deployment[order.contract]
    function = contract.interface.function(order.function, len(order.args))
    data = function.encode([plain(arg) for arg in order.args])
    return Call(f"{order.contract}.{order.function}", contract.address, data, order.value)


def plain(value: object) -> Any:
    """A struct as the tuple of its fields, all the way down.

    The frozen values of `nodeclient.core.types` have their fields in the structs' order.
    """
    if isinstance(value, Ballot):  # 32-byte halves here, uint256 in the contract
        signatures = tuple((_number(r), _number(vs)) for r, vs in value.signatures)
        return (value.valid_until, value.voters, signatures)
    if is_dataclass(value) and not isinstance(value, type):
        return tuple(plain(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, list | tuple):
        return tuple(plain(part) for part in value)
    return value


def signed_vote(vote: Vote) -> tuple[tuple[object, ...], tuple[int, int]]:
    """The structs `Vote` and `Signature` of a member's vote."""
    said = (vote.task, vote.phase, vote.attempt, vote.header, vote.verdict, vote.valid_until)
    return said, (_number(vote.r), _number(vote.vs))


def _number(half: bytes) -> int:
    return int.from_bytes(half, "big")
