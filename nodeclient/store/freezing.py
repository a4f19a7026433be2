"""Frozen dataclasses of the rules as bytes, and back: what the store keeps."""

from __future__ import annotations

import hashlib
from typing import Any

import cbor2
from pydantic import TypeAdapter

from nodeclient.core.actions import Action

ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def adapter(kind: type) -> TypeAdapter[Any]:
    """Converts a frozen dataclass to plain values and back, by its type hints."""
    if kind not in ADAPTERS:
        ADAPTERS[kind] = TypeAdapter(kind)
    return ADAPTERS[kind]


def freeze(value: Any) -> bytes:
    """Canonical CBOR of a dataclass."""
    return cbor2.dumps(adapter(type(value)).dump_python(value, mode="python"), canonical=True)


def thaw(kind: type, body: bytes) -> Any:
    """The dataclass again; its types are checked, the file may be foreign."""
    return adapter(kind).validate_python(cbor2.loads(body))


def row_key(action: Action) -> bytes:
    """An action's identity: ordering the same thing twice is one row."""
    return hashlib.sha256(type(action).__name__.encode() + b"\0" + freeze(action)).digest()
