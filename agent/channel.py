"""The Agent's end of the channel: dials its Pi, and dials again for as long as its lease lasts.

The Pi's daemon may restart in the middle of a task; the Machine does not. Calls wait for the next
connection and are repeated on it, which every method that the Pi serves permits. A Pi that is not
heard for the whole lease is gone for good: `run` then returns, and the Agent cleans and ends.
The Pi replaces the keys from time to time (`agent.formats.rotation`), and then hangs up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl

from agent.boot import BootParameters
from agent.formats.hashes import sha256
from agent.formats.link import BEAT, HELLO, PREAMBLE, hello_mac, same
from agent.formats.rotation import ROTATE
from agent.formats.rpc import Handler, RpcClosed, RpcConnection, RpcError, RpcTimeout
from agent.keyring import DialKeys, Keyring
from agent.session import Session

_log = logging.getLogger(__name__)
CONNECT_SECONDS = 5.0
CALL_SECONDS = 60.0
_BACKOFF = (0.1, 2.0)  # seconds between dials: first, longest


class PiLost(Exception):
    """The lease ran out: nobody answered on the Pi's side."""


class PiRefused(Exception):
    """Whoever answers is not the Pi that booted this Machine, or does not want this Agent."""


class Channel:
    """Keeps one connection to the Pi alive. Run `run` as a worker; use `call` from others."""

    def __init__(self, boot: BootParameters, session: Session, handler: Handler) -> None:
        self._boot, self._session, self._handler = boot, session, handler
        self._ring = Keyring(boot.boot_secret, boot.pi_certificate)
        self._connection: RpcConnection | None = None
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._heard = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Stay connected. Returns when the lease ran out."""
        pause = _BACKOFF[0]
        try:
            while not self._expired():
                if await self._once():
                    pause = _BACKOFF[0]
                await asyncio.sleep(pause)
                pause = min(pause * 2, _BACKOFF[1])
        finally:
            self._lost.set()
            self._connected.set()  # wakes those who wait; they find the channel lost

    async def _once(self) -> bool:
        """One connection from dialling to its end; whether it came to be."""
        try:
            self._connection = await self._connect()
            self._connected.set()
            await self._keep(self._connection)
        except (OSError, TimeoutError, RpcError, PiRefused) as error:
            _log.info("channel: %s", error)
        finally:
            made, self._connection = self._connection, None
            self._connected.clear()
            if made is not None:
                await made.close()
        return made is not None

    async def call(self, method: str, body: object) -> object:
        """Call the Pi, over as many connections as it takes. Raises RpcError or PiLost."""
        while True:
            await self._connected.wait()
            connection = self._connection
            if self._lost.is_set():
                raise PiLost("the Pi was not heard for the whole lease; boot again")
            if connection is None or connection.closed.is_set():
                await asyncio.sleep(_BACKOFF[0])
                continue
            try:
                answer = await connection.call(method, body, CALL_SECONDS)
            except (RpcClosed, RpcTimeout):
                continue
            self._heard = asyncio.get_running_loop().time()
            return answer

    def _expired(self) -> bool:
        return asyncio.get_running_loop().time() - self._heard > self._boot.lease_seconds

    async def _connect(self) -> RpcConnection:
        """A connection under the newest keys that the Pi has. Raises as the last attempt did."""
        *newer, last = self._ring.candidates
        for keys in newer:
            with contextlib.suppress(OSError, TimeoutError, RpcError, PiRefused):
                return await self._dial(keys)
        return await self._dial(last)

    async def dial_stream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection beside the channel, for one of the task's. Raises OSError, TimeoutError.

        It lives as long as both ends keep it, also when the channel's keys are replaced.
        """
        failure: Exception = ConnectionError("no keys")
        for keys in self._ring.candidates:
            try:
                reader, writer = await self._secure(keys, keys.streams)
            except (OSError, TimeoutError) as error:
                failure = error
                continue
            try:
                _pinned(writer, keys.pi)
            except PiRefused as error:
                writer.close()
                failure = ConnectionError(str(error))
                continue
            return reader, writer
        raise failure

    async def _secure(
        self, keys: DialKeys, context: ssl.SSLContext
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Dial, show the certificate in clear, and begin TLS; whose it is is not checked yet."""
        loop = asyncio.get_running_loop()
        plain = socket.create_connection
        async with asyncio.timeout(CONNECT_SECONDS):
            dialled = await asyncio.to_thread(
                plain, (self._boot.host, self._boot.port), CONNECT_SECONDS
            )
            try:
                dialled.setblocking(False)
                size = len(keys.certificate).to_bytes(PREAMBLE, "big")
                await loop.sock_sendall(dialled, size + keys.certificate)
                return await asyncio.open_connection(sock=dialled, ssl=context, server_hostname="")
            except BaseException:
                dialled.close()
                raise

    async def _dial(self, keys: DialKeys) -> RpcConnection:
        """Dial, check the Pi's certificate, and say hello."""
        reader, writer = await self._secure(keys, keys.context)
        connection = RpcConnection(reader, writer, self._serve)
        try:
            peer = _pinned(writer, keys.pi)
            connection.start()
            await self._hello(connection, keys, peer)
        except BaseException:
            writer.close()
            await connection.close()
            raise
        self._ring.proved(keys)
        return connection

    async def _serve(self, method: str, body: object) -> object:
        """What the Pi calls: keys are the channel's own business, the rest the Agent's."""
        return self._ring.agree(body) if method == ROTATE else await self._handler(method, body)

    async def _hello(self, connection: RpcConnection, keys: DialKeys, peer: bytes) -> None:
        session = self._session
        mac = hello_mac(keys.secret, keys.certificate, peer, session.hpke + session.signing)
        body = {"mac": mac, "hpke": session.hpke, "signing": session.signing}
        await connection.call(HELLO, body, CONNECT_SECONDS)
        self._heard = asyncio.get_running_loop().time()

    async def _keep(self, connection: RpcConnection) -> None:
        """Hear from the Pi a few times per lease; return when the connection ended."""
        pause = min(5.0, self._boot.lease_seconds / 4)
        while not connection.closed.is_set():
            await connection.call(BEAT, None, pause * 2)
            self._heard = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(pause):
                    await connection.closed.wait()
            except TimeoutError:
                continue


def _pinned(writer: asyncio.StreamWriter, digest: bytes) -> bytes:
    """The Pi's certificate (DER), if it is the one with this SHA-256. Raises PiRefused."""
    tls = writer.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True) if isinstance(tls, ssl.SSLObject) else None
    if certificate is None or not same(sha256(certificate), digest):
        raise PiRefused("the certificate is not the Pi's; something else answers its address")
    return certificate
