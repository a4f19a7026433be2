"""What an asker brings to an appraisal besides the Evidence. All frozen, all passed in.

``Expected`` is what the asker knows of the question and the task; ``ReferenceValues`` what approved
parts measure; ``Endorsements`` what others vouch for; ``AppraisalPolicy`` what the asker accepts.
The defaults accept nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.formats import cbor
from agent.formats.cable import MAX_CABLE, CableReport
from agent.formats.evidence import TPM_QUOTED, Evidence
from agent.formats.outcome import LEAST_ANSWERS
from agent.formats.ranges import Answer
from agent.formats.shape import as_bytes, as_int, as_map
from agent.formats.taskspec import TaskSpec
from nodeclient.core import claims
from nodeclient.core.policy import OwnerPolicy
from nodeclient.core.tpm.facts import TpmFacts
from nodeclient.core.tpm.material import read_material
from nodeclient.core.types import Address, Phase, RootClass, Statement

RangeAnswer = tuple[str, int, int, bytes]
"""(path, offset, length, sha256(nonce ‖ bytes)), as ``agent.formats.measure.answer_ranges``."""

ERASED = frozenset({"containers", "content_keys", "images", "scratch"})  # checks of agent.erase
ERASED_QUOTED = ERASED | {"scratch_key"}  # where a TPM vouches: see ``checks.task.scratch``
MOST_UNCOVERED = 24 << 20  # bytes: the eraser's window, and what firmware took meanwhile
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
    """What an asker keeps of Evidence that it affirmed, to hold later Evidence against. ``tpm`` is
    None where no TPM vouched, ``cable`` where the Machine has none."""

    hpke: bytes
    signing: bytes
    image: bytes
    boot_nonce: bytes
    counters: claims.Counters
    inventory: Mapping[str, tuple[claims.Row, ...]]
    memory: tuple[claims.Region, ...] = ()
    tpm: TpmFacts | None = None
    cable: CableReport | None = None

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
                "time_ms": self.counters.time_ms,
                "inventory": {bus: list(rows) for bus, rows in self.inventory.items()},
                "memory": [[row.start, row.end, row.kind] for row in self.memory],
                "tpm": None if self.tpm is None else self.tpm.to_body(),
                "cable": b"" if self.cable is None else self.cable.encode(),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Remembered:
        """Read ``encode``'s bytes. Raises FormatError."""
        counts = ("boot", "evidence", "clock_ms", "time_ms")
        names = ("hpke", "signing", "image", "boot_nonce", *counts)
        body = as_map(
            cbor.decode(data, _MAX_REMEMBERED),
            (*names, "inventory", "memory", "tpm", "cable"),
            "remembered",
        )
        cable = as_bytes(body["cable"], 0, "cable", MAX_CABLE)
        return cls(
            as_bytes(body["hpke"], 32, "hpke"),
            as_bytes(body["signing"], 64, "signing"),
            as_bytes(body["image"], 32, "image"),
            as_bytes(body["boot_nonce"], 32, "boot nonce"),
            claims.Counters(*(as_int(body[name], 0, 1 << 62, name) for name in counts)),
            claims.read_inventory(body["inventory"]),
            claims.read_memory(body["memory"]),
            None if body["tpm"] is None else TpmFacts.from_body(body["tpm"]),
            CableReport.decode(cable) if cable else None,
        )


def remember(evidence: Evidence) -> Remembered:
    """Facts of Evidence that was affirmed. Raises FormatError, which affirmed Evidence does not."""
    hpke, signing = evidence.session()
    boot = claims.boot(evidence)
    quoted = claims.vouch(evidence) == TPM_QUOTED
    return Remembered(
        hpke,
        signing,
        boot.image,
        boot.nonce,
        claims.counters(evidence),
        claims.inventory(evidence),
        claims.memory(evidence),
        read_material(evidence).facts() if quoted else None,
        claims.cable(evidence),
    )


