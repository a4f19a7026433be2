"""The TaskSpec: all that a task is, committed to on chain and opened only to those who work on it.

Bytes: deterministic CBOR [salt (32 bytes), map]. The chain holds `commitment_of` them; the salt
keeps a guesser of the rest from recognising a task. `requester` and every `owner` are accounts of
Nodes (20 bytes). `number` is one under which the requester posts nothing else, ever. Every bound
stands here, because a TaskSpec is written by a stranger.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.cid import digest_of
from agent.formats.hashes import keccak256
from agent.formats.shape import as_bytes, as_int, as_list, as_map, as_text, unique

MAX_TASKSPEC = 64 * 1024  # bytes; goes sealed to each member in one message
MAX_INPUTS = MAX_RECEIVERS = MAX_CONNECTIONS = MAX_DEVICES = 16
MAX_ARGUMENTS, MAX_ARGUMENT = 64, 4096
MAX_NUMBER = 2**63 - 1  # what SQLite counts with
COMMITMENT_DOMAIN = keccak256(b"sealrun/commitment/v1")
_VERSION = 1
_NAME = re.compile(r"[a-z0-9._-]{1,64}")
_LABEL = r"[a-z0-9][a-z0-9-]{0,62}"
_HOST = re.compile(rf"(?=.{{1,253}}:){_LABEL}(\.{_LABEL})*:[0-9]{{1,5}}")
_DEVICE = re.compile(
    r"/dev/[A-Za-z0-9_][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,63}){0,3}"
    r"|(usb|pci):[0-9a-f]{4}:[0-9a-f]{4}"
)


@dataclass(frozen=True, slots=True)
class FunctionRef:
    """Which function runs: its Capsule, the Capsule's owner, sha256 of its archive (payload)."""

    cid: str
    owner: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Input:
    """A DATA Capsule that appears as /capsule/in/<name>."""

    name: str
    cid: str
    owner: bytes


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who gets what the function writes under /capsule/out/<name>/, and the X25519 key for it."""

    name: str
    node: bytes
    hpke_public: bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """Resources of the container. cpu_milli: thousandths of one core."""

    seconds: int
    memory_bytes: int
    scratch_bytes: int
    pids: int
    cpu_milli: int


_LIMIT_BOUNDS = {
    "seconds": (1, 7 * 86400),
    "memory_bytes": (16 << 20, 1 << 40),
    "scratch_bytes": (1 << 20, 1 << 42),
    "pids": (1, 4096),
    "cpu_milli": (100, 256_000),
}
_KEYS = (
    *("version", "requester", "number", "function", "command", "runtime_image"),
    *("inputs", "receivers", "connections", "devices", "limits"),
)


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task. Checked when made and when decoded: an instance is always within bounds."""

    salt: bytes
    requester: bytes
    number: int
    function: FunctionRef
    command: tuple[str, ...]
    runtime_image: bytes
    inputs: tuple[Input, ...]
    receivers: tuple[Receiver, ...]
    connections: tuple[str, ...]
    devices: tuple[str, ...]
    limits: Limits

    def __post_init__(self) -> None:
        _check(self)

    def encode(self) -> bytes:
        """The committed bytes. Raises FormatError above MAX_TASKSPEC."""
        body = {
            "version": _VERSION,
            "requester": self.requester,
            "number": self.number,
            "function": [self.function.cid, self.function.owner, self.function.digest],
            "command": self.command,
            "runtime_image": self.runtime_image,
            "inputs": [[i.name, i.cid, i.owner] for i in self.inputs],
            "receivers": [[r.name, r.node, r.hpke_public] for r in self.receivers],
            "connections": self.connections,
            "devices": self.devices,
            "limits": {name: getattr(self.limits, name) for name in _LIMIT_BOUNDS},
        }
        encoded = cbor.encode([self.salt, body])
        if len(encoded) > MAX_TASKSPEC:
            raise FormatError(f"taskspec: {len(encoded)} bytes exceed {MAX_TASKSPEC}; shorten it")
        return encoded

    @classmethod
    def decode(cls, data: bytes) -> TaskSpec:
        """Parse foreign bytes. Raises FormatError for anything out of shape or bounds."""
        salt, obj = as_list(cbor.decode(data, MAX_TASKSPEC), 2, 2, "taskspec")
        body = as_map(obj, _KEYS, "taskspec")
        as_int(body["version"], _VERSION, _VERSION, "taskspec version")
        cid, owner, digest = as_list(body["function"], 3, 3, "function")
        inputs = as_list(body["inputs"], 0, MAX_INPUTS, "inputs")
        receivers = as_list(body["receivers"], 1, MAX_RECEIVERS, "receivers")
        limits = as_map(body["limits"], _LIMIT_BOUNDS, "limits")
        return cls(
            salt=as_bytes(salt, 32, "salt"),
            requester=as_bytes(body["requester"], 20, "requester"),
            number=as_int(body["number"], 0, MAX_NUMBER, "number"),
            function=FunctionRef(_text(cid), as_bytes(owner, 20, "owner"), _digest(digest)),
            command=_texts(body["command"], MAX_ARGUMENTS, MAX_ARGUMENT, "command"),
            runtime_image=as_bytes(body["runtime_image"], 32, "runtime image"),
            inputs=tuple(_input(entry) for entry in inputs),
            receivers=tuple(_receiver(entry) for entry in receivers),
            connections=_texts(body["connections"], MAX_CONNECTIONS, 260, "connections"),
            devices=_texts(body["devices"], MAX_DEVICES, 300, "devices"),
            limits=Limits(**{k: as_int(v, *_LIMIT_BOUNDS[k], k) for k, v in limits.items()}),
        )


