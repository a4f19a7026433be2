"""``GET /metrics`` for Prometheus. Off unless configured, and by default for this host alone: it
tells everybody who can reach it how this Node is, but nothing of a task.

A connection is closed after half a minute whatever it did, and there are few at a time; what is
served is a picture that exists already, so nobody can cause work by asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from nodeclient.errors import ConfigError
from nodeclient.health.exposition import CONTENT_TYPE

CONNECTIONS = 16
IDLE = 10.0  # seconds without a request, before a first one, too
LIFETIME = 30.0  # seconds of a connection, however it spends them
Page = Callable[[], Awaitable[str]]


class Endpoint:
    """``start`` listens, ``close`` ends every connection."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._server: asyncio.Server | None = None
        self._http: _Connections | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen on ``host``:``port`` (0: any free one); returns the port. Raises ConfigError."""
        self._http = _Connections(self._serve, access_log=None, keepalive_timeout=IDLE)
        try:
            self._server = await asyncio.get_running_loop().create_server(self._http, host, port)
        except (OSError, OverflowError) as error:  # the latter: no such port
            why = error.strerror if isinstance(error, OSError) else "no such port"
            text = f"health: cannot listen on {host}:{port} ({why})"
            raise ConfigError(text, "choose another health.listen") from error
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
        if self._http is not None:
            await self._http.shutdown(1.0)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path != "/metrics":
            return web.Response(status=404, text="GET /metrics\n")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        page = await self._page()
        return web.Response(body=page.encode(), headers={"Content-Type": CONTENT_TYPE})


class _Connections(web.Server):
    """aiohttp's low-level server with a bound on connections and on their length."""

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
            return
        asyncio.get_running_loop().call_later(LIFETIME, transport.close)
