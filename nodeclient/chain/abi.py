"""Calldata, return data and logs of one contract, straight from its JSON ABI.

Addresses are 20 bytes in both directions (hex strings exist only at the edges), structs and
dynamic arrays are tuples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth_abi.codec import ABICodec
from eth_abi.decoding import AddressDecoder
from eth_abi.encoding import AddressEncoder
from eth_abi.exceptions import DecodingError, EncodingError
from eth_abi.registry import BaseEquals, registry
from eth_hash.auto import keccak

from nodeclient.chain.errors import AbiMismatch


class _RawAddressDecoder(AddressDecoder):
    """Leaves an address as its 20 bytes instead of a hex string."""

    decoder_fn = staticmethod(bytes)  # type: ignore[assignment]


def _codec() -> ABICodec:
    raw = registry.copy()  # type: ignore[no-untyped-call]
    raw.unregister("address")
    is_address = BaseEquals("address")  # type: ignore[no-untyped-call]
    raw.register(is_address, AddressEncoder, _RawAddressDecoder, label="address")
    return ABICodec(raw)


CODEC = _codec()


@dataclass(frozen=True, slots=True)
class Function:
    """One external function: its 4-byte selector and its ABI types."""

    name: str
    selector: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def encode(self, args: Sequence[Any]) -> bytes:
        """Calldata for `args`. Raises `AbiMismatch` when they do not fit the types."""
        try:
            return self.selector + CODEC.encode(self.inputs, args)
        except (EncodingError, ValueError, TypeError) as error:
            raise AbiMismatch(
                f"{self.name}: the arguments do not fit {self.inputs}",
                "check that the deployment file belongs to this version",
            ) from error

    def decode(self, data: bytes) -> tuple[Any, ...]:
        """Return values from return data. Raises `AbiMismatch` when they do not fit."""
        try:
            return CODEC.decode(self.outputs, data)
        except (DecodingError, ValueError, OverflowError) as error:
            raise AbiMismatch(
                f"{self.name}: {len(data)} bytes came back that are not {self.outputs}",
                "check that the contract stands at this address",
            ) from error


@dataclass(frozen=True, slots=True)
class LogLayout:
    """One event: name, indexed and plain fields as (name, type), in the order of the ABI."""

    name: str
    topic: bytes
    indexed: tuple[tuple[str, str], ...]
    plain: tuple[tuple[str, str], ...]

    def decode(self, topics: Sequence[bytes], data: bytes) -> dict[str, Any]:
        """Fields by name. Raises `AbiMismatch` when topics or data do not fit the layout."""
        if len(topics) != len(self.indexed) + 1 or topics[0] != self.topic:
            raise AbiMismatch(f"{self.name}: the topics do not fit", "check the deployment file")
        try:
            fields = {
                name: CODEC.decode((kind,), topic)[0]
                for (name, kind), topic in zip(self.indexed, topics[1:], strict=True)
            }
            values = CODEC.decode(tuple(kind for _, kind in self.plain), data)
        except (DecodingError, ValueError, OverflowError) as error:
            raise AbiMismatch(
                f"{self.name}: the log does not fit its layout", "check the deployment file"
            ) from error
        fields.update(zip((name for name, _ in self.plain), values, strict=True))
        return fields


@dataclass(frozen=True, slots=True)
class Interface:
    """A parsed ABI. Functions are looked up by (name, number of arguments): Vyper's default
    arguments appear as overloads."""

    functions: Mapping[tuple[str, int], Function]
    logs: Mapping[bytes, LogLayout]
    constructor: tuple[str, ...]

    def function(self, name: str, count: int) -> Function:
        """Raises `AbiMismatch` when the contract has no such function."""
        try:
            return self.functions[name, count]
        except KeyError:
            raise AbiMismatch(
                f"the contract has no {name} with {count} arguments",
                "check that the deployment file belongs to this version",
            ) from None


def parse(abi: Sequence[Mapping[str, Any]]) -> Interface:
    """Parse a JSON ABI. Raises `AbiMismatch` when it is none."""
    functions: dict[tuple[str, int], Function] = {}
    logs: dict[bytes, LogLayout] = {}
    constructor: tuple[str, ...] = ()
    try:
        for entry in abi:
            if entry["type"] == "function":
                made = _function(entry)
                functions[made.name, len(made.inputs)] = made
            elif entry["type"] == "event":
                layout = _log_layout(entry)
                logs[layout.topic] = layout
            elif entry["type"] == "constructor":
                constructor = tuple(_type(field) for field in entry["inputs"])
    except (KeyError, TypeError, AttributeError) as error:
        raise AbiMismatch("not a JSON ABI", "deploy again to write the file anew") from error
    return Interface(functions, logs, constructor)


def _type(field: Mapping[str, Any]) -> str:
    """The canonical type of one ABI field: `tuple[]` becomes `(uint256,…)[]`."""
    kind = str(field["type"])
    if not kind.startswith("tuple"):
        return kind
    inner = ",".join(_type(part) for part in field["components"])
    return f"({inner}){kind[len('tuple') :]}"


def _function(entry: Mapping[str, Any]) -> Function:
    inputs = tuple(_type(field) for field in entry["inputs"])
    signature = f"{entry['name']}({','.join(inputs)})"
    outputs = tuple(_type(field) for field in entry["outputs"])
    return Function(str(entry["name"]), keccak(signature.encode())[:4], inputs, outputs)


def _log_layout(entry: Mapping[str, Any]) -> LogLayout:
    fields = [(str(f["name"]), _type(f), bool(f["indexed"])) for f in entry["inputs"]]
    signature = f"{entry['name']}({','.join(kind for _, kind, _ in fields)})"
    return LogLayout(
        str(entry["name"]),
        keccak(signature.encode()),
        tuple((name, kind) for name, kind, indexed in fields if indexed),
        tuple((name, kind) for name, kind, indexed in fields if not indexed),
    )
