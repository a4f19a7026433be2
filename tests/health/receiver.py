"""A receiver of webhooks on the loopback, which answers as it is told, and checks signatures by the
words of the specification."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

SECRET = bytes(range(32))


@dataclass
class Receiver:
    """``answers``: statuses for the next requests, then 200. 0: hang until the client gives up."""

    answers: list[int] = field(default_factory=list)
    url: str = ""
    headers: list[dict[str, str]] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    tried: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        status = self.answers.pop(0) if self.answers else 200
        async with self.changed:
            self.tried += 1
            self.headers.append({name.lower(): text for name, text in request.headers.items()})
            if status == 200:
                self.check(self.headers[-1], body)
                self.taken.append(json.loads(body))
            self.changed.notify_all()
        if status == 0:
            await asyncio.Event().wait()
        if status == 302:
            raise web.HTTPFound(self.url)
        return web.Response(status=status, text="x" * 100_000)

    def check(self, headers: dict[str, str], body: bytes) -> None:
        """Standard Webhooks, "Verifying webhook authenticity"."""
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        mac = hmac.new(SECRET, signed, hashlib.sha256).digest()
        assert headers["webhook-signature"] == "v1," + base64.b64encode(mac).decode()
        assert headers["content-type"] == "application/json"

    async def until(self, *, tried: int = 0, taken: int = 0) -> None:
        """Wait for so many requests, or for so many that were taken."""
        async with self.changed, asyncio.timeout(60):
            await self.changed.wait_for(lambda: self.tried >= tried and len(self.taken) >= taken)


@asynccontextmanager
async def receiving(*answers: int) -> AsyncIterator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver(list(answers))
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    receiver.url = f"http://127.0.0.1:{port}/hook?token=t0ken-in-the-url"
    try:
        yield receiver
    finally:
        await runner.cleanup()
