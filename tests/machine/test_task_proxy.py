"""The Pi's proxy: nothing but what the task defines, to nowhere but the internet, within bounds."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from agent.formats.stream import (
    Answer,
    Parts,
    Plain,
    read_answer,
    relay,
    write_target,
)
from nodeclient.core.incidents import Incident, Kind
from nodeclient.machine.addresses import Address, is_own, may_lead_to
from nodeclient.machine.jsonlines import JsonLines
from nodeclient.machine.proxy import MAX_ADDRESSES, MAX_STREAMS, ProxyRules, TaskProxy, resolve_name
from tests.machine.wire import Wire, ip

LOOPBACK = (ip_network("127.0.0.0/8"),)
NAME = "data.example"


class Server:
    """Sends back in capitals what it gets; remembers it."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole = b""
        while part := await reader.read(1000):
            whole += part
            writer.write(part.upper())
            await writer.drain()
        self.got.append(whole)
        writer.close()


class Bench:
    """A TaskProxy, a server on loopback, names that lead where a test wants."""

    def __init__(self, folder: Path, server: Server, rules: ProxyRules) -> None:
        self.server = server
        self.incidents: list[Incident] = []
        self.permitted = [f"{NAME}:{server.port}"]
        self.names: dict[str, list[str]] = {NAME: ["127.0.0.1"]}
        self.asked: list[str] = []
        self._file = folder / "proxy.jsonl"
        self.proxy = TaskProxy(
            rules,
            lambda: self.permitted,
            JsonLines(self._file),
            self.incidents.append,
            self.resolve,
        )
        self._listener: asyncio.Server | None = None

    async def resolve(self, host: str, _port: int) -> list[Address]:
        self.asked.append(host)
        return [ip_address(text) for text in self.names.get(host, [])]

    async def open(
        self, target: str = ""
    ) -> tuple[Answer, asyncio.StreamReader, asyncio.StreamWriter]:
        if self._listener is None:
            self._listener = await asyncio.start_server(self.proxy.accept, "127.0.0.1", 0)
        port = self._listener.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        write_target(writer, target or self.permitted[0])
        async with asyncio.timeout(60):
            return await read_answer(reader), reader, writer

    async def close(self) -> None:
        await self.proxy.close()
        if self._listener is not None:
            self._listener.close()

    def log(self) -> list[dict[str, object]]:
        if not self._file.exists():
            return []
        return [json.loads(line) for line in self._file.read_text().splitlines()]

    async def until(self, held: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not held():  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@asynccontextmanager
async def benched(folder: Path, rules: ProxyRules | None = None) -> AsyncIterator[Bench]:
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    bench = Bench(folder, server, rules or ProxyRules(LOOPBACK))
    try:
        yield bench
    finally:
        await bench.close()
        listener.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with benched(tmp_path) as bench:
        yield bench


async def test_stream__permitted__both_directions_end_by_themselves(bench: Bench) -> None:
    answer, reader, writer = await bench.open()
    assert answer is Answer.PERMITTED
    near = Parts(reader, writer)
    await near.write(b"abc")
    assert await near.read() == b"ABC"
    await near.write(b"d")
    await near.finish()
    assert [await near.read(), await near.read()] == [b"D", b""]
    await bench.until(lambda: bench.server.got == [b"abcd"])
    await bench.until(lambda: len(bench.log()) == 2)
    opened, closed = bench.log()
    assert (opened["event"], opened["connection"]) == ("opened", 1)
    assert (closed["event"], closed["sent"], closed["received"]) == ("closed", 4, 4)
    assert bench.incidents == []


@pytest.mark.parametrize(
    "target", ["{other}:{port}", "{name}:{above}", "127.0.0.1:{port}", "{name}:0{port}", "{name}"]
)
async def test_stream__not_the_task_s__refused_reported_and_its_words_written_nowhere(
    bench: Bench, target: str
) -> None:
    port = bench.server.port
    said = target.format(other="secret.example", name=NAME, port=port, above=port + 1)
    answer, _, _ = await bench.open(said)
    assert answer is Answer.REFUSED
    assert bench.asked == []  # nobody's name server heard of it either
    assert bench.log() == [{"time": bench.log()[0]["time"], "event": "refused"}]
    (incident,) = bench.incidents
    assert incident.kind is Kind.PROXY
    assert said not in incident.text


async def test_stream__task_is_over__refused(bench: Bench) -> None:
    assert (await bench.open())[0] is Answer.PERMITTED
    target = bench.permitted.pop()
    assert (await bench.open(target))[0] is Answer.REFUSED


NEAR = [
    *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("0.0.0.0", "255.255.255.255", "224.0.0.1", "239.1.1.1", "240.0.0.1", "192.0.2.1"),
    *("10.77.0.1", "10.77.0.2", "::1", "::", "fe80::1", "fc00::1", "fec0::1", "ff02::1"),
    *("::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "2001:0:a00:1::"),
    *("2001:db8::1", "::10.0.0.1", "100::1"),
]
FAR = ["1.1.1.1", "8.8.8.8", "198.41.0.4", "2606:4700::1111", "2001:500:2::c", "::ffff:1.1.1.1"]


@pytest.mark.parametrize("text", NEAR)
def test_address__not_of_the_internet__nobody_is_led_there(text: str) -> None:
    assert not may_lead_to(ip_address(text), ())


@pytest.mark.parametrize("text", FAR)
def test_address__of_the_internet__permitted(text: str) -> None:
    assert may_lead_to(ip_address(text), ())


def test_address__operator_permits_a_network__that_and_not_the_cable() -> None:
    networks = (ip_network("10.0.0.0/8"), ip_network("fc00::/7"))
    assert may_lead_to(ip_address("10.1.2.3"), networks)
    assert may_lead_to(ip_address("::ffff:10.1.2.3"), networks)
    assert may_lead_to(ip_address("fc00::1"), networks)
    assert not may_lead_to(ip_address("10.77.0.2"), networks)
    assert not may_lead_to(ip_address("192.168.0.1"), networks)


@pytest.mark.parametrize("addresses", [[text] for text in NEAR] + [["1.1.1.1", "10.0.0.1"]])
async def test_stream__name_leads_somewhere_near__refused_and_reported(
    tmp_path: Path, addresses: list[str]
) -> None:
    """One bad address among good ones is enough: the next try could go to it."""
    async with benched(tmp_path, ProxyRules()) as bench:
        bench.names[NAME] = addresses
        assert (await bench.open())[0] is Answer.REFUSED
        assert [each.kind for each in bench.incidents] == [Kind.PROXY]
        assert NAME not in bench.incidents[0].text


async def test_stream__name_that_changes_its_mind__dialled_where_it_was_judged(
    bench: Bench,
) -> None:
    """DNS rebinding: the second answer would be the cable."""
    answers = iter([["127.0.0.1"], ["10.77.0.2"]])

    async def resolve(_host: str, _port: int) -> list[Address]:
        return [ip_address(text) for text in next(answers)]

    bench.proxy._resolve = resolve
    answer, reader, writer = await bench.open()
    assert answer is Answer.PERMITTED
    near = Parts(reader, writer)
    await near.write(b"x")
    assert await near.read() == b"X"
    assert NAME not in str(bench.log())  # whom a task reaches stands in clear in no file
    assert "127.0.0.1" not in str(bench.log())


@pytest.mark.parametrize(
    ("addresses", "answer"),
    [
        ([], Answer.UNREACHABLE),
        (["127.0.0.9"], Answer.UNREACHABLE),
        ([f"127.0.1.{n}" for n in range(MAX_ADDRESSES + 1)], Answer.REFUSED),
    ],
)
async def test_stream__nobody_there_or_too_many(
    bench: Bench, addresses: list[str], answer: Answer
) -> None:
    bench.names[NAME] = addresses
    bench.permitted = [f"{NAME}:1"]
    assert (await bench.open())[0] is answer


async def test_stream__the_pi_s_own_global_address__refused(wire: Wire, tmp_path: Path) -> None:
    """The control is the neighbour's address of the same network."""
    ip("-n", wire.pi, "address", "add", "9.9.9.1/24", "dev", "cable")
    ip("-n", wire.pi, "link", "set", "cable", "up")
    wire.address("9.9.9.2/24")
    assert may_lead_to(ip_address("9.9.9.1"), ())
    assert is_own(ip_address("9.9.9.1"))
    assert not is_own(ip_address("9.9.9.2"))
    server = Server()
    with wire.at_pc():
        beyond = await asyncio.start_server(server.serve, "9.9.9.2", 7001)
    here = await asyncio.start_server(server.serve, "9.9.9.1", 7001)
    async with benched(tmp_path, ProxyRules()) as bench:
        bench.permitted = [f"{NAME}:7001"]
        bench.names[NAME] = ["9.9.9.2"]
        assert (await bench.open())[0] is Answer.PERMITTED
        bench.names[NAME] = ["9.9.9.1"]
        assert (await bench.open())[0] is Answer.REFUSED
    beyond.close()
    here.close()


def test_address__of_a_neighbour_with_global_ipv6__is_as_near_as_its_own(wire: Wire) -> None:
    """The control is a host of another network behind the same interface."""
    ip("-n", wire.pi, "address", "add", "2606:9:9:9::1/64", "dev", "cable", "nodad")
    ip("-n", wire.pi, "link", "set", "cable", "up")
    ip("-n", wire.pi, "-6", "route", "add", "2606:9:9:8::/64", "dev", "cable")
    assert may_lead_to(ip_address("2606:9:9:9::2"), ())
    assert is_own(ip_address("2606:9:9:9::1"))
    assert is_own(ip_address("2606:9:9:9::2"))
    assert not is_own(ip_address("2606:9:9:8::2"))


async def test_resolve__name_server_that_never_answers__holds_up_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A function may dial a permitted name as often as it likes, and its owner may be silent."""
    over = threading.Event()

    def silent(*_: object, **__: object) -> list[object]:
        over.wait(60)
        return []

    monkeypatch.setattr("socket.getaddrinfo", silent)
    asking = [asyncio.create_task(resolve_name("slow.example", 1)) for _ in range(64)]
    await asyncio.sleep(0.05)
    try:
        async with asyncio.timeout(30):
            assert await asyncio.to_thread(lambda: 1) == 1
    finally:
        over.set()
        await asyncio.gather(*asking)


async def test_accept__far_too_many_that_say_nothing__cut_off(bench: Bench) -> None:
    await bench.open("nobody:1")  # listens from now on
    assert bench._listener is not None
    port = bench._listener.sockets[0].getsockname()[1]
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3 * MAX_STREAMS)]
    async with asyncio.timeout(8):  # before the wait for a target is over
        assert await silent[-1][0].read() == b""
    assert len(bench.proxy._workers) <= 2 * MAX_STREAMS
    for _, writer in silent:
        writer.close()


async def test_stream__more_than_its_bytes__cut_and_nothing_more(tmp_path: Path) -> None:
    async with benched(tmp_path, ProxyRules(LOOPBACK, most_bytes=10)) as bench:
        _, reader, writer = await bench.open()
        near = Parts(reader, writer)
        await near.write(b"abcde")
        assert await near.read() == b"ABCDE"
        await near.write(b"f")
        with pytest.raises(asyncio.IncompleteReadError):
            await near.read()
        await bench.until(lambda: bench.log()[-1]["event"] == "spent")
        assert bench.server.got == [b"abcde"]
        assert (await bench.open())[0] is Answer.SPENT
        bench.proxy.begin()  # the next boot's task
        assert (await bench.open())[0] is Answer.PERMITTED


async def test_stream__nothing_moves__cut(tmp_path: Path) -> None:
    async with benched(tmp_path, ProxyRules(LOOPBACK, idle_seconds=0.2)) as bench:
        _, reader, _ = await bench.open()
        assert await reader.read() == b""
        await bench.until(lambda: bench.log()[-1]["event"] == "idle")


async def test_stream__more_at_once_than_permitted__busy(bench: Bench) -> None:
    held = [await bench.open() for _ in range(MAX_STREAMS)]
    assert {answer for answer, _, _ in held} == {Answer.PERMITTED}
    assert (await bench.open())[0] is Answer.BUSY


async def test_close__streams_that_are_open__ended(bench: Bench) -> None:
    _, reader, _ = await bench.open()
    await bench.close()
    assert await reader.read() == b""
    assert bench.log()[-1]["event"] == "cut"


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\xff\xff", b"\0\2\xff\xff", b"\0\2a\n"])
async def test_stream__no_target__closed(bench: Bench, sent: bytes) -> None:
    await bench.open("nobody:1")  # listens from now on
    assert bench._listener is not None
    port = bench._listener.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    writer.write_eof()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await read_answer(reader)
    assert bench.asked == []


async def test_stream__nested_request__bytes_for_the_permitted_host_and_no_order_to_the_pi(
    bench: Bench,
) -> None:
    """A tunnel in the tunnel: what the host does with it is the host's own business."""
    _, reader, writer = await bench.open()
    near = Parts(reader, writer)
    inner = b"CONNECT secret.example:443 HTTP/1.1\r\n\r\n"
    await near.write(inner)
    assert await near.read() == inner.upper()
    assert bench.asked == [NAME]


async def test_relay__one_direction_only__is_not_idle(tmp_path: Path) -> None:
    """A long download during which the function says nothing."""

    class Source:
        def __init__(self, *parts: bytes) -> None:
            self.parts, self.got, self.ended = list(parts), b"", asyncio.Event()

        async def read(self) -> bytes:
            if self.parts:
                await asyncio.sleep(0.05)
                return self.parts.pop()
            await self.other.ended.wait() if self.waits else None
            return b""

        waits = False
        other: Source

        async def write(self, part: bytes) -> None:
            self.got += part

        async def finish(self) -> None:
            self.ended.set()

    near, far = Source(), Source(*[b"x"] * 20)
    near.waits, near.other = True, near
    moved: list[tuple[int, int]] = []
    await relay(near, far, lambda *both: moved.append(both), idle=0.5)
    assert near.got == b"x" * 20
    assert moved == [(0, 1)] * 20
    stuck = Source()
    stuck.waits, stuck.other = True, stuck
    other = Source()
    other.waits, other.other = True, other
    with pytest.raises(TimeoutError):
        await relay(stuck, other, lambda *both: None, idle=0.1)


async def test_plain__peer_closed_both_directions__finish_is_quiet() -> None:
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()
        done.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await done.wait()
    await asyncio.sleep(0)
    await Plain(reader, writer).finish()
    writer.close()
    server.close()
