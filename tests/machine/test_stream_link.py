"""A task's connections over the Link's port: for the Agent of this boot, and for nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.channel import Channel
from agent.formats.link import PREAMBLE, new_certificate, tls_context
from agent.formats.rpc import refuse_all
from agent.formats.stream import ALPN
from agent.proxy import Ends
from agent.session import Session
from nodeclient.machine.link import Link, LinkKeys, TakeStream
from tests.machine.test_link import SECONDS, serve
from tests.machine.test_rotation import Cable, parameters, running

ENDED = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)


class Taker:
    """Takes streams in a Link's place of a TaskProxy; echoes one line."""

    def __init__(self) -> None:
        self.taken = 0

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        self._worker = asyncio.create_task(self._echo(reader, writer))

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()


@asynccontextmanager
async def cable_between(
    folder: Path, take_stream: TakeStream | None = None, *, agent: bool = True
) -> AsyncIterator[Cable]:
    """A Pi's link and, unless told otherwise, the Agent that said hello to it."""
    link = Link(LinkKeys.fresh(secrets.token_bytes(32)), serve, take_stream)
    session, port = Session(), link.listen("127.0.0.1", 0)
    channel = Channel(parameters(folder, port, link.keys), session, refuse_all)
    try:
        async with contextlib.AsyncExitStack() as stack:
            if agent:
                await stack.enter_async_context(running(channel))
                await link.agent(SECONDS)
            yield Cable(link, port, channel, session)
    finally:
        await link.close()


@pytest.fixture
async def cable(tmp_path: Path) -> AsyncIterator[tuple[Cable, Taker]]:
    taker = Taker()
    async with cable_between(tmp_path, take_stream=taker.take) as cable:
        yield cable, taker


async def speaks(ends: Ends) -> bool:
    """Whether the other end answers."""
    reader, writer = ends
    try:
        writer.write(b"hello\n")
        await writer.drain()
        async with asyncio.timeout(SECONDS):
            return await reader.readexactly(6) == b"HELLO\n"
    except ENDED:
        return False


async def opens(dialling: Awaitable[Ends]) -> bool:
    """Whether somebody gets a stream that is answered."""
    try:
        return await speaks(await dialling)
    except ENDED:
        return False


async def stranger(port: int, certificate: bytes, key: bytes) -> Ends:
    """Whoever dials for a stream with a certificate of its own."""
    plain = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", port), SECONDS)
    plain.setblocking(False)
    size = len(certificate).to_bytes(PREAMBLE, "big")
    await asyncio.get_running_loop().sock_sendall(plain, size + certificate)
    context = tls_context(server=False, certificate=certificate, key=key, peer=None, alpn=ALPN)
    return await asyncio.open_connection(sock=plain, ssl=context, server_hostname="")


async def test_stream__from_the_agent__taken_beside_the_channel(
    cable: tuple[Cable, Taker],
) -> None:
    joined, taker = cable
    ends = await joined.channel.dial_stream()
    assert await speaks(ends)
    assert await joined.say(1) is not None  # the channel goes on
    assert taker.taken == 1
    ends[1].close()


async def test_stream__from_another_certificate__cut_off(cable: tuple[Cable, Taker]) -> None:
    joined, taker = cable
    assert not await opens(stranger(joined.port, *new_certificate("agent")))
    assert taker.taken == 0


async def test_stream__before_the_agent_said_hello__cut_off(tmp_path: Path) -> None:
    """The Pi does not know the Agent's certificate yet: anybody could announce one."""
    taker = Taker()
    async with cable_between(tmp_path, take_stream=taker.take, agent=False) as joined:
        assert not await opens(stranger(joined.port, *new_certificate("agent")))
    assert taker.taken == 0


async def test_stream__keys_were_replaced__old_ones_open_none_and_open_ones_live_on(
    cable: tuple[Cable, Taker],
) -> None:
    joined, taker = cable
    old = joined.keys
    early = await joined.channel.dial_stream()
    assert await speaks(early)
    await joined.rotate()
    assert not await opens(joined.channel._secure(old, old.streams))
    assert await speaks(await joined.channel.dial_stream())
    assert await speaks(early)
    assert taker.taken == 2
    early[1].close()


async def test_stream__link_that_takes_none__closed(tmp_path: Path) -> None:
    async with cable_between(tmp_path) as joined:
        assert not await speaks(await joined.channel.dial_stream())


async def test_stream__somebody_else_on_the_pi_s_address__not_spoken_to(
    cable: tuple[Cable, Taker],
) -> None:
    """The Agent looks at the certificate before it says what the task wants."""
    joined, _ = cable
    joined.channel._ring._current = replace(joined.keys, pi=bytes(32))
    with pytest.raises(ConnectionError, match="not the Pi's"):
        await joined.channel.dial_stream()
