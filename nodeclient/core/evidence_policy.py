"""What an asker brings to an appraisal besides the Evidence. All frozen, all passed in.

``Expected`` is what the asker knows of the question and the task; ``ReferenceValues`` what approved
parts measure; ``Endorsements`` what others vouch for; ``AppraisalPolicy`` what the asker accepts.
The defaults accept nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.formats import cbor
from agent.formats.evidence import Evidence
from agent.formats.shape import as_bytes, as_int, as_map
from agent.formats.taskspec import TaskSpec
from nodeclient.core import claims
from nodeclient.core.policy import OwnerPolicy
from nodeclient.core.types import Address, Phase, RootClass, Statement

RangeAnswer = tuple[str, int, int, bytes]
"""(path, offset, length, sha256(nonce ‖ bytes)), as ``agent.formats.measure.answer_ranges``."""

ERASED = frozenset({"containers", "content_keys", "images", "scratch"})  # checks of agent.erase
_MAX_REMEMBERED = 4 << 20


@dataclass(frozen=True, slots=True)
class Nonce:
    """The asker's own nonce. With ``member`` it must be a leaf under the Evidence's nonce, shown
    by ``path``; without, the Evidence must answer exactly it."""

    own: bytes
    member: Address | None = None
    path: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an asker keeps of Evidence that it affirmed, to hold later Evidence against."""

    hpke: bytes
    signing: bytes
    image: bytes
    boot_nonce: bytes
    counters: claims.Counters
    inventory: Mapping[str, tuple[claims.Row, ...]]

    def encode(self) -> bytes:
        """Bytes for the Node's own store."""
        return cbor.encode(
            {
                "hpke": self.hpke,
                "signing": self.signing,
                "image": self.image,
                "boot_nonce": self.boot_nonce,
                "boot": self.counters.boot,
                "evidence": self.counters.evidence,
                "clock_ms": self.counters.clock_ms,
                "inventory": {bus: list(rows) for bus, rows in self.inventory.items()},
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Remembered:
        """Read ``encode``'s bytes. Raises FormatError."""
        names = ("hpke", "signing", "image", "boot_nonce", "boot", "evidence", "clock_ms")
        body = as_map(cbor.decode(data, _MAX_REMEMBERED), (*names, "inventory"), "remembered")
        counts = (as_int(body[name], 0, 1 << 62, name) for name in names[4:])
        return cls(
            as_bytes(body["hpke"], 32, "hpke"),
            as_bytes(body["signing"], 64, "signing"),
            as_bytes(body["image"], 32, "image"),
            as_bytes(body["boot_nonce"], 32, "boot nonce"),
            claims.Counters(*counts),
            claims.read_inventory(body["inventory"]),
        )


def remember(evidence: Evidence) -> Remembered:
    """Facts of Evidence that was affirmed. Raises FormatError, which affirmed Evidence does not."""
    hpke, signing = evidence.session()
    boot = claims.boot(evidence)
    return Remembered(
        hpke,
        signing,
        boot.image,
        boot.nonce,
        claims.counters(evidence),
        claims.inventory(evidence),
    )


@dataclass(frozen=True, slots=True)
class Expected:
    """The question and the task as the asker knows them.

    ``statement`` is the root-signed header of BEFORE or AFTER. Without one, the question is the
    asker's own to the session that was admitted: a member's DURING, or a broker's before it
    releases a key. ``before`` is what BEFORE showed, needed for everything but BEFORE's first
    appraisal; ``last`` the latest affirmed Evidence of the same boot. ``answers`` are the asker's
    own (nonce, evidence root) of DURING, ``asked`` every nonce that it drew. ``fetched`` are the
    result CIDs that the asker holds.
    """

    chain_id: int
    market: Address
    task: int
    commitment: bytes
    node: Address
    phase: Phase
    attempt: int
    nonce: Nonce
    spec: TaskSpec
    statement: Statement | None = None
    before: Remembered | None = None
    last: Remembered | None = None
    member: Address | None = None
    committee: frozenset[Address] = frozenset()
    answers: tuple[tuple[bytes, bytes], ...] = ()
    asked: frozenset[bytes] = frozenset()
    fetched: frozenset[str] = frozenset()

    @property
    def in_session(self) -> bool:
        """Whether this is asked of the boot whose BEFORE Evidence the asker already knows."""
        return self.phase is Phase.DURING or (
            self.phase is Phase.BEFORE and self.before is not None
        )


@dataclass(frozen=True, slots=True)
class ReferenceValues:
    """Approved measurements. ``ranges`` are the asker's own answers for the Evidence's nonce.

    An empty set approves nothing. The four that are None are not known for this kind of Machine:
    the result then names the check as not made.
    """

    boot_images: frozenset[bytes] = frozenset()
    agents: frozenset[bytes] = frozenset()
    runtime_images: frozenset[bytes] = frozenset()
    ranges: Sequence[RangeAnswer] = ()
    command_lines: frozenset[str] | None = None
    executables: frozenset[bytes] | None = None
    modules: frozenset[str] | None = None
    mounts: frozenset[tuple[str, str]] | None = None
    sockets: frozenset[tuple[str, str, int]] | None = None


@dataclass(frozen=True, slots=True)
class Endorsements:
    """What others vouch for: the registry its root class, a verified quote the Machine's TPM.

    ``quote_verified``: the caller checked a quote by the registered attestation key over this
    Evidence's session key hash and nonce.
    """

    root_class: RootClass
    quote_verified: bool = False


@dataclass(frozen=True, slots=True)
class AppraisalPolicy:
    """What this asker accepts: who vouches, which parts may be simulated, how many answers."""

    vouch: frozenset[str] = frozenset()
    simulated: frozenset[str] = frozenset()
    least_answers: int = 3
    erased: frozenset[str] = field(default=ERASED)


def owner_appraisal(policy: OwnerPolicy) -> AppraisalPolicy:
    """The part of an owner's policy that Evidence is judged by."""
    return AppraisalPolicy(vouch=policy.vouch, simulated=policy.simulated)
