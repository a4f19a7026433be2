"""The Prometheus endpoint on a real socket, and its bounds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

from nodeclient.errors import ConfigError
from nodeclient.health import endpoint as module
from nodeclient.health.endpoint import Endpoint
from nodeclient.health.exposition import CONTENT_TYPE


async def page() -> str:
    return "sealrun_healthy 1\n"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    endpoint = Endpoint(page)
    yield await endpoint.start("127.0.0.1", 0)
    await endpoint.close()


async def ask(port: int, path: str = "/metrics", method: str = "GET") -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{port}{path}") as answer,
    ):
        return answer.status, answer.headers.get("Content-Type", ""), await answer.text()


async def test_metrics__asked_for__served_in_prometheus_own_type(port: int) -> None:
    assert await ask(port) == (200, CONTENT_TYPE, "sealrun_healthy 1\n")


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/", "GET", 404), ("/metrics/x", "GET", 404), ("/v1/health", "GET", 404),
     ("/metrics", "POST", 405), ("/metrics", "DELETE", 405)],
)  # fmt: skip
async def test_anything_else__refused(port: int, path: str, method: str, status: int) -> None:
    code, _, text = await ask(port, path, method)
    assert code == status
    assert "sealrun_" not in text


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is closed for being old."""
    monkeypatch.setattr(module, "LIFETIME", 3600.0)
    monkeypatch.setattr(module, "IDLE", 3600.0)


async def test_crowd__more_connections_than_there_are_places__closed_at_once(
    patient: None, port: int
) -> None:
    kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(module.CONNECTIONS)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read(1) == b""
    for _, each in (*kept, (reader, writer)):
        each.close()
    async with asyncio.timeout(60):  # their places are free again
        while True:
            try:
                assert (await ask(port))[0] == 200
                break
            except aiohttp.ClientError:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("bound", ["LIFETIME", "IDLE"])
async def test_connection__asks_for_nothing__ended(
    bound: str, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, bound, 0.05)
    endpoint = Endpoint(page)
    port = await endpoint.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost:")  # and never the rest
    async with asyncio.timeout(60):
        while await reader.read(1000):
            pass
    writer.close()
    await endpoint.close()


async def test_port__there_is_no_such__one_line_with_the_next_step() -> None:
    with pytest.raises(ConfigError, match=r"no such port.*health\.listen"):
        await Endpoint(page).start("127.0.0.1", 99_999)


async def test_port__taken__one_line_with_the_next_step(port: int) -> None:
    with pytest.raises(ConfigError, match=r"health\.listen"):
        await Endpoint(page).start("127.0.0.1", port)
