"""What a restarted daemon needs to find its running Machine again.

It names one boot and never changes. The channel's keys do, so they lie in a `KeySlot`.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.shape import as_bytes, as_int, as_map
from nodeclient.errors import MachineError
from nodeclient.ports import Session

_MAX_RECORD = 16 * 1024
_NAMES = ("pid", "started", "port", "image", "hpke", "signing")


@dataclass(frozen=True, slots=True)
class ResumeRecord:
    """One boot: its process (pid and start in clock ticks), port, image and session keys."""

    pid: int
    started: int
    port: int
    image: bytes
    hpke: bytes
    signing: bytes

    def encode(self) -> bytes:
        """Bytes for `decode`."""
        return cbor.encode(
            {
                "pid": self.pid,
                "started": self.started,
                "port": self.port,
                "image": self.image,
                "hpke": self.hpke,
                "signing": self.signing,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> ResumeRecord:
        """Parse. Raises MachineError."""
        try:
            body = as_map(cbor.decode(data, _MAX_RECORD), _NAMES, "resume record")
            return cls(
                as_int(body["pid"], 1, 1 << 31, "pid"),
                as_int(body["started"], 0, 1 << 62, "start"),
                as_int(body["port"], 1, 65535, "port"),
                as_bytes(body["image"], 32, "image"),
                as_bytes(body["hpke"], 32, "hpke"),
                as_bytes(body["signing"], 64, "signing"),
            )
        except FormatError as error:
            raise MachineError(f"{error}", "boot the Machine again") from error

    def session(self) -> Session:
        """The session as the rest of the Node knows it."""
        return Session(self.hpke, self.signing, self.image, self.encode())
