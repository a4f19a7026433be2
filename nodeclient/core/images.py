"""What the registry of images says, and whether an image may be used for something now. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ImageKind(IntEnum):
    """What an image hash is of."""

    BOOT = 1
    SERVICE = 2
    RUNTIME = 3


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What the registry says of an image. Times in seconds since 1970."""

    kind: ImageKind
    source_commit: bytes
    not_before: int
    not_after: int
    effective_at: int
    revoked: bool


def fault(record: ImageRecord | None, wanted: ImageKind, now: int) -> str:
    """Why an image may not be used as `wanted` at `now` (the chain's clock, seconds since 1970).

    Empty: it may. The rule of ``ImageRegistry._in_force``, and the kind, which that leaves to us: a
    runtime image is made to run anybody's function, and approved for nothing else.
    """
    if record is None:
        return "nobody approved it"
    if record.revoked:
        return "it was revoked"
    if record.kind is not wanted:
        return f"it is approved as {record.kind.name}, not as {wanted.name}"
    if now < record.effective_at:
        return f"its approval takes effect at {record.effective_at}"
    if now < record.not_before:
        return f"it is valid from {record.not_before}"
    if now > record.not_after:
        return f"it was valid until {record.not_after}"
    return ""
