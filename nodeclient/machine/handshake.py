"""The first bytes of a caller on the Machine's port: its certificate in clear, then TLS with it.

See `agent.formats.link` for why. Everything read here comes from somebody not yet known.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from agent.formats.cbor import FormatError
from agent.formats.link import MAX_CERTIFICATE, PREAMBLE, tls_context
from agent.formats.stream import ALPN


async def read_preamble(accepted: socket.socket) -> bytes:
    """The caller's certificate, sent in clear before TLS. Raises FormatError or OSError."""
    size = int.from_bytes(await _read_exactly(accepted, PREAMBLE), "big")
    if not 0 < size <= MAX_CERTIFICATE:
        raise FormatError("preamble: not a certificate's length")
    return await _read_exactly(accepted, size)


async def shake_hands(
    accepted: socket.socket, certificate: bytes, key: bytes, announced: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """TLS with the holder of the announced certificate. Raises FormatError or OSError.

    certificate, key: the Pi's own (DER).
    """
    context = tls_context(server=True, certificate=certificate, key=key, peer=announced, alpn=ALPN)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, ssl=context)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    tls = writer.get_extra_info("ssl_object")
    if not isinstance(tls, ssl.SSLObject) or tls.getpeercert(binary_form=True) != announced:
        writer.close()
        raise FormatError("the caller's certificate is not the one it announced")
    return reader, writer


def is_stream(writer: asyncio.StreamWriter) -> bool:
    """Whether the caller wants a task's connection, not the channel."""
    tls = writer.get_extra_info("ssl_object")
    return isinstance(tls, ssl.SSLObject) and tls.selected_alpn_protocol() == ALPN


async def _read_exactly(accepted: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        part = await loop.sock_recv(accepted, size - len(data))
        if not part:
            raise FormatError("preamble: the caller closed")
        data += part
    return data
