"""How the channel's keys are replaced while a Machine runs: a ratchet that both ends turn together.

The Pi offers the digest of a new certificate and fresh randomness over the channel of today; the
Agent answers with its own. Out of today's secret and both halves comes tomorrow's. Either half
travels inside TLS 1.3 only, so who learns an old secret later, from a stolen disk, can derive none
of those that followed: he lacks the halves, and the keys that protected them are gone.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.formats.shape import as_bytes, as_int, as_map

ROTATE = "rotate"
MAX_GENERATION = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Half:
    """What one end brings: SHA-256 of its new certificate (DER), 32 fresh random bytes."""

    certificate: bytes
    random: bytes

    def to_body(self) -> dict[str, object]:
        """The Agent's answer to an offer."""
        return {"certificate": self.certificate, "random": self.random}

    @classmethod
    def from_body(cls, body: object) -> Half:
        """Parse an answer. Raises FormatError."""
        fields = as_map(body, ("certificate", "random"), "rotation")
        return cls(
            as_bytes(fields["certificate"], 32, "certificate digest"),
            as_bytes(fields["random"], 32, "random"),
        )


@dataclass(frozen=True, slots=True)
class Offer:
    """The Pi's request: which generation comes next (the boot's own keys are 0), and its half."""

    generation: int
    half: Half

    def to_body(self) -> dict[str, object]:
        """Body of `rotate`."""
        return {"generation": self.generation, **self.half.to_body()}

    @classmethod
    def from_body(cls, body: object) -> Offer:
        """Parse a request. Raises FormatError."""
        names = ("generation", "certificate", "random")
        fields = dict(as_map(body, names, "rotation"))
        generation = as_int(fields.pop("generation"), 1, MAX_GENERATION, "generation")
        return cls(generation, Half.from_body(fields))


def next_secret(secret: bytes, offer: Offer, answer: Half) -> bytes:
    """The secret (32 bytes) of the offered generation: HKDF-SHA256 of RFC 5869."""
    kdf = HKDF(
        algorithm=hashes.SHA256(),
        length=32,
        salt=offer.half.random + answer.random,
        info=b"sealrun/rotation/v1"
        + offer.generation.to_bytes(4, "big")
        + offer.half.certificate
        + answer.certificate,
    )
    return kdf.derive(secret)
