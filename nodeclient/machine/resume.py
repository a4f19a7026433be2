"""What a restarted daemon needs to find its running Machine again.

It names one boot and never changes. The channel's keys do, so they lie in a `KeySlot`.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.shape import as_bytes, as_int, as_list, as_map
from nodeclient.errors import MachineError
from nodeclient.ports import Session

_MAX_RECORD = 16 * 1024
_NAMES = ("process", "port", "image", "hpke", "signing")


@dataclass(frozen=True, slots=True)
class ResumeRecord:
    """One boot: port, image and session keys.

    process: pid and start in clock ticks, where the Machine is a process of this host.
    """

    process: tuple[int, int] | None
    port: int
    image: bytes
    hpke: bytes
    signing: bytes

    def encode(self) -> bytes:
        """Bytes for `decode`."""
        return cbor.encode(
            {
                "process": None if self.process is None else list(self.process),
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
                _process(body["process"]),
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


def _process(body: object) -> tuple[int, int] | None:
    if body is None:
        return None
    pid, started = as_list(body, 2, 2, "process")
    return as_int(pid, 1, 1 << 31, "pid"), as_int(started, 0, 1 << 62, "start")
