"""What a Node says that it runs, and what a peer makes of it. Pure.

The statement is signed by the root key over the asker's nonce: it cannot be repeated later, and a
lie in it stays provable. It is a statement all the same: a Node whose software was replaced may say
what it likes. What it shows is a Pi that runs on with an image that was revoked meanwhile, and one
that never reported what it loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.hashes import keccak256, sha256
from agent.formats.shape import as_bytes, as_int, as_list, as_map, as_text
from nodeclient.core.digests import words
from nodeclient.core.images import ImageKind, ImageRecord, fault
from nodeclient.core.types import Address

RUNNING_DOMAIN = keccak256(b"sealrun/running/v1")
MAX_SERVICES = 32
MAX_NAME = 40  # characters of a service's name
MAX_RUNNING = 8 << 10  # bytes of a statement
_KEYS = ("node", "nonce", "block", "boot", "services", "watched")

# A revoked image is stopped within two blocks, a load is reported within a few; an honest answer in
# between shows a mismatch. What a second answer shows, so many blocks after the first, is none.
GRACE_BLOCKS = 8


@dataclass(frozen=True, slots=True)
class RunningSet:
    """What `node` runs as of `block`.

    boot: image of the Machine that is on; empty: none is. services: (name, image ID) of each
    container, by name. watched: the block up to which their images were last held against the
    chain; 0 where nothing watches services.
    """

    node: Address
    nonce: bytes
    block: int
    boot: bytes
    services: tuple[tuple[str, bytes], ...]
    watched: int

    def encode(self) -> bytes:
        """Canonical CBOR. Raises FormatError for what `decode` would refuse."""
        services = [list(each) for each in self.services]
        fields = (self.node, self.nonce, self.block, self.boot, services, self.watched)
        encoded = cbor.encode(dict(zip(_KEYS, fields, strict=True)))
        if RunningSet.decode(encoded) != self:
            raise FormatError("running set: fields do not survive; look at the services' names")
        return encoded

    @staticmethod
    def decode(data: bytes) -> RunningSet:
        """Parse a statement. Raises FormatError."""
        fields = as_map(cbor.decode(data, MAX_RUNNING, 8 + 3 * MAX_SERVICES), _KEYS, "running set")
        boot = as_bytes(fields["boot"], 0, "running set boot", 32)
        if len(boot) not in (0, 32):
            raise FormatError("running set: boot is no image ID")
        services = as_list(fields["services"], 0, MAX_SERVICES, "running set services")
        return RunningSet(
            Address(as_bytes(fields["node"], 20, "running set node")),
            as_bytes(fields["nonce"], 32, "running set nonce"),
            as_int(fields["block"], 0, 2**63 - 1, "running set block"),
            boot,
            tuple(_service(each) for each in services),
            as_int(fields["watched"], 0, 2**63 - 1, "running set watched"),
        )

    def images(self) -> tuple[tuple[bytes, ImageKind], ...]:
        """Each image that is named, once, with what it is used as."""
        named = {(self.boot, ImageKind.BOOT)} if self.boot else set()
        return tuple(sorted(named | {(image, ImageKind.SERVICE) for _, image in self.services}))


def _service(entry: object) -> tuple[str, bytes]:
    name, image = as_list(entry, 2, 2, "running set service")
    return (
        as_text(name, 1, MAX_NAME, "running set name"),
        as_bytes(image, 32, "running set image"),
    )


def running_digest(chain_id: int, registry: Address, statement: bytes) -> bytes:
    """What a root key signs to state its running set (the encoded statement)."""
    return sha256(words(RUNNING_DOMAIN, chain_id, registry, keccak256(statement)))


@dataclass(frozen=True, slots=True)
class Known:
    """What the chain says of an image: its entry, and whether the Node reported its load."""

    record: ImageRecord | None
    reported: bool


@dataclass(frozen=True, slots=True, order=True)
class Mismatch:
    """One image that a Node should not run, or should have reported. `grave`: not approved."""

    image: bytes
    grave: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.image.hex()[:16]}…, {self.reason}" if self.image else self.reason


def mismatches(stated: RunningSet, known: Mapping[bytes, Known], now: int) -> tuple[Mismatch, ...]:
    """Where a statement and the chain (at `now`, seconds since 1970) differ."""
    found: list[Mismatch] = []
    for image, kind in stated.images():
        entry = known.get(image, Known(None, reported=False))
        if reason := fault(entry.record, kind, now):
            found.append(Mismatch(image, grave=True, reason=f"{kind.name}, {reason}"))
        elif not entry.reported:
            found.append(Mismatch(image, grave=False, reason=f"{kind.name}, load not reported"))
    return tuple(sorted(found))


Standing = Mapping[Mismatch, int]
"""Each mismatch of the newest answer, and the block in which an answer first showed it."""


def weigh(former: Standing, shown: tuple[Mismatch, ...], block: int) -> dict[Mismatch, int]:
    """What stands after an answer heard at `block`: one sound answer clears all."""
    return {each: former.get(each, block) for each in shown}


def findings(standing: Standing, block: int) -> tuple[Mismatch, ...]:
    """The mismatches that an answer at `block` showed and an earlier one had shown long enough."""
    return tuple(sorted(each for each, first in standing.items() if block - first >= GRACE_BLOCKS))
