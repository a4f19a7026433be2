"""The RPC's HTTP: each way not to answer is one kind of error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from nodeclient.chain.errors import ChainUnavailable, RpcRefused
from nodeclient.chain.rpc import Rpc

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def endpoint(answer: Answer) -> AsyncIterator[Rpc]:
    """An endpoint of our own, and a client of it."""
    server = web.Server(answer)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    rpc = Rpc(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", timeout=60.0)
    try:
        yield rpc
    finally:
        await rpc.close()
        listening.close()
        await server.shutdown(0.1)


def saying(body: bytes, status: int = 200) -> Answer:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body, status=status)

    return answer


async def test_request__what_is_asked__is_one_json_rpc_call() -> None:
    asked: list[object] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(body := await request.json())
        return web.json_response({"jsonrpc": "2.0", "id": body["id"], "result": "0x7"})

    async with endpoint(answer) as rpc:
        assert await rpc.request("eth_call", [{"to": "0x00"}, "latest"]) == "0x7"
        assert await rpc.chain_id() == 7
    assert asked == [
        {"jsonrpc": "2.0", "id": 0, "method": "eth_call", "params": [{"to": "0x00"}, "latest"]},
        {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []},
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 200),
        (b"<html>", 200),
        (b"\xff", 200),
        (b"[]", 200),
        (b"{}", 200),
        (b'{"result": "0x1"}', 500),
        (b'{"result": "0x1"}', 429),
    ],
)
async def test_request__no_answer_in_form__chain_is_unavailable(body: bytes, status: int) -> None:
    async with endpoint(saying(body, status)) as rpc:
        with pytest.raises(ChainUnavailable, match=r"eth_chainId.*; check"):
            await rpc.chain_id()


@pytest.mark.parametrize("error", ["no", 7, [], {"code": "x", "message": ["long"] * 9, "data": 7}])
async def test_request__error_of_any_shape__is_a_refusal(error: object) -> None:
    async with endpoint(saying(json.dumps({"error": error}).encode())) as rpc:
        with pytest.raises(RpcRefused):
            await rpc.request("eth_call")


def test_request__in_another_event_loop__is_another_session() -> None:
    """Scripts ask with one client from several `asyncio.run`."""
    rpc = Rpc("http://127.0.0.1:9", timeout=60.0)

    async def ask() -> None:
        with pytest.raises(ChainUnavailable, match="ClientConnectorError"):
            await rpc.chain_id()
        await rpc.close()

    asyncio.run(ask())
    asyncio.run(ask())
