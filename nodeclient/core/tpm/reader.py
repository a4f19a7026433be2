"""Reading the TPM's and the firmware's structures: every length is checked before it is believed.

TPM structures are big-endian (TPM 2.0 Library, Part 1, §6.3), what firmware and kernel log is
little-endian (TCG PC Client Platform Firmware Profile, §10.1).
"""

from __future__ import annotations

from typing import Literal

from agent.formats.cbor import FormatError


class TpmError(FormatError):
    """Bytes of a TPM, a log or a certificate that are not what the specification permits."""


class Reader:
    """A cursor over foreign bytes. Each method raises TpmError where they end too early."""

    def __init__(self, data: bytes, order: Literal["big", "little"], what: str) -> None:
        self._data, self._order, self._what = data, order, what
        self.offset = 0

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        end = self.offset + size
        if end > len(self._data):
            raise TpmError(f"{self._what}: ends inside a field; fetch it again")
        part = self._data[self.offset : end]
        self.offset = end
        return part

    def integer(self, size: int) -> int:
        """An unsigned integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), self._order)

    def sized(self, width: int, most: int) -> bytes:
        """A field behind its length (``width`` bytes), of at most ``most`` bytes."""
        size = self.integer(width)
        if size > most:
            raise TpmError(f"{self._what}: a field of {size} bytes exceeds {most}")
        return self.take(size)

    def expect(self, size: int, value: int, name: str) -> None:
        """An integer that permits one value only."""
        found = self.integer(size)
        if found != value:
            raise TpmError(f"{self._what}: {name} is {found:#x}, not {value:#x}")

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self.offset

    def end(self) -> None:
        """Nothing may follow."""
        if self.left:
            raise TpmError(f"{self._what}: {self.left} bytes after its end")
