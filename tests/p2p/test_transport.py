"""Transport over real TLS on loopback: one test per defence."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from nodeclient.core.types import NodeStatus
from nodeclient.p2p import certificate as certificates
from nodeclient.p2p.contact import Contact
from nodeclient.p2p.directory import Directory
from nodeclient.p2p.tls import TlsIdentity, client_context, server_context
from nodeclient.p2p.transport import Limits, PeerBusy, PeerRefused, PeerServer, PeerSilent
from tests.p2p.conftest import CHAIN_ID, REGISTRY, Network, Node, echo, make_node

SECONDS = 60.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the other end does in its own time."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_request__known_peers__handler_gets_the_proven_address(
    network: Network, requester: Node, executor: Node
) -> None:
    await network.serve(executor)
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    client = await network.client(requester)
    assert (
        await client.request(contact, "hello", b"body", SECONDS)
        == requester.address + b"hello|body"
    )


async def test_request__twice__one_connection(
    network: Network, requester: Node, executor: Node
) -> None:
    server = await network.serve(executor)
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    client = await network.client(requester)
    for _ in range(5):
        await client.request(contact, "hello", b"", SECONDS)
    assert len(server._connections) == 1


async def test_request__unknown_client__refused_in_the_handshake(
    network: Network, outsider: Node, executor: Node
) -> None:
    asked = []

    async def handler(peer: bytes, method: str, body: bytes) -> bytes:
        asked.append(peer)
        return b""

    server = await network.serve(executor, handler)
    contact = executor.publish(network.directory)
    assert await _refused(server, contact, client_context(outsider.identity, contact))
    client = await network.client(outsider)
    with pytest.raises(PeerSilent, match="closed the connection"):
        await client.request(contact, "hello", b"", SECONDS)
    assert asked == []


async def test_request__client_without_certificate__refused_in_the_handshake(
    network: Network, executor: Node
) -> None:
    server = await network.serve(executor)
    contact = executor.publish(network.directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=contact.certificate)
    assert await _refused(server, contact, context)


async def test_request__certificate_signed_by_a_peer__refused_in_the_handshake(
    network: Network, requester: Node, executor: Node, outsider: Node
) -> None:
    server = await network.serve(executor)
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    child = _issue(requester.identity, outsider.identity)
    assert await _refused(server, contact, client_context(child, contact))


async def test_request__same_subject_other_key__refused_in_the_handshake(
    network: Network, requester: Node, executor: Node
) -> None:
    server = await network.serve(executor)
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    forged = TlsIdentity.create(ed25519.Ed25519PrivateKey.generate(), requester.address)
    assert await _refused(server, contact, client_context(forged, contact))


async def test_request__peer_answers_on_another_peers_endpoint__refused_before_anything_is_sent(
    network: Network, requester: Node, executor: Node, member: Node
) -> None:
    """Member is known to everybody; it listens where executor's contact points to."""
    asked = []

    async def handler(peer: bytes, method: str, body: bytes) -> bytes:
        asked.append(body)
        return b""

    await network.serve(member, handler)
    member.publish(network.directory)
    requester.publish(network.directory)
    executor.endpoint = member.endpoint
    contact = executor.publish(network.directory)
    client = await network.client(requester)
    with pytest.raises(PeerRefused, match="is not peer"):
        await client.request(contact, "hello", b"for the executor", SECONDS)
    assert asked == []


async def test_request__pooled_connection_to_another_peer_at_that_endpoint__not_reused(
    network: Network, requester: Node, executor: Node, member: Node
) -> None:
    await network.serve(member)
    contact = member.publish(network.directory)
    requester.publish(network.directory)
    client = await network.client(requester)
    await client.request(contact, "hello", b"", SECONDS)
    executor.endpoint = member.endpoint
    with pytest.raises(PeerRefused, match="is not peer"):
        await client.request(executor.publish(network.directory), "hello", b"", SECONDS)


