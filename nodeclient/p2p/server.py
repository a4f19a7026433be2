"""The Node's listening side: accept, prove who it is, bound everything, then ask the handler.

Connections are accepted one by one (not by asyncio's own accept loop) so that unproven ones are
counted, and so that each gets a TLS context of the current trust. The peer's address comes from
the certificate and is looked up again for every request: a peer that left the registry is refused
on connections it still holds.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from nodeclient.p2p.directory import Directory
from nodeclient.p2p.errors import PeerBusy, PeerRefused
from nodeclient.p2p.limits import ByteBudget, Limits, OverLimit, RateLimiter, Slots
from nodeclient.p2p.tls import TlsIdentity, TrustFolder, peer_certificate, server_context

Handler = Callable[[bytes, str, bytes], Awaitable[bytes]]
"""(authenticated peer address, method, body) -> answer; PeerRefused declines with its message.

A request may arrive twice when a connection dies: handlers are idempotent.
"""

log = logging.getLogger(__name__)
_PATH = re.compile(r"/v1/([a-z][a-z0-9_]{0,31})")


class PeerServer:
    """Serves ``handler`` to the peers of ``directory`` over mutual TLS 1.3."""

    def __init__(
        self,
        handler: Handler,
        *,
        identity: TlsIdentity,
        directory: Directory,
        trust: TrustFolder,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._handler = handler
        self._identity = identity
        self._directory = directory
        self._trust = trust
        self._limits = limits or Limits()
        limit = self._limits
        self._handshakes = Slots(limit.handshakes, limit.handshakes_per_source)
        self._connections = Slots(limit.connections, limit.connections_per_peer)
        self._requests = Slots(limit.requests, limit.requests_per_peer)
        self._pending_connections = Slots(limit.pending_connections, limit.pending_each)
        self._pending_requests = Slots(limit.pending_requests, limit.pending_each)
        self._rate = RateLimiter(limit.rate_per_second, limit.burst, clock)
        self.refusals: Counter[str] = Counter()  # connections turned away, by cause
        self._context: tuple[int, ssl.SSLContext] | None = None
        self._workers: set[asyncio.Task[None]] = set()
        self._peers: dict[RequestHandler, tuple[bytes, Slots]] = {}

    async def start(self, host: str, port: int) -> int:
        """Listen on ``host``:``port`` (0: any free one); returns the port."""
        self._trust.clear()
        self._directory.subscribe(self._trust.change)
        self._budget = ByteBudget(self._limits.body_budget)
        self._http = _Connections(
            self._serve,
            on_close=self._forget,
            access_log=None,
            auto_decompress=False,  # a small compressed body must not become a large one
            keepalive_timeout=self._limits.idle_seconds,  # before a first request, too
            logger=log,
        )
        self._socket = socket.create_server((host, port), backlog=64)
        self._socket.setblocking(False)
        self._spawn(self._accept())
        return int(self._socket.getsockname()[1])

    async def close(self) -> None:
        """Stop listening and end every connection."""
        self._socket.close()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._http.shutdown(1.0)

    def _spawn(self, work: Awaitable[None]) -> None:
        worker = asyncio.ensure_future(work)
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                link, source = await loop.sock_accept(self._socket)
            except OSError as error:  # out of descriptors, or the client left already
                log.warning("p2p: accept failed: %s: going on in a second", error)
                await asyncio.sleep(1)
                continue
            try:
                self._handshakes.take(source[0])
            except OverLimit:
                self.refusals["crowd"] += 1
                link.close()
                continue
            self._spawn(self._admit(link, source[0]))

    async def _admit(self, link: socket.socket, source: str) -> None:
        """Handshake with a stranger; keep the connection only if he is a peer with a free slot."""
        loop = asyncio.get_running_loop()
        try:
            link.setblocking(False)
            transport, protocol = await loop.connect_accepted_socket(
                self._http,
                link,
                ssl=self._current_context(),
                ssl_handshake_timeout=self._limits.handshake_seconds,
                ssl_shutdown_timeout=1.0,
            )
        except (TimeoutError, OSError):  # ssl.SSLError is an OSError
            self.refusals["handshake"] += 1
            link.close()
            return
        finally:
            self._handshakes.give(source)
        peer = self._peer_of(transport)
        if peer is None:  # it left the registry during the handshake
            self._turn_away(transport, "unknown")
            return
        pending = self._directory.is_pending(peer)
        slots = self._pending_connections if pending else self._connections
        try:
            slots.take(peer)
        except OverLimit:
            self._turn_away(transport, "connections")
            return
        self._peers[protocol] = peer, slots
        if transport.is_closing():  # it closed before we had noted it
            self._forget(protocol)

    def _turn_away(self, transport: asyncio.Transport, cause: str) -> None:
        self.refusals[cause] += 1
        transport.abort()

    def _current_context(self) -> ssl.SSLContext:
        if self._context is None or self._context[0] != self._trust.version:
            context = server_context(self._identity, self._trust.folder)
            self._context = (self._trust.version, context)
        return self._context[1]

    def _peer_of(self, transport: asyncio.BaseTransport | None) -> bytes | None:
        certificate = peer_certificate(transport)
        return self._directory.find(certificate) if certificate is not None else None

    def _forget(self, protocol: RequestHandler) -> None:
        peer, slots = self._peers.pop(protocol, (b"", None))
        if slots is not None:
            slots.give(peer)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        peer = self._peer_of(request.transport)
        if peer is None:
            return _refuse(403, "not a peer any more: register or publish the contact anew")
        pending = self._directory.is_pending(peer)
        slots = self._pending_requests if pending else self._requests
        most = self._limits.pending_body if pending else self._limits.max_body
        try:
            with slots.hold(peer):
                self._rate.spend(peer)
                return await self._answer(peer, request, most)
        except OverLimit:
            return _refuse(429, "over the limit: send again later")

    async def _answer(self, peer: bytes, request: web.BaseRequest, most: int) -> web.StreamResponse:
        path = _PATH.fullmatch(request.path_qs)
        if request.method != "POST" or path is None:
            return _refuse(404, "unknown path: POST /v1/<method>")
        length = request.content_length
        if length is None or "Content-Encoding" in request.headers:
            return _refuse(411, "body without length or encoded: send it plain")
        if length > most:
            return _refuse(413, f"body exceeds {most} bytes: send less")
        try:
            async with asyncio.timeout(self._limits.body_seconds) as deadline:
                async with self._budget.reserve(length):
                    body = await request.content.readexactly(length) if length else b""
                    deadline.reschedule(None)
                    return await self._handle(peer, path[1], body)
        except (TimeoutError, asyncio.IncompleteReadError):
            return _refuse(408, "request took too long: send again later")

    async def _handle(self, peer: bytes, method: str, body: bytes) -> web.StreamResponse:
        try:
            async with asyncio.timeout(self._limits.handler_seconds):
                answer = await self._handler(peer, method, body)
        except PeerBusy as refusal:
            return _refuse(503, str(refusal))
        except PeerRefused as refusal:
            return _refuse(403, str(refusal))
        except TimeoutError:
            return _refuse(503, "no answer in time: send again later")
        except Exception as error:
            # Only the type: messages may hold what the peer sent, or secrets.
            log.error("p2p: %s from 0x%s failed: %s", method, peer.hex(), type(error).__name__)
            return _refuse(500, "the handler failed: see the log of that node")
        if len(answer) > self._limits.max_body:
            log.error("p2p: answer to %s has %d bytes", method, len(answer))
            return _refuse(500, "the answer is too large: ask for less")
        return web.Response(body=answer, content_type="application/octet-stream")


class _Connections(web.Server):
    """aiohttp's low-level server, telling us of every connection that ends."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        on_close: Callable[[RequestHandler], None],
        **options: object,
    ) -> None:
        super().__init__(handler, **options)  # type: ignore[arg-type]
        self._on_close = on_close

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        with suppress(KeyError):
            self._on_close(handler)


def _refuse(status: int, reason: str) -> web.Response:
    response = web.Response(status=status, text=reason[:300])
    if status in (408, 411, 413):
        response.force_close()  # its unread body must not be read on
    return response
