"""Calls over one stream, in both directions at once (Agent ↔ Pi).

Either side may call while it serves. What a stranger can make us hold is bounded: frames by size,
requests in progress by number. A request above that bound is refused with `busy` rather than left
waiting: if reading stopped, two sides that call each other from their handlers would wait for ever.
Who goes on at four times the bound loses the channel, or unread refusals would pile up in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from agent.formats.cbor import FormatError
from agent.formats.faults import place_of
from agent.formats.protocol import ChannelClosed, Frame, FrameKind, read_frame, write_frame
from agent.formats.shape import as_list

Handler = Callable[[str, object], Awaitable[object]]
_log = logging.getLogger(__name__)
_CLOSE_SECONDS = 2.0


class RpcError(Exception):
    """The other side refused or failed. `code` is stable, the message is for people.

    A handler raises it to answer with that code; any other exception becomes `internal`, without
    its text, which may hold what the other side must not learn.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class RpcTimeout(RpcError):
    """No answer in time. The call may have happened: ask before repeating it."""


class RpcClosed(RpcError):
    """The channel ended before the answer came. The call may have happened."""


async def refuse_all(method: str, body: object) -> object:
    """Handler of a side that serves nothing."""
    raise RpcError("unknown_method", f"{method} is not served here (body {type(body).__name__})")


class RpcConnection:
    """One end of a channel. Construct, `start()`, then `call` and be called until `closed`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handler: Handler = refuse_all,
        *,
        max_requests: int = 8,
    ) -> None:
        self._reader, self._writer, self._handler = reader, writer, handler
        self._max_requests = max_requests
        self._next_id = 0
        self._calls: dict[int, asyncio.Future[object]] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None
        self.closed = asyncio.Event()

    def start(self) -> RpcConnection:
        """Begin to read. Returns self, so that `RpcConnection(…).start()` is one expression."""
        if self._loop is None:
            self._loop = asyncio.create_task(self._read_loop())
        return self

    @property
    def idle(self) -> bool:
        """Whether nobody waits for an answer, on either side."""
        return not self._calls and not self._workers

    async def call(self, method: str, body: object, timeout: float) -> object:  # noqa: ASYNC109
        """The answer's body. `timeout` in seconds, from sending to the answer's last byte.

        Raises RpcError as answered, RpcTimeout, RpcClosed, FormatError for a body unfit to send.
        """
        if self.closed.is_set():
            raise RpcClosed("closed", "the channel is closed; connect again")
        self._next_id = (self._next_id + 1) & 0xFFFFFFFF
        number = self._next_id
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._calls[number] = answer
        try:
            async with asyncio.timeout(timeout):
                await self._send(Frame(number, FrameKind.REQUEST, method, body))
                return await answer
        except TimeoutError as error:
            raise RpcTimeout("timeout", f"{method}: no answer in {timeout:g} s") from error
        finally:
            del self._calls[number]

    async def close(self) -> None:
        """End the channel: handlers are cancelled, open calls raise RpcClosed. Repeatable."""
        if self._loop is not None and self._loop is not asyncio.current_task():
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
        await self._shut()

    async def _read_loop(self) -> None:
        try:
            while True:
                self._dispatch(await read_frame(self._reader))
        except ChannelClosed:
            pass
        except FormatError as error:
            _log.warning("channel: closed, the other side sent a bad frame: %s", error)
        finally:
            await self._shut()

    def _dispatch(self, frame: Frame) -> None:
        if frame.kind is FrameKind.REQUEST:
            if len(self._workers) >= 4 * self._max_requests:
                raise FormatError("requests keep coming although the answer was busy")
            worker = asyncio.create_task(self._serve(frame, len(self._workers)))
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
            return
        answer = self._calls.get(frame.id)
        if answer is None or answer.done():
            return  # its caller gave up waiting
        if frame.kind is FrameKind.OK:
            answer.set_result(frame.body)
        else:
            code, message = as_list(frame.body, 2, 2, "frame error")
            answer.set_exception(RpcError(str(code), str(message)))

    async def _serve(self, frame: Frame, busy: int) -> None:
        method = frame.method or ""
        try:
            if busy >= self._max_requests:
                raise RpcError("busy", f"{busy} requests in progress; try again")
            reply = Frame(frame.id, FrameKind.OK, None, await self._handler(method, frame.body))
            reply.encode()
        except RpcError as error:
            reply = _error(frame.id, error.code, error.message)
        except FormatError as error:
            reply = _error(frame.id, "bad_request", str(error))
        except Exception as error:
            _log.error("channel: handler of %s failed: %s", method[:32], place_of(error))
            reply = _error(frame.id, "internal", f"{method} failed; see the log of that side")
        with contextlib.suppress(RpcClosed):
            await self._send(reply)

    async def _send(self, frame: Frame) -> None:
        write_frame(self._writer, frame)
        try:
            await self._writer.drain()
        except ConnectionError as error:
            raise RpcClosed("closed", "the channel closed while sending") from error

    async def _shut(self) -> None:
        if self.closed.is_set():
            return
        self.closed.set()
        for worker in list(self._workers):
            if worker is not asyncio.current_task():
                worker.cancel()
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(RpcClosed("closed", "the channel closed before the answer"))
        self._writer.close()
        with contextlib.suppress(ConnectionError, TimeoutError, OSError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._writer.wait_closed()


def _error(number: int, code: str, message: str) -> Frame:
    """An error answer that `Frame.decode` accepts whatever the exception's text held."""
    clean = "".join(char if char.isprintable() else " " for char in message)
    return Frame(number, FrameKind.ERROR, None, [code[:64] or "error", clean[:1024]])
