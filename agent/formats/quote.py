"""What a Machine's TPM is asked to sign, and the claims that carry it.

A quote's qualifying data binds the asker's nonce, the session that content keys are sealed to, and
the step of the task: a quote of another session, task, chain or node has other data. The structures
themselves are the TPM's own bytes (TPM 2.0 Library, Part 2); this file only bounds them.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.formats import cbor
from agent.formats.context import Context
from agent.formats.hashes import sha256
from agent.formats.shape import as_bytes, as_map

# Firmware and its settings (0-7), what the kernel measured of files (10), boot loader and kernel
# (4, 9, 11), and what systemd-stub adds to what was built (12 command line, 13 extensions, 14 MOK):
# quoted because they must show that nothing was added. SHA-256 bank only.
QUOTED_PCRS = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14)

MAX_ATTEST = 1024  # bytes of a TPMS_ATTEST; a quote has some 150
MAX_SIGNATURE = 1024  # bytes of a TPMT_SIGNATURE; P-256 has 72
MAX_PUBLIC = 1024  # bytes of a TPMT_PUBLIC; RSA 2048 has some 310
MAX_EVENT_LOG = 512 << 10
MAX_IMA = 1 << 20
_DOMAIN = b"sealrun/quote/v1"


def qualifying_data(nonce: bytes, session_key_hash: bytes, context: Context) -> bytes:
    """What the TPM signs beside the PCRs (32 bytes): nonce and session_key_hash have 32 each."""
    return sha256(
        _DOMAIN
        + as_bytes(nonce, 32, "nonce")
        + as_bytes(session_key_hash, 32, "session key hash")
        + sha256(cbor.encode(context.to_body()))
    )


@dataclass(frozen=True, slots=True)
class Quote:
    """The `quote` claim: TPMS_ATTEST, TPMT_SIGNATURE over it, TPMT_PUBLIC of the key, as bytes."""

    attest: bytes
    signature: bytes
    ak: bytes

    def to_body(self) -> dict[str, object]:
        """The claim's value."""
        return {"attest": self.attest, "signature": self.signature, "ak": self.ak}

    @classmethod
    def from_body(cls, obj: object) -> Quote:
        """Parse: bounds only, the appraisal judges. Raises FormatError."""
        body = as_map(obj, ("attest", "signature", "ak"), "quote")
        return cls(
            as_bytes(body["attest"], 1, "attest", MAX_ATTEST),
            as_bytes(body["signature"], 1, "quote signature", MAX_SIGNATURE),
            as_bytes(body["ak"], 1, "attestation key", MAX_PUBLIC),
        )
