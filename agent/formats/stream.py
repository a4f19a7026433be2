"""A task's connection from the Agent to its Pi: what the two say, and the bytes in between.

Each is a TLS connection of its own to the Link's port, with the channel's keys, told from the
channel by its ALPN (RFC 7301). The Agent writes the target, the Pi one byte of answer; then each
side sends parts, an empty one as its last: TLS alone cannot say that one direction ended.

Target: 2 bytes big-endian length, `host:port` in UTF-8. Part: 2 bytes big-endian length, bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from agent.formats.cbor import FormatError

ALPN = "sealrun-stream"
MAX_TARGET = 260  # bytes, as in a TaskSpec
MAX_PART = 0xFFFF
IDLE_SECONDS = 60.0  # without a byte in either direction
_READ = 1 << 15


class Answer(IntEnum):
    """What the Pi says of a target."""

    PERMITTED = 0
    REFUSED = 1  # no target of the task, or its name leads where nobody may go
    UNREACHABLE = 2
    BUSY = 3  # too many at once
    SPENT = 4  # the task has had its bytes


async def read_target(reader: asyncio.StreamReader) -> str:
    """What the Agent asks for. Raises FormatError or IncompleteReadError."""
    size = int.from_bytes(await reader.readexactly(2), "big")
    if not 0 < size <= MAX_TARGET:
        raise FormatError(f"stream: a target has 1 to {MAX_TARGET} bytes")
    try:
        target = (await reader.readexactly(size)).decode()
    except UnicodeDecodeError as error:
        raise FormatError("stream: the target is no text") from error
    if not target.isprintable():
        raise FormatError("stream: the target is not printable")
    return target


def write_target(writer: asyncio.StreamWriter, target: str) -> None:
    """Queue the question; the caller drains. Raises FormatError."""
    raw = target.encode()
    if not 0 < len(raw) <= MAX_TARGET:
        raise FormatError(f"stream: a target has 1 to {MAX_TARGET} bytes")
    writer.write(len(raw).to_bytes(2, "big") + raw)


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """What the Pi says. Raises FormatError or IncompleteReadError."""
    try:
        return Answer((await reader.readexactly(1))[0])
    except ValueError as error:
        raise FormatError("stream: an unknown answer") from error


class End(Protocol):
    """One end of a connection, whose two directions end by themselves."""

    async def read(self) -> bytes:
        """Some bytes; none at the end."""

    async def write(self, part: bytes) -> None:
        """At most MAX_PART bytes; returns when there is room for more."""

    async def finish(self) -> None:
        """Nothing more will be written."""


class Plain:
    """An end that is a plain socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        """See `End`."""
        return await self._reader.read(_READ)

    async def write(self, part: bytes) -> None:
        """See `End`."""
        self._writer.write(part)
        await self._writer.drain()

    async def finish(self) -> None:
        """See `End`."""
        with contextlib.suppress(OSError):  # the far end may have closed both directions
            self._writer.write_eof()


class Parts:
    """An end that carries parts, inside TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        """See `End`. Raises IncompleteReadError where the other side just closed."""
        size = int.from_bytes(await self._reader.readexactly(2), "big")
        return await self._reader.readexactly(size)

    async def write(self, part: bytes) -> None:
        """See `End`."""
        self._writer.write(len(part).to_bytes(2, "big") + part)
        await self._writer.drain()

    async def finish(self) -> None:
        """See `End`."""
        await self.write(b"")


Moved = Callable[[int, int], None]
"""Told of each part before it goes on: bytes from the first end, from the second. May raise."""


async def relay(one: End, other: End, moved: Moved, idle: float = IDLE_SECONDS) -> None:
    """Pass bytes on in both directions until both ended. Raises TimeoutError when nothing moves for
    `idle` seconds, and whatever an end or `moved` raises."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(idle) as limit:

        async def pump(source: End, sink: End, side: int) -> None:
            while part := await source.read():
                limit.reschedule(loop.time() + idle)
                moved(*((len(part), 0) if side == 0 else (0, len(part))))
                await sink.write(part)
            await sink.finish()

        both = [
            asyncio.create_task(pump(one, other, 0)),
            asyncio.create_task(pump(other, one, 1)),
        ]
        try:
            await asyncio.gather(*both)
        finally:
            for each in both:
                each.cancel()
            await asyncio.gather(*both, return_exceptions=True)
