"""Commands and responses of a TPM 2.0 as bytes (TPM 2.0 Library, Part 1 §18, Part 2 §6-§10).

The Agent needs eight commands. The libraries that speak all of them bring some thirty others with
them, an HTTP client and LDAP among them, into a root that everything here is about keeping small.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from agent.formats.tpm_command import (
    NO_SESSIONS,
    SESSIONS,
    command,
    password,
    sized,
    u16,
    u32,
)

__all__ = [
    "DEVICE",
    "MAX_RESPONSE",
    "Device",
    "Reader",
    "TpmError",
    "Transport",
    "execute",
    "password",
    "sized",
    "u16",
    "u32",
]

DEVICE = Path("/dev/tpmrm0")  # the kernel's resource manager: handles are this process's own
MAX_RESPONSE = 4096  # bytes; the largest that the TCG's PC profile permits
_SUCCESS, _RETRY = 0, 0x922  # TPM_RC
_TRIES = 20  # a busy TPM says RETRY after its own pause; this many times it is broken


class TpmError(Exception):
    """The TPM refused a command, or answered what no TPM answers. `code` is its TPM_RC, if any."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Transport(Protocol):
    """Something that takes one command and gives its response."""

    def transmit(self, command: bytes) -> bytes:
        """The response to `command`, whole. Raises TpmError."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Device:
    """The TPM of this Machine as the kernel offers it."""

    def __init__(self, path: Path = DEVICE) -> None:
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise TpmError(f"{path} cannot be opened ({error.strerror}); boot again") from error

    def transmit(self, command: bytes) -> bytes:
        """One write, one read: the driver gives a response whole or not at all."""
        try:
            os.write(self._handle, command)
            return os.read(self._handle, MAX_RESPONSE)
        except OSError as error:
            raise TpmError(f"the TPM does not answer ({error.strerror}); boot again") from error

    def close(self) -> None:
        """Close the device; the kernel flushes what this process loaded."""
        os.close(self._handle)


class Reader:
    """Takes big-endian fields from a response. Raises TpmError where it ends too early or late."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        part = self._data[self._at : self._at + size]
        if len(part) != size:
            raise TpmError("the TPM's response is too short; boot again")
        self._at += size
        return part

    def integer(self, size: int) -> int:
        """The next unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def sized(self) -> bytes:
        """The content of the next TPM2B: two bytes of length, then so many."""
        return self.take(self.integer(2))

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        """Refuse bytes that are left."""
        if self._at != len(self._data):
            raise TpmError("the TPM's response is too long; boot again")


def execute(
    transport: Transport,
    code: int,
    handles: tuple[int, ...] = (),
    parameters: bytes = b"",
    *,
    authorise: tuple[bytes, ...] = (),
    answers_handle: bool = False,
) -> tuple[int, Reader]:
    """Run one command: (handle or 0, its response's parameters).

    `authorise` has one `password(…)` per handle that needs it, in their order. Raises TpmError with
    the TPM's code if it refuses.
    """
    sent = command(code, handles, parameters, authorise)
    for _ in range(_TRIES):
        response = transport.transmit(sent)
        content = Reader(response)
        answered, size, result = content.integer(2), content.integer(4), content.integer(4)
        if result != _RETRY:
            break
    if size != len(response):
        raise TpmError("the TPM's response has another length than it says; boot again")
    if result != _SUCCESS:
        raise TpmError(f"the TPM refused command {code:#x} with {result:#x}", result)
    if answered != (SESSIONS if authorise else NO_SESSIONS):
        raise TpmError("the TPM's response is to another command; boot again")
    handle = content.integer(4) if answers_handle else 0
    if not authorise:
        return handle, content
    # The sessions' part behind the parameters proves nothing over a password: no HMAC to check.
    return handle, Reader(content.take(content.integer(4)))
