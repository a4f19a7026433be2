"""The claims of Evidence as typed values: shapes and bounds of ``agent.evidence``, nothing judged.

A claim that is missing or out of shape raises FormatError. Keys beyond those that are read are
handed back by ``unread``: a newer Agent may state more, and what nobody judges must be named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.formats.cable import MAX_CABLE, CableReport
from agent.formats.cbor import FormatError
from agent.formats.erasure import MAX_PROOF
from agent.formats.events import MAX_EVENTS, Event
from agent.formats.evidence import MAX_EVIDENCE, Evidence
from agent.formats.quote import Quote
from agent.formats.shape import as_bytes, as_int, as_list, as_map, as_text

MAX_ROWS = 1025  # of one list: 1,024 and the mark below
_MAX_ADDRESS = (1 << 64) - 1
CUT = "…"  # last row of a list that the Agent had to cut
_KEYS: Mapping[str, frozenset[str]] = {
    "boot": frozenset({"image", "command_line", "count", "nonce"}),
    "session": frozenset({"hpke", "signing"}),
    "agent": frozenset({"digest"}),
    "containers": frozenset({"own", "foreign", "confined", "settings"}),
    "runtime": frozenset({"image", "present"}),
    "function": frozenset({"cid", "digest"}),
    "network": frozenset({"policy", "counts"}),
    "inventory": frozenset({"pci", "usb", "block", "net"}),
    "scratch": frozenset({"kind", "cipher", "key_bits", "devices"}),
    "counters": frozenset({"boot", "evidence", "clock_ms", "time_ms"}),
}
_OPTIONAL = frozenset({"settings"})  # told for people; the flags of each container decide
QUOTED = frozenset({"quote", "event_log", "ima", "kernel", "root"})  # stated where a TPM vouches
KNOWN = (
    frozenset(_KEYS)
    | QUOTED
    | {
        *("chain", "events", "executable", "modules", "mounts", "sockets", "devices", "ranges"),
        *("cable", "erasure", "during", "memory", "outcome", "proof", "vouch", "simulated"),
        "not_checked",
    }
)


@dataclass(frozen=True, slots=True)
class Boot:
    """What was booted. ``count`` grows with every boot of the Machine."""

    image: bytes
    command_line: str
    count: int
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Container:
    """One container with the settings that the engine applied."""

    image: bytes
    user: str
    flags: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Counters:
    """They never go back within a boot; ``boot`` never at all. Milliseconds: ``clock_ms`` since the
    boot, ``time_ms`` since the epoch."""

    boot: int
    evidence: int
    clock_ms: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where a task's files lie; ``devices`` are the encrypted ones that there are now."""

    kind: str
    cipher: str
    key_bits: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """A row of the firmware's memory map: addresses in bytes, ``end`` exclusive, type in words."""

    start: int
    end: int
    kind: str


Row = tuple[object, ...]


def boot(evidence: Evidence) -> Boot:
    """Claim ``boot``."""
    body = _map(evidence, "boot")
    return Boot(
        as_bytes(body["image"], 32, "boot image"),
        as_text(body["command_line"], 0, 4096, "command line"),
        as_int(body["count"], 0, 1 << 62, "boot count"),
        as_bytes(body["nonce"], 32, "boot nonce"),
    )


def agent_digest(evidence: Evidence) -> bytes:
    """Claim ``agent``: digest of the Agent's own files."""
    return as_bytes(_map(evidence, "agent")["digest"], 32, "agent digest")


def containers(evidence: Evidence) -> tuple[tuple[Container, ...], int]:
    """Claim ``containers``: own ones, and how many foreign ones run on the engine."""
    body = _map(evidence, "containers")
    own = []
    for entry in as_list(body["own"], 0, 64, "containers"):
        if not isinstance(entry, dict) or not {"image", "user", "flags"} <= set(entry):
            raise FormatError("containers: an entry lacks image, user or flags")
        flags = entry["flags"]
        if not isinstance(flags, dict) or len(flags) > 64:
            raise FormatError("containers: flags must be a map")
        image = as_bytes(entry["image"], 32, "container image")
        own.append(Container(image, as_text(entry["user"], 0, 64, "user"), flags))
    return tuple(own), as_int(body["foreign"], 0, 1 << 20, "foreign containers")


