"""The only way out of a container: HTTP CONNECT through a unix socket, to listed hosts alone.

A container has no network at all. A task that defines connections gets this socket as
/capsule/proxy.sock (`SEALRUN_PROXY` in its environment). The target must be one of the TaskSpec's
`host:port` strings, byte for byte; anything else is refused and counted. What is permitted goes to
the Pi, which looks at its own list, resolves the name and dials: the Machine itself reaches nobody.
Only counts go into the Evidence: the targets that a function asks for are its own words, and
Evidence goes to members. For the same reason the Pi hears of a refusal, and not of its target.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from agent.formats.cbor import FormatError
from agent.formats.stream import Answer, Parts, Plain, read_answer, relay, write_target

_log = logging.getLogger(__name__)
MAX_HEAD = 8192  # bytes of a request's head (RFC 9110, §9.3.6)
MAX_CONNECTIONS = 32
MAX_COUNT = 1_000_000
HEAD_SECONDS = 10.0
CONNECT_SECONDS = 40.0  # longer than the Pi takes to give up
TELL_SECONDS = 1.0  # between two words to the Pi about what was refused
_DIALLING = 4  # at once: the Pi cuts off more callers that have not shown who they are
_REFUSALS = {
    Answer.REFUSED: ("refused", b"403 Forbidden"),
    Answer.UNREACHABLE: ("unreachable", b"502 Bad Gateway"),
    Answer.BUSY: ("busy", b"503 Too Many Connections"),
    Answer.SPENT: ("spent", b"503 Too Many Bytes"),
}

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[], Awaitable[Ends]]  # a stream to the Pi; raises OSError or TimeoutError
Tell = Callable[[int], Awaitable[None]]  # how many connections were refused so far


class Proxy:
    """An allow-list proxy on one unix socket. `start` it before the container, `stop` it after."""

    def __init__(self, socket: Path, allowed: Sequence[str], dial: Dial, tell: Tell) -> None:
        self._socket, self._allowed, self._dial, self._tell = socket, frozenset(allowed), dial, tell
        self._server: asyncio.Server | None = None
        self._teller: asyncio.Task[None] | None = None
        self._workers: set[asyncio.Task[None]] = set()
        self._dialling = asyncio.Semaphore(_DIALLING)
        self._refused = asyncio.Event()
        kinds = ("permitted", "refused", "malformed", "unreachable", "busy", "spent")
        self.counts = dict.fromkeys((*kinds, "sent_bytes", "received_bytes"), 0)

    async def start(self) -> None:
        """Listen; any user of the container may connect."""
        self._server = await asyncio.start_unix_server(
            self._accept, path=str(self._socket), limit=MAX_HEAD
        )
        self._socket.chmod(0o666)
        self._teller = asyncio.create_task(self._tell_on())

    async def stop(self) -> None:
        """Close every connection and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._server = None
        workers = [*self._workers, *([self._teller] if self._teller else [])]
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        self._socket.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        worker = asyncio.create_task(self._serve(reader, writer))
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._tunnel(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            await _close(writer)

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._workers) > MAX_CONNECTIONS:
            return await self._refuse(writer, Answer.BUSY)
        target = await _read_target(reader)
        if target is None:
            return await self._say(writer, "malformed", b"400 Bad Request")
        if target not in self._allowed:
            return await self._refuse(writer, Answer.REFUSED)
        far: asyncio.StreamWriter | None = None
        try:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    async with self._dialling:
                        far_reader, far = await self._dial()
                    write_target(far, target)
                    await far.drain()
                    answer = await read_answer(far_reader)
            except (OSError, TimeoutError, FormatError, asyncio.IncompleteReadError):
                return await self._refuse(writer, Answer.UNREACHABLE)
            if answer is not Answer.PERMITTED:
                return await self._refuse(writer, answer)
            self._count("permitted")
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await writer.drain()
            await relay(Plain(reader, writer), Parts(far_reader, far), self._moved)
        finally:
            if far is not None:
                await _close(far)
        return None

    async def _refuse(self, writer: asyncio.StreamWriter, answer: Answer) -> None:
        kind, line = _REFUSALS[answer]
        await self._say(writer, kind, line)

    async def _say(self, writer: asyncio.StreamWriter, kind: str, line: bytes) -> None:
        self._count(kind)
        writer.write(b"HTTP/1.1 " + line + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()

    def _count(self, kind: str) -> None:
        self.counts[kind] = min(self.counts[kind] + 1, MAX_COUNT)
        if kind == "refused":
            self._refused.set()
        if kind != "permitted":
            _log.warning("proxy: a connection was not let through (%s)", kind)

    def _moved(self, sent: int, received: int) -> None:
        self.counts["sent_bytes"] += sent
        self.counts["received_bytes"] += received

    async def _tell_on(self) -> None:
        while True:
            await self._refused.wait()
            self._refused.clear()
            await self._tell(self.counts["refused"])
            await asyncio.sleep(TELL_SECONDS)


async def _read_target(reader: asyncio.StreamReader) -> str | None:
    """The `host:port` of a CONNECT request; None for anything else."""
    try:
        async with asyncio.timeout(HEAD_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.LimitOverrunError, asyncio.IncompleteReadError, TimeoutError):
        return None
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or words[0] != b"CONNECT" or words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        return None
    return words[1].decode("ascii", errors="replace")


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