@dataclass(frozen=True, slots=True)
class Expected:
    """The question and the task as the asker knows them.

    ``statement`` is the root-signed header of BEFORE or AFTER. Without one, the question is the
    asker's own to the session that was admitted: a member's DURING, or a broker's before it
    releases a key. ``before`` is what BEFORE showed, needed for everything but BEFORE's first
    appraisal; ``last`` the latest affirmed Evidence of the same boot. ``answers`` are the asker's
    own (nonce, evidence root) of DURING, ``asked`` every nonce that it drew. ``fetched`` are the
    result CIDs that the asker holds. ``longest``: milliseconds that the run can have taken at most,
    because the asker's questions were declined before and after it; None: it does not know.
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
    longest: int | None = None

    @property
    def in_session(self) -> bool:
        """Whether this is asked of the boot whose BEFORE Evidence the asker already knows."""
        return self.phase is Phase.DURING or (
            self.phase is Phase.BEFORE and self.before is not None
        )


@dataclass(frozen=True, slots=True)
class BootReference:
    """What a Machine must show that booted ``image``: all of it computed from the image's files.

    ``pcr4``, ``pcr9`` and ``pcr11`` are digests of events (32 bytes), in order, ``programs`` those
    of all that may run, as in ``agent.formats.bootimage.BootManifest``; ``kernel`` and ``root``
    the asker's own answers (offset, length, digest) for the Evidence's nonce, as
    ``agent.formats.ranges.answer``.
    """

    image: bytes
    pcr4: tuple[bytes, ...]
    pcr9: tuple[bytes, ...]
    pcr11: tuple[bytes, ...]
    command_line: str
    agent: bytes
    kernel: tuple[Answer, ...]
    root: tuple[Answer, ...]
    programs: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class EraserReference:
    """What a Machine's TPM must show that booted the eraser ``image``: as ``BootReference``."""

    image: bytes
    pcr4: tuple[bytes, ...]
    pcr9: tuple[bytes, ...]
    pcr11: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ReferenceValues:
    """Approved measurements. ``ranges`` are the asker's own answers for the Evidence's nonce.

    An empty set approves nothing. ``boot`` is of the one image that the Evidence names; without it
    no TPM's quote is believed. ``eraser`` is of the one that an erasure proof names, if that is
    approved. ``drivers`` are the digests that may stand in PCR 2 (what
    cards bring), ``firmware`` those of ``tpm.facts.firmware_digest``, ``files`` those of the IMA
    list. What is None is not known for this kind of Machine: the result then names the check as
    not made.
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
    boot: BootReference | None = None
    eraser: EraserReference | None = None
    drivers: frozenset[bytes] = frozenset()
    firmware: frozenset[bytes] | None = None
    files: frozenset[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Endorsements:
    """What others vouch for, of the Node that is asked.

    The registry: its root class, and ``attestation_key``, the digest in the Name of its Machine's
    key. ``ek_proven``: the asker itself saw that this key lives in the TPM of an EK certificate of
    a maker that it trusts (``tpm.endorsement``, ``tpm.credential``); ``ek_fault`` says why not.
    ``last`` is what this key stated at the end of the latest task that the asker affirmed: a first
    BEFORE has nothing else to be held against.
    """

    root_class: RootClass
    attestation_key: bytes = b""
    ek_proven: bool = False
    ek_fault: str = ""
    last: TpmFacts | None = None


@dataclass(frozen=True, slots=True)
class AppraisalPolicy:
    """What this asker accepts: who vouches, which parts may be simulated, how many answers, and
    how many frames a Machine that runs may send to others than its Pi. uncovered: how many bytes of
    RAM a proof of erasure may leave out."""

    vouch: frozenset[str] = frozenset()
    simulated: frozenset[str] = frozenset()
    least_answers: int = LEAST_ANSWERS
    most_strays: int = 3  # an honest one sends none; a broken frame or two is no attempt
    erased: frozenset[str] = field(default=ERASED)
    uncovered: int = MOST_UNCOVERED


def owner_appraisal(policy: OwnerPolicy) -> AppraisalPolicy:
    """The part of an owner's policy that Evidence is judged by."""
    return AppraisalPolicy(vouch=policy.vouch, simulated=policy.simulated)
