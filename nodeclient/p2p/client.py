"""The Node's asking side: one bounded request to one proven peer, connections kept for reuse."""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from types import TracebackType

import aiohttp

from nodeclient.p2p.contact import Contact
from nodeclient.p2p.errors import PeerBusy, PeerDeclined, PeerError, PeerRefused, PeerSilent
from nodeclient.p2p.limits import MAX_BODY
from nodeclient.p2p.tls import TlsIdentity, client_context

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 15.0  # below the server's 30, so that a reused connection is rarely a dead one
CONNECTIONS = 24  # 256 KiB each
CONTEXTS = 64  # about 15 KB each; the least used is made again when needed
_DROPPED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionResetError)
_CHUNK = 64 * 1024


class PeerClient:
    """Sends requests as ``identity``. Use it as an async context manager."""

    def __init__(self, identity: TlsIdentity, *, max_body: int = MAX_BODY) -> None:
        self._identity = identity
        self._max_body = max_body
        self._contexts: OrderedDict[Contact, ssl.SSLContext] = OrderedDict()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> PeerClient:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Make the connection pool; nothing is dialled yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=CONNECTIONS, limit_per_host=4, keepalive_timeout=IDLE_SECONDS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """End every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        contact: Contact,
        method: str,
        body: bytes,
        timeout: float,  # noqa: ASYNC109 - callers state one bound over dialling, sending, waiting
    ) -> bytes:
        """Ask ``contact`` for ``method``; returns its answer of at most ``max_body`` bytes.

        ``timeout`` bounds everything, in seconds. Raises PeerRefused (also for a server that is
        not exactly this contact), PeerBusy (ask again later) or PeerSilent. A connection that dies
        before an answer is tried once more, so the peer may see the request twice.
        """
        if len(body) > self._max_body:
            raise PeerRefused(
                f"p2p: body of {len(body)} bytes exceeds {self._max_body}", "split it"
            )
        try:
            async with asyncio.timeout(timeout):
                try:
                    return await self._attempt(contact, method, body)
                except _DROPPED as error:
                    if isinstance(error, aiohttp.ClientConnectorError):
                        raise  # never connected: nothing to try again at once
                    return await self._attempt(contact, method, body)
        except PeerError:
            raise
        except TimeoutError as error:
            raise PeerSilent(
                f"peer 0x{contact.node.hex()} gave no answer in {timeout:g} s", "try again later"
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _translate(contact, error) from error

    async def _attempt(self, contact: Contact, method: str, body: bytes) -> bytes:
        if self._session is None:
            raise PeerSilent("p2p: client is not connected", "call connect() first")
        async with self._session.post(
            f"https://{contact.endpoint}/v1/{method}",
            data=body,
            ssl=self._context(contact),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        ) as response:
            answer = await self._read(contact, response)
            if response.status == 200:
                return answer
            reason = "".join(c for c in answer[:300].decode("utf-8", "replace") if c.isprintable())
            kind = PeerBusy if response.status in (408, 429, 503) else PeerDeclined
            raise kind(reason, f"that is what peer 0x{contact.node.hex()} says to {method}")

    async def _read(self, contact: Contact, response: aiohttp.ClientResponse) -> bytes:
        parts, size = [], 0
        async for part in response.content.iter_chunked(_CHUNK):
            size += len(part)
            if size > self._max_body:
                response.close()
                raise PeerRefused(
                    f"peer 0x{contact.node.hex()} answered more than {self._max_body} bytes",
                    "take another peer",
                )
            parts.append(part)
        return b"".join(parts)

    def _context(self, contact: Contact) -> ssl.SSLContext:
        """The context of exactly this contact. aiohttp reuses a connection only under the same
        context object, so a re-pinned peer is dialled anew."""
        context = self._contexts.pop(contact, None) or client_context(self._identity, contact)
        self._contexts[contact] = context
        if len(self._contexts) > CONTEXTS:
            self._contexts.popitem(last=False)
        return context


def _translate(contact: Contact, error: Exception) -> PeerError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _wrong_certificate(contact)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return PeerRefused(
            f"peer 0x{contact.node.hex()} refused the TLS handshake",
            "check that both contacts on chain are current",
        )
    if isinstance(error, _DROPPED) and not isinstance(error, aiohttp.ClientConnectorError):
        return PeerSilent(
            f"peer 0x{contact.node.hex()} closed the connection without an answer",
            "try again: it may not have read this node's contact on chain yet",
        )
    return PeerSilent(
        f"peer 0x{contact.node.hex()} at {contact.endpoint} is not reachable "
        f"({type(error).__name__})",
        "try again later",
    )


def _wrong_certificate(contact: Contact) -> PeerRefused:
    return PeerRefused(
        f"{contact.endpoint} is not peer 0x{contact.node.hex()}", "read its latest contact on chain"
    )
