"""The cable: strangers on the Pi's port, a stranger in the Pi's place, and what the pins hold."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import secrets
import socket
import ssl
from collections.abc import AsyncIterator

import pytest

from agent.boot import BootParameters
from agent.channel import Channel, PiRefused
from agent.formats.link import HELLO, PREAMBLE, hello_mac, new_certificate, tls_context
from agent.formats.rpc import Handler, RpcConnection, RpcError, refuse_all
from agent.session import Session
from nodeclient.errors import MachineError
from nodeclient.machine.link import Link, LinkKeys
from tests.agent.test_session import _parameters

KEYS = LinkKeys.fresh(b"\5" * 32)
SESSION = (b"\6" * 32, b"\7" * 64)
SECONDS = 60.0


async def serve(method: str, body: object) -> object:
    return [method, body]


@pytest.fixture
async def port() -> AsyncIterator[tuple[Link, int]]:
    link = Link(KEYS, serve)
    yield link, link.listen("127.0.0.1", 0)
    await link.close()


async def dial(
    port: int, announced: bytes, certificate: bytes, key: bytes, handler: Handler = refuse_all
) -> RpcConnection:
    """Connect as an Agent does, announcing one certificate and using another if told to."""
    plain = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", port), SECONDS)
    plain.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(plain, len(announced).to_bytes(PREAMBLE, "big") + announced)
    context = tls_context(server=False, certificate=certificate, key=key, peer=None)
    reader, writer = await asyncio.open_connection(sock=plain, ssl=context, server_hostname="")
    return RpcConnection(reader, writer, handler).start()


def hello(secret: bytes, certificate: bytes) -> dict[str, object]:
    mac = hello_mac(secret, certificate, KEYS.certificate, SESSION[0] + SESSION[1])
    return {"mac": mac, "hpke": SESSION[0], "signing": SESSION[1]}


async def test_hello__with_the_boot_secret__admitted(port: tuple[Link, int]) -> None:
    link, number = port
    certificate, key = new_certificate("agent")
    caller = await dial(number, certificate, certificate, key)
    await caller.call(HELLO, hello(KEYS.boot_secret, certificate), SECONDS)
    assert (await link.agent(SECONDS)) is not None
    assert link.session == SESSION
    assert await caller.call("anything", 1, SECONDS) == ["anything", 1]
    await caller.close()


async def test_accept__no_handles_left_for_a_while__callers_are_taken_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nodeclient.machine.link._AGAIN_SECONDS", 0.01)
    loop = asyncio.get_running_loop()
    accept, failed = loop.sock_accept, asyncio.Event()

    async def full(server: socket.socket) -> tuple[socket.socket, object]:
        if not failed.is_set():
            failed.set()
            raise OSError(errno.EMFILE, "Too many open files")
        return await accept(server)

    monkeypatch.setattr(loop, "sock_accept", full)
    link = Link(KEYS, serve)
    number = link.listen("127.0.0.1", 0)
    await failed.wait()
    certificate, key = new_certificate("agent")
    caller = await dial(number, certificate, certificate, key)
    await caller.call(HELLO, hello(KEYS.boot_secret, certificate), SECONDS)
    await caller.close()
    await link.close()


async def test_call__before_hello__refused(port: tuple[Link, int]) -> None:
    certificate, key = new_certificate("agent")
    caller = await dial(port[1], certificate, certificate, key)
    with pytest.raises(RpcError, match="hello"):
        await caller.call("get_block", "x", SECONDS)
    await caller.close()


@pytest.mark.parametrize("wrong", ["secret", "certificate"])
async def test_hello__wrong_secret_or_for_another_certificate__refused(
    port: tuple[Link, int], wrong: str
) -> None:
    link, number = port
    certificate, key = new_certificate("agent")
    caller = await dial(number, certificate, certificate, key)
    body = hello(
        bytes(32) if wrong == "secret" else KEYS.boot_secret,
        new_certificate("agent")[0] if wrong == "certificate" else certificate,
    )
    with pytest.raises(RpcError, match="not the Agent"):
        await caller.call(HELLO, body, SECONDS)
    assert link.session is None
    with pytest.raises(MachineError):
        await link.agent(0.2)
    await caller.close()


async def test_handshake__certificate_of_somebody_else_announced__refused(
    port: tuple[Link, int],
) -> None:
    """Who announces a certificate must hold its key."""
    announced, _ = new_certificate("agent")
    certificate, key = new_certificate("stranger")

    async def pretend() -> None:
        caller = await dial(port[1], announced, certificate, key)
        await caller.call(HELLO, hello(KEYS.boot_secret, announced), SECONDS)

    with pytest.raises((ssl.SSLError, ConnectionError, RpcError)):
        await pretend()
    assert port[0].session is None


@pytest.mark.parametrize(
    "sent", [b"", b"\0\0", b"\xff\xff", b"\0\4abcd", b"GET / HTTP/1.1\r\n\r\n"]
)
async def test_preamble__garbage__cut_off_and_the_next_caller_served(
    port: tuple[Link, int], sent: bytes
) -> None:
    link, number = port
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    writer.write(sent)
    writer.write_eof()
    async with asyncio.timeout(SECONDS):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
    certificate, key = new_certificate("agent")
    caller = await dial(number, certificate, certificate, key)
    await caller.call(HELLO, hello(KEYS.boot_secret, certificate), SECONDS)
    assert link.session == SESSION
    await caller.close()


async def test_hello__second_session_within_one_boot__refused(port: tuple[Link, int]) -> None:
    link, number = port
    certificate, key = new_certificate("agent")
    caller = await dial(number, certificate, certificate, key)
    await caller.call(HELLO, hello(KEYS.boot_secret, certificate), SECONDS)
    other = secrets.token_bytes(32)
    mac = hello_mac(KEYS.boot_secret, certificate, KEYS.certificate, other + SESSION[1])
    with pytest.raises(RpcError, match="session changed"):
        await caller.call(HELLO, {"mac": mac, "hpke": other, "signing": SESSION[1]}, SECONDS)
    assert link.session == SESSION
    await caller.close()


async def test_listen__tls_1_2__refused(port: tuple[Link, int]) -> None:
    certificate, _ = new_certificate("agent")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    plain = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", port[1]), SECONDS)
    plain.setblocking(False)
    head = len(certificate).to_bytes(PREAMBLE, "big") + certificate
    await asyncio.get_running_loop().sock_sendall(plain, head)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(sock=plain, ssl=old, server_hostname="")


async def test_agent__somebody_else_in_the_pi_s_place__says_nothing(
    port: tuple[Link, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The Agent pins another Pi than the one that answers: no hello leaves it."""
    link, number = port
    boot = _parameters(tmp_path_factory.mktemp("agent"))
    fields = {name: getattr(boot, name) for name in boot.__slots__}
    pinned = hashlib.sha256(b"another certificate").digest()
    fields |= {"port": number, "pi_certificate": pinned, "boot_secret": KEYS.boot_secret}
    channel = Channel(BootParameters(**fields), Session(), refuse_all)
    with pytest.raises(PiRefused, match="not the Pi's"):
        await channel._connect()
    assert link.session is None
    fields["pi_certificate"] = KEYS.digest
    honest = Channel(BootParameters(**fields), Session(), refuse_all)
    await (await honest._connect()).close()
    assert link.session is not None
