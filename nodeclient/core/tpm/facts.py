"""What of a quote is worth keeping, to hold the next one against."""

from __future__ import annotations

from dataclasses import dataclass

from agent.formats import cbor
from agent.formats.hashes import sha256
from agent.formats.shape import as_bytes, as_int, as_map
from nodeclient.core.tpm.event_log import EventLog

# Code of the firmware (0), of cards (2) and its settings for them (3), Secure Boot keys (7): the
# same at every power-on. PCRs 1, 5 and 6 may hold boot order, partitions and wake-up events.
FIRMWARE_PCRS = (0, 2, 3, 7)
_MAX = 256  # bytes
_KEYS = ("key", "firmware", "resets", "restarts", "time_ms")


@dataclass(frozen=True, slots=True)
class TpmFacts:
    """``key`` digest of the attestation key, ``firmware`` digest over FIRMWARE_PCRS (32 bytes
    each); ``resets``, ``restarts`` and ``time_ms`` as the TPM's clock tells them."""

    key: bytes
    firmware: bytes
    resets: int
    restarts: int
    time_ms: int

    @property
    def boot(self) -> tuple[int, int]:
        """Names one boot of this TPM, and grows."""
        return self.resets, self.restarts

    def to_body(self) -> dict[str, object]:
        """For the Node's own store."""
        return {name: getattr(self, name) for name in _KEYS}

    def encode(self) -> bytes:
        """Bytes for ``decode``."""
        return cbor.encode(self.to_body())

    @classmethod
    def decode(cls, data: bytes) -> TpmFacts:
        """Read ``encode``'s bytes. Raises FormatError."""
        return cls.from_body(cbor.decode(data, _MAX))

    @classmethod
    def from_body(cls, obj: object) -> TpmFacts:
        """Read ``to_body``'s value. Raises FormatError."""
        body = as_map(obj, _KEYS, "TPM facts")
        return cls(
            as_bytes(body["key"], 32, "attestation key"),
            as_bytes(body["firmware"], 32, "firmware digest"),
            *(as_int(body[name], 0, (1 << 64) - 1, name) for name in _KEYS[2:]),
        )


def firmware_digest(log: EventLog) -> bytes:
    """One value (32 bytes) for the firmware that the log tells of."""
    values = log.values
    return sha256(b"".join(values[pcr] for pcr in FIRMWARE_PCRS))
