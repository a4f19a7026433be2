"""The only way out of a container: HTTP CONNECT through a unix socket, to listed hosts alone.

A container has no network at all. A task that defines connections gets this socket as
/capsule/proxy.sock (`SEALRUN_PROXY` in its environment). The target must be one of the TaskSpec's
`host:port` strings, byte for byte; anything else is refused and counted. Only counts go into the
Evidence: the targets that a function asks for are its own words, and Evidence goes to members.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

_log = logging.getLogger(__name__)
MAX_HEAD = 8192  # bytes of a request's head (RFC 9110, §9.3.6)
MAX_CONNECTIONS = 32
MAX_COUNT = 1_000_000
HEAD_SECONDS = 10.0
CONNECT_SECONDS = 10.0
IDLE_SECONDS = 60.0
_PART = 1 << 16


class Proxy:
    """An allow-list proxy on one unix socket. `start` it before the container, `stop` it after."""

    def __init__(self, socket: Path, allowed: Sequence[str]) -> None:
        self._socket, self._allowed = socket, frozenset(allowed)
        self._server: asyncio.Server | None = None
        self._workers: set[asyncio.Task[None]] = set()
        self.counts = {"permitted": 0, "refused": 0, "malformed": 0, "unreachable": 0, "busy": 0}

    async def start(self) -> None:
        """Listen; any user of the container may connect."""
        self._server = await asyncio.start_unix_server(
            self._accept, path=str(self._socket), limit=MAX_HEAD
        )
        self._socket.chmod(0o666)

    async def stop(self) -> None:
        """Close every connection and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for worker in list(self._workers):
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._socket.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        worker = asyncio.create_task(self._serve(reader, writer))
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._tunnel(reader, writer)
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, OSError):
                await writer.wait_closed()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._workers) > MAX_CONNECTIONS:
            return await self._refuse(writer, "busy", b"503 Too Many Connections")
        target = await _read_target(reader)
        if target is None:
            return await self._refuse(writer, "malformed", b"400 Bad Request")
        if target not in self._allowed:
            return await self._refuse(writer, "refused", b"403 Forbidden")
        host, _, port = target.rpartition(":")
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except (OSError, TimeoutError):
            return await self._refuse(writer, "unreachable", b"502 Bad Gateway")
        self._count("permitted")
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await writer.drain()
            await _relay(reader, writer, far_reader, far_writer)
        finally:
            far_writer.close()
        return None

    async def _refuse(self, writer: asyncio.StreamWriter, kind: str, line: bytes) -> None:
        self._count(kind)
        writer.write(b"HTTP/1.1 " + line + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()

    def _count(self, kind: str) -> None:
        self.counts[kind] = min(self.counts[kind] + 1, MAX_COUNT)
        if kind != "permitted":
            _log.warning("proxy: a connection was not let through (%s)", kind)


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


async def _relay(
    near_reader: asyncio.StreamReader,
    near_writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> None:
    await asyncio.gather(_pump(near_reader, far_writer), _pump(far_reader, near_writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while True:
        async with asyncio.timeout(IDLE_SECONDS):
            part = await source.read(_PART)
        if not part:
            break
        sink.write(part)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()