def confined(evidence: Evidence) -> bool:
    """Claim ``containers``: whether processes run that have no more rights than a function."""
    stated = _map(evidence, "containers")["confined"]
    if not isinstance(stated, bool):
        raise FormatError("containers: confined is yes or no")
    return stated


def cable(evidence: Evidence) -> CableReport | None:
    """Claim ``cable``: the Pi's word of what it dropped; None where it has no cable."""
    data = as_bytes(evidence.claim("cable"), 0, "cable", MAX_CABLE)
    return CableReport.decode(data) if data else None


def runtime(evidence: Evidence) -> tuple[bytes | None, bool]:
    """Claim ``runtime``: image ID and whether the engine holds it."""
    body = _map(evidence, "runtime")
    image, present = body["image"], body["present"]
    if not isinstance(present, bool):
        raise FormatError("runtime: present is yes or no")
    return None if image is None else as_bytes(image, 32, "runtime image"), present


def function(evidence: Evidence) -> tuple[str | None, bytes | None]:
    """Claim ``function``: Capsule and, once it is unpacked, digest of the archive."""
    body = _map(evidence, "function")
    cid, digest = body["cid"], body["digest"]
    return (
        None if cid is None else as_text(cid, 1, 128, "function cid"),
        None if digest is None else as_bytes(digest, 32, "function digest"),
    )


def network(evidence: Evidence) -> tuple[tuple[str, ...], Mapping[str, int]]:
    """Claim ``network``: permitted ``host:port`` strings, and counts of what was tried."""
    body = _map(evidence, "network")
    counts = body["counts"]
    if not isinstance(counts, dict) or len(counts) > 16:
        raise FormatError("network: counts must be a map of at most 16")
    return _texts(body["policy"], 64, "network policy"), {
        as_text(name, 1, 32, "count"): as_int(value, 0, 1 << 62, "count")
        for name, value in counts.items()
    }


def inventory(evidence: Evidence) -> Mapping[str, tuple[Row, ...]]:
    """Claim ``inventory``: rows of each bus, first field the place."""
    return read_inventory(_map(evidence, "inventory"))


def read_inventory(obj: object) -> Mapping[str, tuple[Row, ...]]:
    """An inventory out of decoded CBOR."""
    body = as_map(obj, _KEYS["inventory"], "inventory")
    return {bus: _rows(body[bus], f"inventory {bus}") for bus in sorted(body)}


def events(evidence: Evidence) -> tuple[Event, ...] | None:
    """Claim ``events``: what the kernel said about devices since the Agent's hello; None where the
    Machine shares its kernel with others."""
    stated = evidence.claim("events")
    if stated is None:
        return None
    return tuple(Event.from_body(row) for row in as_list(stated, 0, MAX_EVENTS, "events"))


def memory(evidence: Evidence) -> tuple[Region, ...]:
    """Claim ``memory``: the firmware's map of the boot that answers."""
    return read_memory(evidence.claim("memory"))


def read_memory(obj: object) -> tuple[Region, ...]:
    """A memory map out of decoded CBOR. A list that the Agent had to cut is refused: it would hide
    memory."""
    found = []
    for entry in as_list(obj, 0, MAX_ROWS, "memory"):
        start, end, kind = as_list(entry, 3, 3, "memory row")
        first = as_int(start, 0, _MAX_ADDRESS, "start of memory")
        last = as_int(end, first + 1, _MAX_ADDRESS + 1, "end of memory")
        found.append(Region(first, last, as_text(kind, 0, 64, "type of memory")))
    return tuple(found)


def rows(evidence: Evidence, name: str) -> tuple[Row, ...]:
    """Claims ``executable``, ``modules``, ``mounts``, ``sockets``; ``ranges``, ``kernel`` and
    ``root``, whose rows end with a digest."""
    return _rows(evidence.claim(name), name)


def devices(evidence: Evidence) -> tuple[tuple[str, str], ...]:
    """Claim ``devices``: (what the task asked for, device node passed in)."""
    pairs = [as_list(row, 2, 2, "device") for row in as_list(evidence.claim("devices"), 0, 256, "")]
    return tuple((as_text(a, 1, 300, "device"), as_text(b, 1, 300, "node")) for a, b in pairs)


