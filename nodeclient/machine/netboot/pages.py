"""The three things that a booting Machine can fetch, each at its path, and nothing else.

An image without a root is the eraser: it fetches one thing and gets no parameters, secrets as they
are.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from aiohttp import web

from agent.formats.netboot import EFI_PATH, PARAMETERS_PATH, ROOT_PATH
from nodeclient.machine.netboot.image import OpenFile, OpenImage
from nodeclient.machine.netboot.order import Event

MAX_REQUESTS = 4  # at a time: firmware and initramfs need one
_PART = 256 << 10  # bytes read at a time


class Pages:
    """Handler of an aiohttp server. `tell` gets each event; no address, header or body is kept."""

    def __init__(self, image: OpenImage, parameters: bytes, tell: Callable[[Event], None]) -> None:
        self._files = {EFI_PATH: (image.efi, Event.EFI)}
        if image.root is not None:
            self._files[ROOT_PATH] = (image.root, Event.ROOT)
        self._has_parameters = image.root is not None
        self._parameters: bytes | None = parameters
        self._tell = tell
        self._busy = 0

    @property
    def paths(self) -> set[str]:
        """What can be fetched; all else is not found."""
        return {*self._files, *((PARAMETERS_PATH,) if self._has_parameters else ())}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if self._busy >= MAX_REQUESTS:
            return _plain(503)
        self._busy += 1
        try:
            return await self._answer(request)
        finally:
            self._busy -= 1

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.raw_path
        if path not in self.paths:
            return _plain(404)
        if path == PARAMETERS_PATH:
            return self._give() if request.method == "GET" else _plain(405)
        if request.method not in ("GET", "HEAD"):
            return _plain(405)
        file, event = self._files[path]
        return await self._send(request, file, event)

    def _give(self) -> web.Response:
        """The parameters, once: who comes second is not, or was not, the only one that listens."""
        body, self._parameters = self._parameters, None
        if body is None:
            self._tell(Event.AGAIN)
            return _plain(403)
        self._tell(Event.PARAMETERS)
        return web.Response(body=body, headers={"Cache-Control": "no-store"})

    async def _send(
        self, request: web.BaseRequest, file: OpenFile, event: Event
    ) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "application/octet-stream"
        response.content_length = file.size
        await response.prepare(request)
        if request.method == "GET":
            self._tell(event)
            for offset in range(0, file.size, _PART):
                size = min(_PART, file.size - offset)
                part = await asyncio.to_thread(os.pread, file.descriptor, size, offset)
                if len(part) < size:
                    raise ConnectionResetError("the file became shorter")
                await response.write(part)
        await response.write_eof()
        return response


def _plain(status: int) -> web.Response:
    return web.Response(status=status, headers={"Connection": "close"})
