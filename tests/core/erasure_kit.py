"""A proof of erasure as an honest Pi keeps it, of which a test can change every part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from agent.formats import cbor
from agent.formats.erasure import WINDOW, ErasureProof, Range
from agent.formats.p256 import SigningKey
from agent.formats.quote import Quote
from nodeclient.core.evidence_policy import EraserReference
from tests.core import tpm_builder as pcs
from tests.core.tpm_builder import Measurement, SoftTpm, encode_log, extend

MIB = 1 << 20
MEMORY: list[list[Any]] = [
    [0, 640 << 10, "System RAM"],
    [640 << 10, MIB, "Reserved"],
    [MIB, 64 * MIB, "System RAM"],
    [64 * MIB, 65 * MIB, "ACPI Non-volatile Storage"],
    [4096 * MIB, 4112 * MIB, "System RAM"],
]
RANGES: tuple[Range, ...] = ((WINDOW, 64 * MIB - WINDOW), (4096 * MIB, 16 * MIB))
UNCOVERED = WINDOW - (384 << 10)
ERASER = EraserReference(
    image=b"\xa1" * 32,
    pcr4=(b"\xa2" * 32,),
    pcr9=(b"\xa3" * 32,),
    pcr11=(b"\xa4" * 32, b"\xa5" * 32),
)


def eraser_boot() -> list[Measurement]:
    """The same firmware as in ``honest_boot``, which booted the eraser."""
    begun = [
        event for event in pcs.honest_boot() if event.pcr < 8 and event.kind != pcs.APPLICATION
    ]
    return [
        *begun,
        *(Measurement(4, pcs.APPLICATION, b"\x01path", digest) for digest in ERASER.pcr4),
        *(Measurement(11, pcs.IPL, b"part", digest) for digest in ERASER.pcr11),
        *(Measurement(9, pcs.EVENT_TAG, b"options", digest) for digest in ERASER.pcr9),
    ]


@dataclass
class Erasure:
    """One erasure, as its Pi and its TPM tell of it.

    ``over``: what the TPM quotes, if not this proof. ``edits`` change the encoded proof's fields
    after the TPM signed.
    """

    tpm: SoftTpm
    events: list[Measurement] = field(default_factory=eraser_boot)
    proof: ErasureProof = ErasureProof(  # noqa: RUF009 - frozen
        image=ERASER.image,
        nonce=b"\xb1" * 32,
        ranges=RANGES,
        window=20 * MIB,
        seed=b"\xb2" * 32,
        keys=b"\xb3" * 64,
        answer=b"\xb4" * 32,
    )
    over: ErasureProof | None = None
    edits: list[Callable[[dict[str, Any]], object]] = field(default_factory=list)

    def quote(self) -> Quote:
        """What the TPM signs, after the eraser answered."""
        return self.tpm.quote(extend(self.events), (self.over or self.proof).qualifying)

    def encode(self) -> bytes:
        """The proof as the Pi hands it to the Agent."""
        whole = replace(self.proof, quote=self.quote(), event_log=encode_log(self.events))
        body = cbor.decode(whole.encode(), 1 << 20)
        assert isinstance(body, dict)
        for edit in self.edits:
            edit(body)
        return cbor.encode(body)


def honest_erasure(key: SigningKey, resets: int) -> Erasure:
    """By the TPM with this attestation key, in the boot of this number."""
    return Erasure(SoftTpm(key, time_ms=6000, resets=resets))
