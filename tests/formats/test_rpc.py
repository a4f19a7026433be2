"""Calls over one stream: both directions, bounds, failures and the end of the channel."""

import asyncio
import contextlib
import socket

import pytest

from agent.formats.cbor import FormatError
from agent.formats.protocol import Frame, FrameKind, read_frame, write_frame
from agent.formats.rpc import RpcClosed, RpcConnection, RpcError, RpcTimeout

SECONDS = 60.0


async def streams():
    """Two connected ends: ((reader, writer), (reader, writer))."""
    left, right = socket.socketpair()
    return await asyncio.open_connection(sock=left), await asyncio.open_connection(sock=right)


@contextlib.asynccontextmanager
async def pair(serve_left, serve_right, **bounds):
    (left, right) = await streams()
    connections = [
        RpcConnection(*left, serve_left, **bounds).start(),
        RpcConnection(*right, serve_right, **bounds).start(),
    ]
    try:
        yield connections
    finally:
        for connection in connections:
            await connection.close()


async def echo(method, body):
    return [method, body]


async def test_call__both_ends_at_once__each_gets_its_own_answers():
    async with pair(echo, echo) as (left, right):
        calls = [end.call(f"m{i}", i, SECONDS) for i in range(6) for end in (left, right)]
        assert await asyncio.gather(*calls) == [[f"m{i}", i] for i in range(6) for _ in "lr"]


async def test_call__from_within_a_handler__reaches_back():
    ends = []

    async def forward(method, body):
        return await ends[1].call("inner", body, SECONDS)

    async with pair(echo, forward) as pair_:
        ends.extend(pair_)
        assert await ends[0].call("outer", 5, SECONDS) == ["inner", 5]


async def test_call__answers_out_of_order__go_to_their_callers():
    gate = asyncio.Event()

    async def serve(method, body):
        if method == "slow":
            await gate.wait()
        return method

    async with pair(echo, serve) as (left, _):
        slow = asyncio.create_task(left.call("slow", None, SECONDS))
        assert await left.call("quick", None, SECONDS) == "quick"
        gate.set()
        assert await slow == "slow"


async def test_call__handler_that_refuses__raises_its_code():
    async def serve(method, body):
        raise RpcError("denied", "line\nbreak")

    async with pair(echo, serve) as (left, _):
        with pytest.raises(RpcError) as caught:
            await left.call("m", None, SECONDS)
        assert (caught.value.code, caught.value.message) == ("denied", "line break")


async def test_call__handler_that_fails__tells_nothing_of_the_cause():
    async def serve(method, body):
        raise RuntimeError("canary-secret")

    async with pair(echo, serve) as (left, _):
        with pytest.raises(RpcError) as caught:
            await left.call("m", None, SECONDS)
        assert caught.value.code == "internal"
        assert "canary" not in str(caught.value)
        with pytest.raises(RpcError):
            await left.call("m", None, SECONDS)  # the channel lives on


async def test_call__answer_that_cannot_be_encoded__is_an_error_and_not_a_silence():
    async def serve(method, body):
        return 1.5

    async with pair(echo, serve) as (left, _):
        with pytest.raises(RpcError, match="bad_request"):
            await left.call("m", None, SECONDS)
        with pytest.raises(FormatError):
            await left.call("m", {1.5}, SECONDS)


async def test_call__no_handler_given__is_refused():
    (left, right) = await streams()
    server, client = RpcConnection(*left).start(), RpcConnection(*right).start()
    with pytest.raises(RpcError, match="unknown_method"):
        await client.call("m", None, SECONDS)
    await client.close()
    await server.close()


async def test_call__silent_other_side__times_out_and_a_late_answer_harms_nothing():
    gate, answered = asyncio.Event(), asyncio.Event()

    async def serve(method, body):
        if method == "slow":
            await gate.wait()
            answered.set()
        return method

    async with pair(echo, serve) as (left, _):
        with pytest.raises(RpcTimeout):
            await left.call("slow", None, 0.05)
        gate.set()
        await asyncio.wait_for(answered.wait(), SECONDS)
        assert await left.call("quick", None, SECONDS) == "quick"


async def test_serve__more_requests_than_the_bound__busy_and_never_more_at_once():
    running, most = 0, 0
    gate = asyncio.Event()

    async def serve(method, body):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1

    async with pair(echo, serve, max_requests=3) as (left, _):
        calls = [asyncio.create_task(left.call("m", i, SECONDS)) for i in range(8)]
        async with asyncio.timeout(SECONDS):
            while sum(call.done() for call in calls) < 5:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        gate.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert most == 3
        busy = [r for r in results if isinstance(r, RpcError)]
        assert {error.code for error in busy} == {"busy"}
        assert len(busy) == 5


async def test_serve__flood_whose_answers_are_never_read__loses_the_channel():
    (left, right) = await streams()

    async def serve(method, body):
        await asyncio.sleep(60)

    server = RpcConnection(*left, serve, max_requests=2).start()
    for number in range(100):
        write_frame(right[1], Frame(number, FrameKind.REQUEST, "m", bytes(1000)))
    await asyncio.wait_for(server.closed.wait(), SECONDS)
    right[1].close()


async def test_serve__bad_frame__closes_the_channel():
    (left, right) = await streams()
    server = RpcConnection(*left, echo).start()
    right[1].write(b"\x00\x00\x00\x01\xff")
    await asyncio.wait_for(server.closed.wait(), SECONDS)
    assert await right[0].read() == b""
    right[1].close()


async def test_serve__answer_to_nobody__is_ignored():
    (left, right) = await streams()
    server = RpcConnection(*left, echo).start()
    write_frame(right[1], Frame(99, FrameKind.OK, None, "unasked"))
    write_frame(right[1], Frame(1, FrameKind.REQUEST, "m", 1))
    assert (await read_frame(right[0])).body == ["m", 1]
    await server.close()
    right[1].close()


async def test_close__open_calls_and_handlers__end_at_once():
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def serve(method, body):
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with pair(echo, serve) as (left, right):
        call = asyncio.create_task(left.call("m", None, SECONDS))
        await asyncio.wait_for(begun.wait(), SECONDS)
        await right.close()
        with pytest.raises(RpcClosed):
            await call
        assert cancelled.is_set()
        with pytest.raises(RpcClosed):
            await left.call("m", None, SECONDS)
        await left.close()
        await left.close()
        assert left.closed.is_set()
