"""What a Machine hands out so that others can learn in which TPM its attestation key lives.

The certificate of the endorsement key (EK) is its maker's word that this key lives in a TPM. Only
that TPM can open what is sealed to the EK, and it does so only if the attestation key (AK) named in
the seal lives in it too: credential activation (TPM 2.0 Library, Part 1, §24). Nothing here is
believed by itself; whoever asks seals a secret of its own and waits for it to come back.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.formats import cbor
from agent.formats.quote import MAX_PUBLIC
from agent.formats.shape import as_bytes, as_list, as_map

MAX_CERTIFICATES = 8
MAX_CERTIFICATE = 4096  # bytes of DER; TPMs keep some 900 to 1600
MAX_ENDORSEMENT = 40 << 10
MAX_BLOB = 128  # bytes of a TPM2B_ID_OBJECT; with SHA-256 names and 32-byte secrets it has 70
MAX_SECRET = 514  # bytes of a TPM2B_ENCRYPTED_SECRET; RSA 2048 makes it 258
CREDENTIAL = 32  # bytes of the secret that comes back


@dataclass(frozen=True, slots=True)
class Endorsement:
    """`certificates`: DER, the EK's first, then issuers that the TPM keeps, if any.

    `ek`, `ak`: TPMT_PUBLIC of the endorsement and the attestation key.
    """

    certificates: tuple[bytes, ...]
    ek: bytes
    ak: bytes

    def to_body(self) -> dict[str, object]:
        """Answer of the call `endorsement`."""
        return {"certificates": list(self.certificates), "ek": self.ek, "ak": self.ak}

    @classmethod
    def from_body(cls, obj: object) -> Endorsement:
        """Parse. Raises FormatError."""
        body = as_map(obj, ("certificates", "ek", "ak"), "endorsement")
        return cls(
            tuple(
                as_bytes(each, 1, "EK certificate", MAX_CERTIFICATE)
                for each in as_list(body["certificates"], 0, MAX_CERTIFICATES, "EK certificates")
            ),
            as_bytes(body["ek"], 1, "endorsement key", MAX_PUBLIC),
            as_bytes(body["ak"], 1, "attestation key", MAX_PUBLIC),
        )

    def encode(self) -> bytes:
        """Bytes for `decode`."""
        return cbor.encode(self.to_body())

    @classmethod
    def decode(cls, data: bytes) -> Endorsement:
        """Parse foreign bytes. Raises FormatError."""
        return cls.from_body(cbor.decode(data, MAX_ENDORSEMENT))


@dataclass(frozen=True, slots=True)
class Challenge:
    """Body of the call `activate`, whose answer is the secret (CREDENTIAL bytes).

    blob: TPM2B_ID_OBJECT; secret: TPM2B_ENCRYPTED_SECRET; both with their two length bytes, as
    TPM2_MakeCredential gives them (Part 3, §12.6).
    """

    blob: bytes
    secret: bytes

    def to_body(self) -> dict[str, object]:
        """The call's body."""
        return {"blob": self.blob, "secret": self.secret}

    @classmethod
    def from_body(cls, obj: object) -> Challenge:
        """Parse. Raises FormatError."""
        body = as_map(obj, ("blob", "secret"), "challenge")
        return cls(
            as_bytes(body["blob"], 3, "credential blob", MAX_BLOB),
            as_bytes(body["secret"], 3, "encrypted secret", MAX_SECRET),
        )
