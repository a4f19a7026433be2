"""What the daemon and its boot server say to each other: an order in, events out, over pipes.

The order holds the boot's secrets: a pipe leaves them in no process table and in no file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from agent.boot import MAX_BOOT
from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.shape import as_bytes, as_map, as_path, as_text
from nodeclient.errors import BadInput
from nodeclient.machine.netboot.cable import Cable

LENGTH = 4  # bytes before an order: its size, big-endian
MAX_ORDER = MAX_BOOT + 8192
MAX_LINE = 512
_KEYS = ("interface", "mac", "folder", "image", "parameters")


class Event(Enum):
    """One line of the boot server. FAILED carries a reason after a blank."""

    READY = "ready"
    EFI = "efi"
    ROOT = "root"
    PARAMETERS = "parameters"
    AGAIN = "again"  # somebody asked for the parameters a second time
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class BootOrder:
    """Serve one image (ID, 32 bytes) from `folder` and these encoded BootParameters, once.

    An eraser has no parameters: empty.
    """

    cable: Cable
    folder: Path
    image: bytes
    parameters: bytes

    def encode(self) -> bytes:
        """Length and bytes for `decode`. Secret."""
        body = cbor.encode(
            {
                "interface": self.cable.interface,
                "mac": self.cable.mac,
                "folder": str(self.folder),
                "image": self.image,
                "parameters": self.parameters,
            }
        )
        return len(body).to_bytes(LENGTH, "big") + body

    @classmethod
    def decode(cls, data: bytes) -> BootOrder:
        """Parse what followed the length. Raises FormatError."""
        body = as_map(cbor.decode(data, MAX_ORDER), _KEYS, "boot order")
        try:
            cable = Cable(
                as_text(body["interface"], 1, 15, "interface"), as_text(body["mac"], 17, 17, "mac")
            )
        except BadInput as error:
            raise FormatError(str(error)) from error
        return cls(
            cable,
            as_path(body["folder"], "folder"),
            as_bytes(body["image"], 32, "image"),
            as_bytes(body["parameters"], 0, "parameters", MAX_BOOT),
        )
