"""The Pi's end of the channel: waits for the one Agent that it booted, and for nobody else.

A caller must show the boot secret (see `agent.formats.link`) within a few seconds, or is cut off.
Of several connections the latest that did so counts: an Agent that dials again after a broken cable
must not wait for the old connection to time out.

`rotate` replaces the keys. The order makes every moment safe to be killed in: agreed with the
Agent, which then tries both; kept on disk; and only then used, which ends the old ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from agent.formats.cbor import FormatError
from agent.formats.link import BEAT, HELLO, hello_mac, new_certificate, same
from agent.formats.rotation import ROTATE, Half, Offer, next_secret
from agent.formats.rpc import RpcConnection, RpcError
from agent.formats.shape import as_bytes, as_map
from nodeclient.errors import MachineError
from nodeclient.machine.handshake import is_stream, read_preamble, shake_hands

_log = logging.getLogger(__name__)
HELLO_SECONDS = 5.0
PORTS = range(20_000, 30_000)  # below Linux's default ip_local_port_range
_PORT_TRIES = 100
_AGAIN_SECONDS = 1.0  # until callers are taken again where that failed
MAX_WAITING = 8  # connections that have not said hello; more are cut off at once

Serve = Callable[[str, object], Awaitable[object]]
TakeStream = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]


@dataclass(frozen=True, slots=True)
class LinkKeys:
    """One generation of a boot's channel: kept, sealed, so that a restarted daemon can go on.

    boot_secret: 32 bytes, the boot's own at generation 0 and what followed from it afterwards.
    certificate, key: the Pi's (DER). agent: SHA-256 of the Agent's certificate, the only one that
    may dial; empty until its first hello.
    """

    boot_secret: bytes
    certificate: bytes
    key: bytes
    generation: int = 0
    agent: bytes = b""

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

    def __init__(self, keys: LinkKeys, serve: Serve, take_stream: TakeStream | None = None) -> None:
        self._keys, self._serve, self._take_stream = keys, serve, take_stream
        self._server: socket.socket | None = None
        self._acceptor: asyncio.Task[None] | None = None
        self._workers: set[asyncio.Task[None]] = set()
        self._agent: RpcConnection | None = None
        self._agreed: LinkKeys | None = None  # with the Agent, but not kept yet
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

    @property
    def keys(self) -> LinkKeys:
        """The generation in use."""
        return self._keys

    @property
    def idle(self) -> bool:
        """Whether no call is on its way between the two ends."""
        return self._agent is None or self._agent.idle

    async def rotate(self, seal: Callable[[LinkKeys], bytes], put: Callable[[bytes], None]) -> None:
        """Replace the keys; from then on the old ones open nothing. Raises MachineError.

        `seal` may take as long as a root does, so it runs in a thread. `put` makes its bytes
        durable; it must not wait: between keeping and using nothing else may happen, and nothing
        may be kept after this was cancelled. A failure of either leaves the old keys in use.
        """
        # Once agreed they may be on the disk already, even if keeping them failed in the end: to
        # agree on others then would leave the disk with keys that the Agent has forgotten.
        following = self._agreed = self._agreed or await self._agree()
        put(await asyncio.to_thread(seal, following))
        self._keys, self._agreed = following, None
        old, self._agent = self._agent, None
        if old is not None:
            await old.close()

    async def _agree(self) -> LinkKeys:
        keys, connection = self._keys, self._agent
        if connection is None:
            raise MachineError("the Machine is not connected", "wait for it to dial again")
        certificate, key = new_certificate("sealrun pi")
        half = Half(hashlib.sha256(certificate).digest(), secrets.token_bytes(32))
        offer = Offer(keys.generation + 1, half)
        try:
            answer = Half.from_body(await connection.call(ROTATE, offer.to_body(), HELLO_SECONDS))
        except (RpcError, FormatError) as error:
            raise MachineError(f"the Agent takes no new keys: {error}", "try again") from error
        secret = next_secret(keys.boot_secret, offer, answer)
        return LinkKeys(secret, certificate, key, offer.generation, answer.certificate)

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
            try:
                accepted, _ = await loop.sock_accept(server)
            except OSError as error:  # no handles left, say: the Machine must be heard afterwards
                _log.warning("machine link: no caller can be taken (%s)", error.strerror)
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            if len(self._workers) >= MAX_WAITING:
                accepted.close()
                continue
            worker = asyncio.create_task(self._admit(accepted))
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _admit(self, accepted: socket.socket) -> None:
        """Take a caller through preamble, TLS and hello, within one bound of time."""
        accepted.setblocking(False)
        keys = self._keys
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                certificate = await read_preamble(accepted)
                if keys.agent and not same(hashlib.sha256(certificate).digest(), keys.agent):
                    raise FormatError("the certificate is not the Agent's")
                reader, writer = await shake_hands(
                    accepted, keys.certificate, keys.key, certificate
                )
                if is_stream(writer):
                    self._pass_stream(keys, reader, writer)
                    return
                greeted = asyncio.Event()
                serve = self._greeter(keys, certificate, greeted)
                connection = RpcConnection(reader, writer, serve)
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
        if self._keys.generation != keys.generation:  # replaced since this caller began
            await connection.close()
            return
        old, self._agent = self._agent, connection
        self._present.set()
        if old is not None:
            await old.close()

    def _pass_stream(
        self, keys: LinkKeys, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """A task's connection: from the Agent that said hello under these keys, or from nobody."""
        if self._take_stream is None or not keys.agent or self._keys.generation != keys.generation:
            writer.close()
            return
        self._take_stream(reader, writer)

    def _greeter(self, keys: LinkKeys, certificate: bytes, greeted: asyncio.Event) -> Serve:
        """The handler of one connection: nothing but hello until hello was right.

        And nothing at all once its keys were replaced, even before the connection is closed.
        """

        async def handle(method: str, body: object) -> object:
            if self._keys.generation != keys.generation:
                raise RpcError("old_keys", "these keys were replaced; dial with the new ones")
            if method == HELLO:
                self._check_hello(keys, certificate, body)
                greeted.set()
                return None
            if not greeted.is_set():
                raise RpcError("unknown_agent", "say hello first")
            if method == BEAT:
                return None
            return await self._serve(method, body)

        return handle

    def _check_hello(self, keys: LinkKeys, certificate: bytes, body: object) -> None:
        hello = as_map(body, ("mac", "hpke", "signing"), "hello")
        hpke = as_bytes(hello["hpke"], 32, "hpke")
        signing = as_bytes(hello["signing"], 64, "signing")
        expected = hello_mac(keys.boot_secret, certificate, keys.certificate, hpke + signing)
        if not same(expected, as_bytes(hello["mac"], 32, "mac")):
            raise RpcError("unknown_agent", "this is not the Agent that was booted")
        if self.session not in (None, (hpke, signing)):
            raise RpcError("unknown_agent", "the session changed within one boot")
        digest = hashlib.sha256(certificate).digest()
        if not same(self._keys.agent or digest, digest):
            raise RpcError("unknown_agent", "another certificate said hello first")
        self._keys = replace(self._keys, agent=digest)
        self.session = (hpke, signing)
