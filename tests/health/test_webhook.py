"""The webhook against a real receiver: it takes, fails, hangs, redirects, is away, comes back."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from eth_utils.address import to_checksum_address

from nodeclient.core.health import PeerPart, Picture
from nodeclient.core.incidents import Kind
from nodeclient.errors import ConfigError
from nodeclient.health import webhook as module
from nodeclient.health.exposition import render
from nodeclient.health.target import Memory, Target, load_target
from nodeclient.health.webhook import Webhook
from tests.health.kit import ACCOUNT, NOW, PICTURE, reading
from tests.health.prometheus_reader import read
from tests.health.receiver import SECRET, Receiver, receiving

BANNED = replace(PICTURE, machine=replace(PICTURE.machine, banned=True))
STOPPED = replace(PICTURE, chain=None)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow at once; how their distance grows is tested by itself."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "LAST_PAUSE", 0.02)


def made(url: str, folder: Path, clock: Callable[[], float] = lambda: float(NOW)) -> Webhook:
    return Webhook(Target(url, SECRET), Memory(folder / "webhook.json"), ACCOUNT, clock)


@asynccontextmanager
async def sending(url: str, folder: Path, *pictures: Picture) -> AsyncIterator[Webhook]:
    """A webhook at work, which has been told of these pictures."""
    webhook = made(url, folder)
    for picture in pictures:
        webhook.judged(reading(picture))
    worker = asyncio.create_task(webhook.run())
    try:
        yield webhook
    finally:
        worker.cancel()
        await asyncio.wait({worker})


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  (plain counters, which tell nobody)
            await asyncio.sleep(0.005)


async def test_verdict__changes__one_signed_message_for_each(tmp_path: Path) -> None:
    async with receiving() as receiver:
        pictures = (PICTURE, BANNED, BANNED, PICTURE)
        async with sending(receiver.url, tmp_path, *pictures):
            await receiver.until(taken=2)
    first, second = receiver.taken
    assert (first["type"], first["timestamp"]) == ("health.changed", "2026-09-21T14:13:20Z")
    assert first["data"]["healthy"] is False
    assert [fault["code"] for fault in first["data"]["faults"]] == ["machine-banned"]
    assert first["data"]["before"] == []
    assert (second["data"]["healthy"], second["data"]["before"]) == (True, ["machine-banned"])
    assert receiver.headers[0]["webhook-id"] != receiver.headers[1]["webhook-id"]
    assert receiver.headers[0]["webhook-timestamp"] == str(NOW)


async def test_incident__is_told_by_its_kind_alone(tmp_path: Path) -> None:
    async with receiving() as receiver, sending(receiver.url, tmp_path) as webhook:
        webhook.incident(Kind.STRAY, 3)
        await receiver.until(taken=1)
    assert receiver.taken[0]["type"] == "incident"
    assert receiver.taken[0]["data"] == {
        "account": to_checksum_address(ACCOUNT),
        "kind": "stray",
        "count": 3,
    }


@pytest.mark.parametrize("status", [500, 404, 302, 0])
async def test_receiver__fails_or_hangs__same_message_again_until_it_is_taken(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.3 if status == 0 else 10.0)
    answers = receiving(status, status, status)
    async with answers as receiver, sending(receiver.url, tmp_path, BANNED) as webhook:
        await receiver.until(tried=4, taken=1)
        await eventually(lambda: webhook.sent == 1)
    assert len({headers["webhook-id"] for headers in receiver.headers}) == 1
    assert webhook.failed >= 3
    told = [line for line in caplog.messages if "not delivered" in line]
    assert len(told) == 1, "an outage is told once"
    assert "t0ken" not in caplog.text


async def test_receiver__away__newest_change_comes_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MOST_TRIES", 3)
    async with receiving() as receiver:
        url, receiver.url = receiver.url, ""
    # Nobody listens there now.
    async with sending(url, tmp_path, STOPPED, BANNED) as webhook:
        webhook.incident(Kind.HARDWARE, 1)
        await eventually(lambda: webhook.dropped == 2)
        failed = webhook.failed
        await eventually(lambda: webhook.failed > failed + 5)
        assert len(webhook._queue) == 1, "only the newest verdict is never given up"
        async with listening_again(url) as receiver:
            await receiver.until(taken=1)
            assert [f["code"] for f in receiver.taken[0]["data"]["faults"]] == ["machine-banned"]
            await eventually(lambda: webhook.sent == 1)
    assert "t0ken" not in caplog.text


@asynccontextmanager
async def listening_again(url: str) -> AsyncIterator[Receiver]:

    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = int(url.split(":")[2].split("/")[0])
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    try:
        yield receiver
    finally:
        await runner.cleanup()


async def test_restart__change_that_was_not_delivered__is_told_by_the_next_daemon(
    tmp_path: Path,
) -> None:
    async with receiving() as receiver:
        async with sending(receiver.url, tmp_path, BANNED) as webhook:
            await eventually(lambda: webhook.sent == 1)
        async with sending(receiver.url, tmp_path, BANNED) as webhook:
            assert not webhook._queue, "the receiver knows that one"
        receiver.answers = [500] * 1_000
        async with sending(receiver.url, tmp_path, PICTURE) as webhook:
            await receiver.until(tried=3)
        receiver.answers = []
        async with sending(receiver.url, tmp_path, PICTURE):
            await receiver.until(taken=2)
    assert receiver.taken[1]["data"]["healthy"] is True


async def test_daemon_ends__what_is_on_its_way__still_goes_out(tmp_path: Path) -> None:
    async with receiving() as receiver, sending(receiver.url, tmp_path) as webhook:
        webhook.judged(reading(STOPPED))
        webhook.incident(Kind.ROOT, 1)
        await webhook.farewell()
        assert [each["type"] for each in receiver.taken] == ["health.changed", "incident"]


@pytest.mark.parametrize("answers", [(0,) * 50, (500,) * 50])
async def test_daemon_ends__receiver_hangs_or_fails__is_not_waited_for(
    answers: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FAREWELL_SECONDS", 0.2 if answers[0] == 0 else 3600.0)
    async with receiving(*answers) as receiver, sending(receiver.url, tmp_path, BANNED) as webhook:
        async with asyncio.timeout(60):
            await webhook.farewell()
        assert webhook._queue, "it is not lost: the next daemon tells it"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"delivered": 3}', b"[" * 4096])
def test_memory__damaged__counts_as_nothing_told(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "webhook.json"
    path.write_bytes(content)
    assert Memory(path).delivered() == ()


async def test_incidents__a_task_causes_many__one_at_once_and_the_rest_as_a_number(
    tmp_path: Path,
) -> None:
    now = [float(NOW)]
    webhook = made("http://127.0.0.1:9/", tmp_path, lambda: now[0])
    for count in range(1, 1_001):
        webhook.incident(Kind.PROXY, count)
    webhook.incident(Kind.ROOT, 1)  # another kind is not held up by them
    assert told(webhook) == [("proxy", 1), ("root", 1)]
    now[0] += module.PACE_SECONDS - 1
    webhook.judged(reading(PICTURE))
    assert len(webhook._queue) == 2
    now[0] += 1
    for _ in range(3):
        webhook.judged(reading(PICTURE))
    assert told(webhook) == [("proxy", 1), ("root", 1), ("proxy", 1_000)]


def told(webhook: Webhook) -> list[tuple[str, int]]:
    """The incidents that wait to be sent."""
    data = [json.loads(message.body)["data"] for message in webhook._queue]
    return [(each["kind"], each["count"]) for each in data]


async def test_notices__peers_come_and_go__are_told_at_a_pace_and_faults_at_once(
    tmp_path: Path,
) -> None:
    now = [float(NOW)]
    webhook = made("http://127.0.0.1:9/", tmp_path, lambda: now[0])
    alone = replace(PICTURE, peers=PeerPart(7, 7, 0))
    for number in range(100):
        webhook.judged(reading(PICTURE if number % 2 else alone))
        now[0] += module.PACE_SECONDS / 200
    assert len(webhook._queue) == 1, "others decide how often this changes"
    webhook.judged(reading(replace(BANNED, peers=alone.peers)))
    assert len(webhook._queue) == 2
    now[0] += module.PACE_SECONDS
    webhook.judged(reading(BANNED))
    assert [m.words for m in webhook._queue][2:] == [("machine-banned",)]


async def test_queue__flood_of_incidents__bounded_and_counted(tmp_path: Path) -> None:
    now = [float(NOW)]
    webhook = made("http://127.0.0.1:9/", tmp_path, lambda: now[0])
    webhook.judged(reading(BANNED))
    for count in range(module.MOST_WAITING * 3):
        now[0] += module.PACE_SECONDS
        webhook.incident(Kind.STRAY, count)
    assert len(webhook._queue) == module.MOST_WAITING
    assert any(message.words is not None for message in webhook._queue), "the verdict stays"
    families = read("".join(map(render, webhook.metrics())))
    assert families["sealrun_webhook_waiting"].samples == {(): module.MOST_WAITING}
    dropped = families["sealrun_webhook_requests_total"].samples[(("result", "dropped"),)]
    assert dropped == 2 * module.MOST_WAITING + 1


async def test_pause__grows_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 1.0)
    monkeypatch.setattr(module, "LAST_PAUSE", 300.0)
    webhook = made("http://127.0.0.1:9/", tmp_path)
    webhook.judged(reading(BANNED))

    async def refuse(*_: object) -> str:
        return "status 500"

    monkeypatch.setattr(webhook, "_post", refuse)
    pauses = [await webhook.send_next(None) for _ in range(14)]  # type: ignore[arg-type]
    assert pauses[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert set(pauses[10:]) == {300}


@asynccontextmanager
async def https_server(folder: Path) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A receiver with a certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    bodies: list[bytes] = []

    async def take(request: web.BaseRequest) -> web.Response:
        bodies.append(await request.read())
        return web.Response()

    server = web.Server(take)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}/", bodies
    finally:
        listening.close()
        await server.shutdown(0.1)


async def test_tls__certificate_nobody_vouches_for__gets_no_byte_of_a_message(
    tmp_path: Path,
) -> None:
    async with https_server(tmp_path) as (url, bodies):
        async with sending(url, tmp_path, BANNED) as webhook:
            await eventually(lambda: webhook.failed >= 2)
        assert webhook.sent == 0
        assert bodies == []


# ------------------------------------------------------------------------------------- the files


def files(folder: Path, url: str, secret: str, mode: int = 0o600) -> tuple[Path, Path]:
    paths = folder / "url", folder / "secret"
    for path, text in zip(paths, (url, secret), strict=True):
        path.write_text(text + "\n")
        path.chmod(mode)
    return paths


GOOD = "whsec_" + base64.b64encode(SECRET).decode()


@pytest.mark.parametrize("url", ["https://example.org/x", "http://127.0.0.1:1/", "http://[::1]/"])
@pytest.mark.parametrize("secret", [GOOD, GOOD.removeprefix("whsec_")])
def test_target__good_files__read(url: str, secret: str, tmp_path: Path) -> None:
    assert load_target(*files(tmp_path, url, secret)) == Target(url, SECRET)


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("http://example.org/", GOOD),
        ("http://localhost/", GOOD),
        ("http://127.0.0.1.example.org/", GOOD),
        ("ftp://127.0.0.1/", GOOD),
        ("example.org", GOOD),
        ("https://", GOOD),
        ("https://example.org:port/", GOOD),
        ("https://example.org/" + "x" * 2048, GOOD),
        ("https://example.org/ü", GOOD),
        ("https://example.org/", "whsec_" + base64.b64encode(b"x" * 23).decode()),
        ("https://example.org/", "whsec_" + base64.b64encode(b"x" * 65).decode()),
        ("https://example.org/", "whsec_!here!"),
        ("https://example.org/", ""),
    ],
)
def test_target__bad_file__refused_with_the_next_step_and_nothing_of_it(
    url: str, secret: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_target(*files(tmp_path, url, secret))
    assert "; " in str(refused.value)
    for part in ("example", secret.removeprefix("whsec_") or "whsec_"):
        assert part not in str(refused.value)


def test_target__files_that_others_may_read__refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="chmod 600"):
        load_target(*files(tmp_path, "https://example.org/", GOOD, 0o640))


def test_target__shown__tells_neither(tmp_path: Path) -> None:
    shown = repr(Target("https://example.org/t0ken", SECRET))
    assert "t0ken" not in shown
    assert repr(SECRET) not in shown


def test_target__missing_file__says_where_it_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"docs/operating\.md"):
        load_target(tmp_path / "none", tmp_path / "none")