def commit(spec_hash: bytes, requester: bytes, number: int) -> bytes:
    """What `TaskMarket.post` makes of a TaskSpec's hash: keccak256 of abi.encode(domain, hash,
    requester, number). Requester and number keep everybody else from posting the same."""
    return keccak256(
        COMMITMENT_DOMAIN + spec_hash + requester.rjust(32, b"\0") + number.to_bytes(32, "big")
    )


def commitment_of(encoded: bytes) -> bytes:
    """What stands on chain for a TaskSpec. Raises FormatError for bytes that are none."""
    return _commitment(TaskSpec.decode(encoded), encoded)


def open_commitment(encoded: bytes, committed: bytes) -> TaskSpec:
    """Decode bytes that must open `committed`. Raises FormatError if they do not."""
    spec = TaskSpec.decode(encoded)
    if _commitment(spec, encoded) != committed:
        raise FormatError("taskspec: does not open the commitment on chain; ask the requester")
    return spec


def _commitment(spec: TaskSpec, encoded: bytes) -> bytes:
    return commit(keccak256(encoded), spec.requester, spec.number)


def _check(spec: TaskSpec) -> None:
    """Every rule on the values themselves, whichever way the instance came to be."""
    for value, size, what in (
        (spec.salt, 32, "salt"),
        (spec.requester, 20, "requester"),
        (spec.runtime_image, 32, "runtime image"),
        (spec.function.owner, 20, "function owner"),
        (spec.function.digest, 32, "function digest"),
        *((entry.owner, 20, "input owner") for entry in spec.inputs),
        *((entry.node, 20, "receiver node") for entry in spec.receivers),
        *((entry.hpke_public, 32, "receiver key") for entry in spec.receivers),
    ):
        as_bytes(value, size, what)
    as_int(spec.number, 0, MAX_NUMBER, "number")
    for receiver in spec.receivers:
        if not any(receiver.hpke_public):
            raise FormatError(f"receiver {receiver.name}: has no key; ask its node for one")
    for cid in (spec.function.cid, *(entry.cid for entry in spec.inputs)):
        digest_of(cid)
    _check_names([entry.name for entry in spec.inputs], 0, MAX_INPUTS, "inputs")
    _check_names([entry.name for entry in spec.receivers], 1, MAX_RECEIVERS, "receivers")
    as_list(list(spec.command), 1, MAX_ARGUMENTS, "command")
    for argument in spec.command:
        as_text(argument, 1, MAX_ARGUMENT, "command argument")
    _check_patterns(spec.connections, MAX_CONNECTIONS, _HOST, "connections", "host:port")
    for connection in spec.connections:
        as_int(int(connection.rpartition(":")[2]), 1, 65535, "connection port")
    _check_patterns(spec.devices, MAX_DEVICES, _DEVICE, "devices", "/dev/… or usb:vvvv:pppp")
    for name, (low, high) in _LIMIT_BOUNDS.items():
        as_int(getattr(spec.limits, name), low, high, f"limit {name}")


def _check_names(names: Sequence[str], low: int, high: int, what: str) -> None:
    as_list(list(names), low, high, what)
    for name in names:
        # "." and ".." match the alphabet and would leave the folder they name.
        if not isinstance(name, str) or not _NAME.fullmatch(name) or not name.strip("."):
            raise FormatError(f"{what}: a name has 1 to 64 of a-z 0-9 . _ - and is not dots alone")
    unique(names, what)


def _check_patterns(
    values: Sequence[str], high: int, pattern: re.Pattern[str], what: str, example: str
) -> None:
    as_list(list(values), 0, high, what)
    for value in values:
        if not isinstance(value, str) or not pattern.fullmatch(value) or not value.isascii():
            raise FormatError(f"{what}: an entry is not of the form {example}")
    unique(values, what)


def _text(obj: object) -> str:
    return as_text(obj, 1, 128, "cid")


def _digest(obj: object) -> bytes:
    return as_bytes(obj, 32, "function digest")


def _texts(obj: object, high: int, longest: int, what: str) -> tuple[str, ...]:
    return tuple(as_text(entry, 1, longest, what) for entry in as_list(obj, 0, high, what))


def _input(obj: object) -> Input:
    name, cid, owner = as_list(obj, 3, 3, "input")
    return Input(as_text(name, 1, 64, "input name"), _text(cid), as_bytes(owner, 20, "owner"))


def _receiver(obj: object) -> Receiver:
    name, node, key = as_list(obj, 3, 3, "receiver")
    return Receiver(
        as_text(name, 1, 64, "receiver name"),
        as_bytes(node, 20, "receiver node"),
        as_bytes(key, 32, "receiver key"),
    )
