"""An OwnerPolicy as a plain dictionary, for JSON and TOML. Strict: a typing slip permits nothing.

Bytes are ``0x…`` hex strings, amounts integers or decimal strings (JSON numbers lose wei).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from agent.formats.evidence import PI_ONLY, TPM_QUOTED
from nodeclient.core.policy import (
    LEAST_COMMITTEE,
    MOST_AMOUNT,
    MOST_COMMITTEE,
    OwnerPolicy,
    PermittedFunction,
    PermittedReceiver,
)
from nodeclient.core.types import Address, RootClass
from nodeclient.errors import BadInput

T = TypeVar("T")
MAX_ENTRIES = 256
STRICTEST = frozenset({TPM_QUOTED})  # unless the owner writes otherwise: `vouch = []` is nobody


class PolicyError(BadInput):
    """A policy out of shape; the message names the field and what it needs."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "correct the policy")


def policy_from_dict(source: Mapping[str, object]) -> OwnerPolicy:
    """Read a policy. A field left out keeps its default, which permits nothing; the TPM may vouch.

    Raises PolicyError for an unknown field or a value out of shape or range.
    """
    unknown = sorted(set(map(str, source)) - set(_READERS))
    if unknown:
        raise PolicyError(f"policy: unknown field {unknown[0]!r}; write one of {_names(_READERS)}")
    fields = {name: _READERS[name](name, value) for name, value in source.items()}
    return OwnerPolicy(**{"vouch": STRICTEST, **fields})  # type: ignore[arg-type]  # each reader gives its field's type


def policy_to_dict(policy: OwnerPolicy) -> dict[str, object]:
    """The dictionary that ``policy_from_dict`` reads back, in a fixed order."""
    result: dict[str, object] = {
        "functions": [
            {"digest": _hex(entry.digest), "command": list(entry.command)}
            for entry in sorted(policy.functions, key=lambda e: (e.digest, e.command))
        ],
        "runtime_images": [_hex(image) for image in sorted(policy.runtime_images)],
        "receivers": [
            {"node": _hex(entry.node)}
            | ({} if entry.hpke_public is None else {"hpke_public": _hex(entry.hpke_public)})
            for entry in sorted(policy.receivers, key=lambda e: (e.node, e.hpke_public or b""))
        ],
        "uses": policy.uses,
        "smallest_committee": policy.smallest_committee,
        "least_reputation": policy.least_reputation,
        "least_deposit": str(policy.least_deposit),
        "root_classes": [entry.name for entry in sorted(policy.root_classes)],
        "vouch": sorted(policy.vouch),
        "connections": sorted(policy.connections),
        "devices": sorted(policy.devices),
        "simulated": sorted(policy.simulated),
    }
    if policy.expires_at is not None:
        result["expires_at"] = policy.expires_at
    if policy.expires_block is not None:
        result["expires_block"] = policy.expires_block
    return result


def _bytes(name: str, value: object, size: int) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(rf"0x[0-9a-fA-F]{{{2 * size}}}", value):
        raise PolicyError(f"policy: {name} needs 0x and {2 * size} hex digits")
    return bytes.fromhex(value[2:])


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 4096 or not value.isprintable():
        raise PolicyError(f"policy: {name} needs printable text of 1 to 4096 characters")
    return value


def _list(name: str, value: object) -> list[object]:
    if not isinstance(value, list) or len(value) > MAX_ENTRIES:
        raise PolicyError(f"policy: {name} needs a list of at most {MAX_ENTRIES} entries")
    return value


def _table(name: str, value: object, needed: set[str], optional: set[str]) -> dict[str, object]:
    if not isinstance(value, dict) or not needed <= set(value) <= needed | optional:
        raise PolicyError(f"policy: {name} needs entries with {_names(needed | optional)}")
    return value


def _set(read: Callable[[str, object], T]) -> Callable[[str, object], frozenset[T]]:
    return lambda name, value: frozenset(read(name, entry) for entry in _list(name, value))


def _integer(low: int, high: int) -> Callable[[str, object], int]:
    def read(name: str, value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,39}", value):
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise PolicyError(f"policy: {name} needs an integer from {low} to {high}")
        return value

    return read


def _word(words: Mapping[str, T]) -> Callable[[str, object], T]:
    def read(name: str, value: object) -> T:
        if not isinstance(value, str) or value not in words:
            raise PolicyError(f"policy: {name} needs some of {_names(words)}")
        return words[value]

    return read


def _function(name: str, value: object) -> PermittedFunction:
    entry = _table(name, value, {"digest", "command"}, set())
    command = tuple(_text(f"{name}.command", word) for word in _list(name, entry["command"]))
    if not command:
        raise PolicyError(f"policy: {name}.command is empty; write the words that start it")
    return PermittedFunction(_bytes(f"{name}.digest", entry["digest"], 32), command)


def _receiver(name: str, value: object) -> PermittedReceiver:
    entry = _table(name, value, {"node"}, {"hpke_public"})
    key = entry.get("hpke_public")
    return PermittedReceiver(
        Address(_bytes(f"{name}.node", entry["node"], 20)),
        None if key is None else _bytes(f"{name}.hpke_public", key, 32),
    )


def _image(name: str, value: object) -> bytes:
    return _bytes(name, value, 32)


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def _names(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))


_READERS: dict[str, Callable[[str, object], object]] = {
    "functions": _set(_function),
    "runtime_images": _set(_image),
    "receivers": _set(_receiver),
    "uses": _integer(0, 1_000_000),
    "expires_at": _integer(0, 2**40),
    "expires_block": _integer(0, 2**63),
    "smallest_committee": _integer(LEAST_COMMITTEE, MOST_COMMITTEE),
    "least_reputation": _integer(0, 10_000),
    "least_deposit": _integer(0, MOST_AMOUNT),
    "root_classes": _set(_word({entry.name: entry for entry in RootClass})),
    "vouch": _set(_word({PI_ONLY: PI_ONLY, TPM_QUOTED: TPM_QUOTED})),
    "connections": _set(_text),
    "devices": _set(_text),
    "simulated": _set(_text),
}