async def test_request__server_shows_a_sibling_certificate_of_the_right_key__refused(
    network: Network, requester: Node, executor: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exact bytes, not key or name: the sibling has both and differs in its serial number."""
    contact_certificate = executor.identity.certificate
    monkeypatch.setattr(certificates, "sha256", lambda _: bytes(31) + b"\x40" * 32)
    sibling = TlsIdentity.create(executor.identity.key, executor.address)
    monkeypatch.undo()
    assert sibling.certificate != contact_certificate
    pinned, executor.identity = executor.identity, sibling
    await network.serve(executor)
    executor.identity = pinned
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    client = await network.client(requester)
    with pytest.raises(PeerRefused, match="is not peer"):
        await client.request(contact, "hello", b"", SECONDS)


async def test_request__server_shows_a_certificate_signed_by_the_pinned_one__refused(
    network: Network, requester: Node, executor: Node, outsider: Node
) -> None:
    pinned = executor.identity
    executor.identity = _issue(pinned, outsider.identity)
    await network.serve(executor)
    executor.identity = pinned
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    client = await network.client(requester)
    with pytest.raises(PeerRefused, match="is not peer"):
        await client.request(contact, "hello", b"", SECONDS)


async def test_request__client_offers_tls12__refused(
    network: Network, requester: Node, executor: Node
) -> None:
    server = await network.serve(executor)
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    context = client_context(requester.identity, contact)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await _refused(server, contact, context)


async def test_request__server_offers_tls12__refused(
    network: Network, requester: Node, executor: Node, tmp_path: Path
) -> None:
    context = server_context(executor.identity, tmp_path)
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    executor.endpoint = await _listen(network, context)
    contact = executor.publish(network.directory)
    client = await network.client(requester)
    with pytest.raises(PeerSilent, match="not reachable"):
        await client.request(contact, "hello", b"", SECONDS)


async def test_handshake__tls13__no_session_ticket_that_would_skip_the_check(
    network: Network, requester: Node, executor: Node
) -> None:
    await network.serve(executor)
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    context = client_context(requester.identity, contact)
    context.options &= ~ssl.OP_NO_TICKET
    reader, writer = await asyncio.open_connection(contact.host, contact.port, ssl=context)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readline()  # tickets come before the first answer
    link = writer.get_extra_info("ssl_object")
    assert link.version() == "TLSv1.3"
    assert not link.session.has_ticket
    writer.close()


@pytest.mark.parametrize("status", [NodeStatus.EXITED, NodeStatus.BARRED])
async def test_request__peer_left_the_registry__refused_on_open_and_new_connections(
    network: Network, requester: Node, executor: Node, status: NodeStatus
) -> None:
    server = await network.serve(executor)
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    client = await network.client(requester)
    await client.request(contact, "hello", b"", SECONDS)
    network.directory.set_status(requester.address, status)
    with pytest.raises(PeerRefused, match="not a peer any more"):
        await client.request(contact, "hello", b"", SECONDS)
    assert await _refused(server, contact, client_context(requester.identity, contact))


async def test_request__client_published_a_new_certificate__only_the_new_one_is_taken(
    network: Network, requester: Node, executor: Node
) -> None:
    await network.serve(executor)
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    before = await network.client(requester)
    await before.request(contact, "hello", b"", SECONDS)
    requester.renew_key()
    requester.publish(network.directory)
    after = await network.client(requester)
    answer = await after.request(contact, "hello", b"", SECONDS)
    assert answer.startswith(requester.address)
    with pytest.raises(PeerRefused, match="not a peer"):
        await before.request(contact, "hello", b"", SECONDS)


async def test_request__server_published_a_new_certificate__old_contact_fails_new_one_works(
    network: Network, requester: Node, executor: Node
) -> None:
    requester.publish(network.directory)
    old = executor.publish(network.directory)
    executor.renew_key()
    await network.serve(executor)
    client = await network.client(requester)
    with pytest.raises(PeerRefused, match="is not peer"):
        await client.request(replace(old, endpoint=executor.endpoint), "hello", b"", SECONDS)
    contact = executor.publish(network.directory)
    assert await client.request(contact, "hello", b"", SECONDS)


async def test_request__body_above_the_limit__refused_on_both_sides(
    network: Network, requester: Node, executor: Node
) -> None:
    asked = []

    async def handler(peer: bytes, method: str, body: bytes) -> bytes:
        asked.append(len(body))
        return b""

    await network.serve(executor, handler, Limits(max_body=1000))
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    careful = await network.client(requester, max_body=1000)
    with pytest.raises(PeerRefused, match="split it"):
        await careful.request(contact, "hello", bytes(1001), SECONDS)
    careless = await network.client(requester)
    with pytest.raises(PeerRefused, match="exceeds 1000"):
        await careless.request(contact, "hello", bytes(1001), SECONDS)
    await careful.request(contact, "hello", bytes(1000), SECONDS)
    assert asked == [1000]


async def test_request__answer_above_the_limit__refused(
    network: Network, requester: Node, executor: Node
) -> None:
    async def handler(peer: bytes, method: str, body: bytes) -> bytes:
        return bytes(2000)

    await network.serve(executor, handler)
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    client = await network.client(requester, max_body=1999)
    with pytest.raises(PeerRefused, match="answered more than 1999"):
        await client.request(contact, "hello", b"", SECONDS)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Encoding": "deflate"}, 411),
        ({"X-Chunked": "yes"}, 411),
        ({}, 200),
    ],
)
async def test_request__compressed_or_unsized_body__refused(
    network: Network, requester: Node, executor: Node, headers: dict[str, str], status: int
) -> None:
    await network.serve(executor)
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    context = client_context(requester.identity, contact)
    url = f"https://{contact.endpoint}/v1/hello"
    async with aiohttp.ClientSession() as raw:
        data = _parts() if "X-Chunked" in headers else b"x"
        async with raw.post(url, data=data, headers=headers, ssl=context) as response:
            assert response.status == status


@pytest.mark.parametrize("path", ["/", "/v1/", "/v2/hello", "/v1/Hello", "/v1/a/b", "/v1/a?b"])
async def test_request__other_paths__refused(
    network: Network, requester: Node, executor: Node, path: str
) -> None:
    await network.serve(executor)
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    context = client_context(requester.identity, contact)
    async with (
        aiohttp.ClientSession() as raw,
        raw.post(f"https://{contact.endpoint}{path}", data=b"", ssl=context) as response,
    ):
        assert response.status == 404


async def test_request__silent_handler__times_out(
    network: Network, requester: Node, executor: Node
) -> None:
    async def handler(peer: bytes, method: str, body: bytes) -> bytes:
        await asyncio.sleep(30)
        return b""

    await network.serve(executor, handler)
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    client = await network.client(requester)
    with pytest.raises(PeerSilent, match=r"no answer in 0\.3 s"):
        await client.request(contact, "hello", b"", 0.3)


async def test_request__server_gives_up_on_its_own_handler__busy(
    network: Network, requester: Node, executor: Node
) -> None:
    async def handler(peer: bytes, method: str, body: bytes) -> bytes:
        await asyncio.sleep(30)
        return b""

    await network.serve(executor, handler, Limits(handler_seconds=0.2))
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    client = await network.client(requester)
    with pytest.raises(PeerBusy, match="no answer in time"):
        await client.request(contact, "hello", b"", SECONDS)


async def test_request__nobody_listens__silent(
    network: Network, requester: Node, executor: Node
) -> None:
    contact = executor.publish(network.directory)
    client = await network.client(requester)
    with pytest.raises(PeerSilent, match="not reachable"):
        await client.request(contact, "hello", b"", SECONDS)


async def test_request__handler_refuses__its_reason_arrives(
    network: Network, requester: Node, executor: Node
) -> None:
    async def handler(peer: bytes, method: str, body: bytes) -> bytes:
        raise PeerRefused("policy: this function is not permitted", "ask the owner")

    await network.serve(executor, handler)
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    client = await network.client(requester)
    with pytest.raises(PeerRefused, match="this function is not permitted"):
        await client.request(contact, "hello", b"", SECONDS)


async def test_request__handler_fails__its_message_stays_inside(
    network: Network,
    requester: Node,
    executor: Node,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(peer: bytes, method: str, body: bytes) -> bytes:
        raise ValueError("canary-8812")

    await network.serve(executor, handler)
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    client = await network.client(requester)
    with pytest.raises(PeerRefused, match="handler failed") as caught:
        await client.request(contact, "hello", b"", SECONDS)
    assert "canary" not in str(caught.value) + caplog.text


async def test_flood__strangers_that_say_nothing__bounded_and_peers_still_served(
    network: Network, requester: Node, executor: Node
) -> None:
    limits = Limits(handshakes=8, handshakes_per_source=8, handshake_seconds=2.0)
    server = await network.serve(executor, echo, limits)
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    strangers = [await asyncio.open_connection(contact.host, contact.port) for _ in range(40)]
    await until(lambda: server.refusals["crowd"] == 32)
    assert len(server._handshakes) == 8
    await until(lambda: len(server._handshakes) == 0)  # the silent ones time out
    client = await network.client(requester)
    assert await client.request(contact, "hello", b"", SECONDS)
    for _, writer in strangers:
        writer.close()


async def test_flood__one_peer_opens_many_connections__others_still_served(
    network: Network, requester: Node, executor: Node, member: Node
) -> None:
    server = await network.serve(executor, echo, Limits(connections_per_peer=3))
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    member.publish(network.directory)
    context = client_context(requester.identity, contact)
    held = [
        await asyncio.open_connection(contact.host, contact.port, ssl=context) for _ in range(8)
    ]
    await until(lambda: server.refusals["connections"] == 5)
    assert len(server._connections) == 3
    client = await network.client(member)
    assert await client.request(contact, "hello", b"", SECONDS)
    for _, writer in held:
        writer.close()


async def test_flood__pending_peers__leave_room_for_admitted_ones(
    network: Network, requester: Node, executor: Node, member: Node
) -> None:
    """To register as PENDING takes no Deposit: a crowd of them must not fill the server."""
    release, running = asyncio.Event(), []

    async def handler(peer: bytes, method: str, body: bytes) -> bytes:
        if peer == requester.address:
            running.append(method)
            await release.wait()
        return b"done"

    limits = Limits(connections=2, requests=2, pending_connections=4, pending_requests=1)
    server = await network.serve(executor, handler, limits)
    contact = executor.publish(network.directory)
    crowd = [requester, *(make_node(number) for number in range(10, 14))]
    for node in crowd:
        node.publish(network.directory, NodeStatus.PENDING)
    member.publish(network.directory)
    first = asyncio.create_task(
        (await network.client(requester)).request(contact, "vote", b"", SECONDS)
    )
    await until(lambda: running == ["vote"])
    with pytest.raises(PeerBusy):
        await (await network.client(crowd[1])).request(contact, "vote", b"", SECONDS)
    held = []
    for node in crowd[2:]:
        for _ in range(3):
            context = client_context(node.identity, contact)
            held.append(await asyncio.open_connection(contact.host, contact.port, ssl=context))
    await until(lambda: server.refusals["connections"] == 7)
    assert await (await network.client(member)).request(contact, "a", bytes(2000), SECONDS)
    release.set()
    assert await first == b"done"
    for _, writer in held:
        writer.close()


async def test_request__long_body_of_a_pending_peer__refused(
    network: Network, requester: Node, executor: Node
) -> None:
    await network.serve(executor)
    contact = executor.publish(network.directory)
    requester.publish(network.directory, NodeStatus.PENDING)
    client = await network.client(requester)
    assert await client.request(contact, "a", bytes(1024), SECONDS)
    with pytest.raises(PeerRefused, match="1024 bytes"):
        await client.request(contact, "a", bytes(1025), SECONDS)


async def test_flood__one_peer_asks_too_fast__busy_and_others_still_served(
    network: Network, requester: Node, executor: Node, member: Node
) -> None:
    await network.serve(executor, echo, Limits(rate_per_second=0.001, burst=5))
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    member.publish(network.directory)
    client = await network.client(requester)
    for _ in range(5):
        await client.request(contact, "hello", b"", SECONDS)
    with pytest.raises(PeerBusy):
        await client.request(contact, "hello", b"", SECONDS)
    assert await (await network.client(member)).request(contact, "hello", b"", SECONDS)


async def test_flood__requests_at_once_above_the_bound__busy(
    network: Network, requester: Node, executor: Node
) -> None:
    release, running = asyncio.Event(), []

    async def handler(peer: bytes, method: str, body: bytes) -> bytes:
        running.append(method)
        await release.wait()
        return b"done"

    await network.serve(executor, handler, Limits(requests_per_peer=2))
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    client = await network.client(requester)
    first = [asyncio.create_task(client.request(contact, "a", b"", SECONDS)) for _ in range(2)]
    await until(lambda: len(running) == 2)
    with pytest.raises(PeerBusy):
        await client.request(contact, "b", b"", SECONDS)
    release.set()
    assert await asyncio.gather(*first) == [b"done", b"done"]


async def test_connection__never_asks__closed_and_its_slot_free(
    network: Network, requester: Node, executor: Node
) -> None:
    server = await network.serve(executor, echo, Limits(idle_seconds=1.0))
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    context = client_context(requester.identity, contact)
    reader, writer = await asyncio.open_connection(contact.host, contact.port, ssl=context)
    await until(lambda: len(server._connections) == 1)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await asyncio.wait_for(reader.readexactly(1), SECONDS)
    await until(lambda: len(server._connections) == 0)
    writer.close()


async def test_connection__body_never_completes__closed(
    network: Network, requester: Node, executor: Node
) -> None:
    await network.serve(executor, echo, Limits(body_seconds=0.3))
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    context = client_context(requester.identity, contact)
    reader, writer = await asyncio.open_connection(contact.host, contact.port, ssl=context)
    writer.write(b"POST /v1/hello HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    status = await asyncio.wait_for(reader.readline(), SECONDS)
    assert b" 408 " in status
    writer.close()


async def test_body_budget__spent_by_slow_senders__others_wait_and_are_served(
    network: Network, requester: Node, executor: Node, member: Node
) -> None:
    server = await network.serve(
        executor, echo, Limits(body_seconds=3.0, max_body=1000, body_budget=1000)
    )
    contact = executor.publish(network.directory)
    requester.publish(network.directory)
    member.publish(network.directory)
    context = client_context(requester.identity, contact)
    _, writer = await asyncio.open_connection(contact.host, contact.port, ssl=context)
    writer.write(b"POST /v1/hello HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    client = await network.client(member)
    await until(lambda: server._budget._left == 0)
    await asyncio.sleep(1.0)  # so much later the member's own patience ends
    waiting = asyncio.create_task(client.request(contact, "hello", bytes(10), SECONDS))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    assert await waiting
    writer.close()


async def test_server__restart__trusts_the_chain_and_not_its_old_folder(
    network: Network, requester: Node, executor: Node
) -> None:
    requester.publish(network.directory)
    first = await network.serve(executor)
    await first.close()
    fresh = Directory(CHAIN_ID, REGISTRY)
    server = await network.serve(executor, directory=fresh)
    contact = executor.publish(network.directory)
    assert await _refused(server, contact, client_context(requester.identity, contact))


async def _parts() -> object:
    yield b"x"


async def _refused(server: PeerServer, contact: Contact, context: ssl.SSLContext) -> bool:
    """True when the server ended the connection in the handshake, and for no other cause.

    In TLS 1.3 a client learns of its refusal only with its first read.
    """
    before = server.refusals.copy()
    try:
        reader, writer = await asyncio.open_connection(contact.host, contact.port, ssl=context)
        writer.write(b"POST /v1/hello HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert await asyncio.wait_for(reader.read(1), SECONDS) == b""
        writer.close()
    except (ssl.SSLError, ConnectionError):
        pass
    await until(lambda: server.refusals != before)
    return server.refusals - before == {"handshake": 1}


async def _listen(network: Network, context: ssl.SSLContext) -> str:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    network.stack.callback(server.close)
    return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def _issue(issuer: TlsIdentity, subject: TlsIdentity) -> TlsIdentity:
    """A certificate for ``subject``'s key signed by ``issuer``, as if that were an authority."""
    own = x509.load_der_x509_certificate(subject.certificate)
    signer = x509.load_der_x509_certificate(issuer.certificate)
    child = (
        x509.CertificateBuilder()
        .subject_name(own.subject)
        .issuer_name(signer.subject)
        .public_key(own.public_key())
        .serial_number(5)
        .not_valid_before(own.not_valid_before_utc)
        .not_valid_after(own.not_valid_after_utc)
        .sign(issuer.key, None)  # Ed25519
    )
    return TlsIdentity(subject.key, child.public_bytes(serialization.Encoding.DER))
