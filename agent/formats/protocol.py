"""Frames of the channel between Agent and Pi, and the context strings that HPKE seals bind to.

On the wire: 4 bytes big-endian length, then deterministic CBOR [id, kind, method, body]. `method`
is text in requests and null in answers; the body of an error is [code, message]. A frame is at most
4 MiB, so that a block of 1 MiB or a whole Evidence fits in one and nobody can make us hold more.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from enum import StrEnum

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.shape import as_bytes, as_int, as_list, as_text

MAX_FRAME = 4 << 20
_MAX_ID = (1 << 32) - 1
_METHOD = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


class ChannelClosed(ConnectionError):
    """The other side is gone, between two frames or in the middle of one."""


class FrameKind(StrEnum):
    """What a frame is: a request, or one of the two answers to it."""

    REQUEST = "req"
    OK = "ok"
    ERROR = "err"


@dataclass(frozen=True, slots=True)
class Frame:
    """One message. `id` is the caller's; an answer repeats it."""

    id: int
    kind: FrameKind
    method: str | None
    body: object

    def encode(self) -> bytes:
        """The frame's CBOR, without its length. Raises FormatError above MAX_FRAME."""
        encoded = cbor.encode([self.id, self.kind.value, self.method, self.body])
        if len(encoded) > MAX_FRAME:
            raise FormatError(f"frame: {len(encoded)} bytes exceed {MAX_FRAME}; send it in parts")
        return encoded

    @classmethod
    def decode(cls, data: bytes) -> Frame:
        """Parse a frame's CBOR. Raises FormatError."""
        number, kind, method, body = as_list(cbor.decode(data, MAX_FRAME), 4, 4, "frame")
        try:
            known = FrameKind(as_text(kind, 2, 3, "frame kind"))
        except ValueError as error:
            raise FormatError("frame: kind is none of req, ok, err") from error
        name: str | None = None
        if known is FrameKind.REQUEST:
            name = as_text(method, 1, 64, "frame method")
            if not _METHOD.fullmatch(name):
                raise FormatError("frame: a method has 1 to 64 of a-z 0-9 _ . -")
        elif method is not None:
            raise FormatError("frame: an answer names no method")
        if known is FrameKind.ERROR:
            code, message = as_list(body, 2, 2, "frame error")
            as_text(code, 1, 64, "error code")
            as_text(message, 0, 1024, "error message")
        return cls(as_int(number, 0, _MAX_ID, "frame id"), known, name, body)


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """The next frame. Raises ChannelClosed at the end of the stream, FormatError for a bad one.

    After a FormatError the stream has no known position any more: close it.
    """
    try:
        length = int.from_bytes(await reader.readexactly(4), "big")
        if not 0 < length <= MAX_FRAME:
            raise FormatError(f"frame: length {length} is not within 1 to {MAX_FRAME}")
        return Frame.decode(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise ChannelClosed("channel: the other side closed it; connect again") from error


def write_frame(writer: asyncio.StreamWriter, frame: Frame) -> None:
    """Queue one frame; the caller drains. Raises FormatError for a body that does not fit."""
    encoded = frame.encode()
    writer.write(len(encoded).to_bytes(4, "big") + encoded)


def release_info(
    chain_id: int, market: bytes, task: int, capsule: str, evidence_root: bytes
) -> bytes:
    """HPKE info of a content key released by its owner to a session key (DESIGN §4)."""
    root = as_bytes(evidence_root, 32, "evidence root")
    return _info("release", chain_id, market, task, capsule, root)


def result_info(chain_id: int, market: bytes, task: int, receiver: str) -> bytes:
    """HPKE info of a RESULT's content key, sealed in the Machine to one receiver."""
    return _info("result", chain_id, market, task, receiver, b"")


def taskspec_info(chain_id: int, market: bytes, task: int) -> bytes:
    """HPKE info of a TaskSpec sent to the Executor and the members, or by the Pi to its Agent."""
    return _info("taskspec", chain_id, market, task, "", b"")


def _info(purpose: str, chain_id: int, market: bytes, task: int, name: str, root: bytes) -> bytes:
    fields = [chain_id, as_bytes(market, 20, "market"), task, name, root]
    return cbor.encode([f"sealrun/{purpose}/v1", *fields])
