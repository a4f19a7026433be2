"""The Pi's end of the channel: waits for the one Agent that it booted, and for nobody else.

A caller must show the boot secret (see `agent.formats.link`) within a few seconds, or is cut off.
Of several connections the latest that did so counts: an Agent that dials again after a broken cable
must not wait for the old connection to time out.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agent.formats.cbor import FormatError
from agent.formats.link import (
    BEAT,
    HELLO,
    MAX_CERTIFICATE,
    PREAMBLE,
    hello_mac,
    new_certificate,
    same,
    tls_context,
)
from agent.formats.rpc import RpcConnection, RpcError
from agent.formats.shape import as_bytes, as_map
from nodeclient.errors import MachineError

_log = logging.getLogger(__name__)
HELLO_SECONDS = 5.0
PORTS = range(20_000, 30_000)  # below Linux's default ip_local_port_range
_PORT_TRIES = 100
MAX_WAITING = 8  # connections that have not said hello; more are cut off at once

Serve = Callable[[str, object], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class LinkKeys:
    """What makes one boot's channel: kept, sealed, so that a restarted daemon can go on."""

    boot_secret: bytes
    certificate: bytes
    key: bytes

    @classmethod
    def fresh(cls, boot_secret: bytes) -> LinkKeys:
        """Keys for a new boot with this secret (32 bytes)."""
        return cls(boot_secret, *new_certificate("sealrun pi"))

    @property
    def digest(self) -> bytes:
        """What the Agent pins: the certificate's SHA-256."""
        return hashlib.sha256(self.certificate).digest()


class Link:
    """Listens on loopback or the Machine's own port for the Agent of one boot."""

    def __init__(self, keys: LinkKeys, serve: Serve) -> None:
        self._keys, self._serve = keys, serve
        self._server: socket.socket | None = None
        self._acceptor: asyncio.Task[None] | None = None
        self._workers: set[asyncio.Task[None]] = set()
        self._agent: RpcConnection | None = None
        self._present = asyncio.Event()
        self.session: tuple[bytes, bytes] | None = None  # (hpke, signing) of the Agent's hello

    def listen(self, host: str, port: int) -> int:
        """Bind (port 0: any) and begin to accept; the port. Raises MachineError."""
        server = socket.socket()
        try:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((host, port))
            server.listen(MAX_WAITING)
        except OSError as error:
            server.close()
            raise MachineError(f"port {port} for the Machine is taken", "free it") from error
        server.setblocking(False)
        self._server = server
        self._acceptor = asyncio.create_task(self._accept(server))
        return int(server.getsockname()[1])

    def listen_anywhere(self, host: str) -> int:
        """Bind a free port to which a restarted daemon can come back. Raises MachineError.

        Not one that the kernel gives to outgoing connections: while this daemon is down, any of
        them could take it, and the Machine would be lost with it.
        """
        for _ in range(_PORT_TRIES):
            with contextlib.suppress(MachineError):
                return self.listen(host, PORTS.start + secrets.randbelow(len(PORTS)))
        raise MachineError("no port for the Machine is free", f"free one of {PORTS}")

    async def agent(self, seconds: float) -> RpcConnection:
        """The Agent's live connection; waits for it. Raises MachineError after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await self._present.wait()
                    if self._agent is not None and not self._agent.closed.is_set():
                        return self._agent
                    self._present.clear()
        except TimeoutError as error:
            raise MachineError(
                f"the Machine is not heard for {seconds:.0f} s", "cut its power and boot it again"
            ) from error

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        for worker in (*self._workers, *([self._acceptor] if self._acceptor else [])):
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker
        if self._server is not None:
            self._server.close()
        if self._agent is not None:
            await self._agent.close()

    async def _accept(self, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            accepted, _ = await loop.sock_accept(server)
            if len(self._workers) >= MAX_WAITING:
                accepted.close()
                continue
            worker = asyncio.create_task(self._admit(accepted))
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _admit(self, accepted: socket.socket) -> None:
        """Take a caller through preamble, TLS and hello, within one bound of time."""
        accepted.setblocking(False)
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                certificate = await _read_preamble(accepted)
                reader, writer = await self._handshake(accepted, certificate)
                greeted = asyncio.Event()
                connection = RpcConnection(reader, writer, self._greeter(certificate, greeted))
                connection.start()
                try:
                    await greeted.wait()
                except BaseException:
                    await connection.close()
                    raise
        except (OSError, TimeoutError, FormatError, ValueError) as error:
            _log.warning("machine link: a caller was cut off (%s)", type(error).__name__)
            accepted.close()
            return
        old, self._agent = self._agent, connection
        self._present.set()
        if old is not None:
            await old.close()

    async def _handshake(
        self, accepted: socket.socket, certificate: bytes
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = tls_context(
            server=True,
            certificate=self._keys.certificate,
            key=self._keys.key,
            peer=certificate,
        )
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, ssl=context)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        tls = writer.get_extra_info("ssl_object")
        if not isinstance(tls, ssl.SSLObject) or tls.getpeercert(binary_form=True) != certificate:
            writer.close()
            raise FormatError("the caller's certificate is not the one it announced")
        return reader, writer

    def _greeter(self, certificate: bytes, greeted: asyncio.Event) -> Serve:
        """The handler of one connection: nothing but hello until hello was right."""

        async def handle(method: str, body: object) -> object:
            if method == HELLO:
                self._check_hello(certificate, body)
                greeted.set()
                return None
            if not greeted.is_set():
                raise RpcError("unknown_agent", "say hello first")
            if method == BEAT:
                return None
            return await self._serve(method, body)

        return handle

    def _check_hello(self, certificate: bytes, body: object) -> None:
        hello = as_map(body, ("mac", "hpke", "signing"), "hello")
        hpke = as_bytes(hello["hpke"], 32, "hpke")
        signing = as_bytes(hello["signing"], 64, "signing")
        expected = hello_mac(
            self._keys.boot_secret, certificate, self._keys.certificate, hpke + signing
        )
        if not same(expected, as_bytes(hello["mac"], 32, "mac")):
            raise RpcError("unknown_agent", "this is not the Agent that was booted")
        if self.session not in (None, (hpke, signing)):
            raise RpcError("unknown_agent", "the session changed within one boot")
        self.session = (hpke, signing)


async def _read_preamble(accepted: socket.socket) -> bytes:
    """The caller's certificate, sent in clear before TLS. Raises FormatError."""
    size = int.from_bytes(await _read_exactly(accepted, PREAMBLE), "big")
    if not 0 < size <= MAX_CERTIFICATE:
        raise FormatError("preamble: not a certificate's length")
    return await _read_exactly(accepted, size)


async def _read_exactly(accepted: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        part = await loop.sock_recv(accepted, size - len(data))
        if not part:
            raise FormatError("preamble: the caller closed")
        data += part
    return data