def counters(evidence: Evidence) -> Counters:
    """Claim ``counters``."""
    body = _map(evidence, "counters")
    names = ("boot", "evidence", "clock_ms", "time_ms")
    return Counters(*(as_int(body[name], 0, 1 << 62, f"counter {name}") for name in names))


def scratch(evidence: Evidence) -> Scratch:
    """Claim ``scratch``."""
    body = _map(evidence, "scratch")
    return Scratch(
        as_text(body["kind"], 1, 32, "scratch kind"),
        as_text(body["cipher"], 0, 64, "cipher"),
        as_int(body["key_bits"], 0, 1 << 16, "key bits"),
        _texts(body["devices"], 16, "scratch devices"),
    )


def during(evidence: Evidence) -> tuple[tuple[bytes, bytes, bytes], ...]:
    """Claim ``during``: (member, nonce, evidence root) of each answer."""
    found = []
    for entry in as_list(evidence.claim("during"), 0, 1024, "during"):
        member, nonce, root = as_list(entry, 3, 3, "during")
        found.append(
            (as_bytes(member, 20, "member"), as_bytes(nonce, 32, ""), as_bytes(root, 32, ""))
        )
    return tuple(found)


def erasure(evidence: Evidence) -> bytes:
    """Claim ``erasure``: the transcript's bytes."""
    return as_bytes(evidence.claim("erasure"), 1, "erasure", 1 << 20)


def proof(evidence: Evidence) -> bytes:
    """Claim ``proof``: an encoded ``ErasureProof``; empty where none was made."""
    return as_bytes(evidence.claim("proof"), 0, "proof", MAX_PROOF)


def vouch(evidence: Evidence) -> str:
    """Claim ``vouch``: who stands for what the Machine says."""
    return as_text(evidence.claim("vouch"), 1, 32, "vouch")


def quote(evidence: Evidence) -> Quote:
    """Claim ``quote``: the TPM's own bytes."""
    return Quote.from_body(evidence.claim("quote"))


def log(evidence: Evidence, name: str) -> bytes:
    """Claims ``event_log`` and ``ima``; whoever parses them bounds them."""
    return as_bytes(evidence.claim(name), 0, name, MAX_EVIDENCE)


def simulated(evidence: Evidence) -> tuple[str, ...]:
    """Claim ``simulated``: parts that are not the real thing."""
    return _texts(evidence.claim("simulated"), 32, "simulated")


def not_checked(evidence: Evidence) -> tuple[str, ...]:
    """Claim ``not_checked``: what the Agent says that it does not look at."""
    return _texts(evidence.claim("not_checked"), 64, "not_checked")


def unread(evidence: Evidence) -> Iterator[str]:
    """Claims, and keys of claims, that no reader here knows."""
    for name, value in evidence.claims().items():
        if name not in KNOWN:
            yield f"claim {name}"
        elif name in _KEYS and isinstance(value, dict):
            yield from (f"claim {name}.{key}" for key in sorted(map(str, set(value) - _KEYS[name])))


def _map(evidence: Evidence, name: str) -> dict[str, object]:
    body = evidence.claim(name)
    needed = _KEYS[name] - _OPTIONAL
    if not isinstance(body, dict) or not needed <= set(body):
        raise FormatError(f"claim {name}: expected a map with {', '.join(sorted(needed))}")
    return body


def _rows(obj: object, what: str) -> tuple[Row, ...]:
    found: list[Row] = []
    for entry in as_list(obj, 0, MAX_ROWS, what):
        if entry == CUT:
            found.append((CUT,))
        elif isinstance(entry, list) and 1 <= len(entry) <= 8:
            if any(isinstance(field, list | dict) for field in entry):
                raise FormatError(f"{what}: a row holds plain values")
            found.append(tuple(entry))
        else:
            raise FormatError(f"{what}: expected rows of 1 to 8 values")
    return tuple(found)


def _texts(obj: object, high: int, what: str) -> tuple[str, ...]:
    return tuple(as_text(entry, 1, 300, what) for entry in as_list(obj, 0, high, what))
