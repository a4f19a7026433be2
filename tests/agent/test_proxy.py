"""The allow-list proxy: what the task names goes through, all else is refused and counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from agent.formats.messages import DURING
from agent.formats.outcome import Ending
from agent.proxy import MAX_CONNECTIONS, MAX_HEAD, Ends, Proxy
from nodeclient.core.incidents import Incident, Kind
from nodeclient.machine.jsonlines import JsonLines
from nodeclient.machine.proxy import ProxyRules, TaskProxy
from tests.machine.support import Pi

LOOPBACK = ProxyRules((ip_network("127.0.0.0/8"),))
CLIENT = r"""
import os, socket
def connect(target):
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.environ["SEALRUN_PROXY"])
    s.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head: head += s.recv(1)
    return s, int(head.split()[1])
permitted, code = connect("TARGET")
permitted.sendall(b"hello")
answer = permitted.recv(100)
_, refused = connect("OTHER")
open("/capsule/out/first/f", "w").write(f"{code} {answer.decode()} {refused}")
"""


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """A server on loopback that sends back what it gets in capitals; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(1000):
            writer.write(part.upper())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


class Wire:
    """Streams between a Proxy and a Pi's TaskProxy, without TLS; what either said."""

    def __init__(self, folder: Path, *permitted: str, rules: ProxyRules = LOOPBACK) -> None:
        self.folder = folder
        self.incidents: list[Incident] = []
        self.told: list[int] = []
        log = JsonLines(folder / "proxy.jsonl")
        self.pi = TaskProxy(rules, lambda: permitted, log, self.incidents.append)
        self.server: asyncio.Server | None = None

    async def dial(self) -> Ends:
        if self.server is None:
            self.server = await asyncio.start_server(self.pi.accept, "127.0.0.1", 0)
        return await asyncio.open_connection("127.0.0.1", self.server.sockets[0].getsockname()[1])

    async def tell(self, count: int) -> None:
        self.told.append(count)

    def proxy(self, *allowed: str) -> Proxy:
        return Proxy(self.folder / "proxy.sock", allowed, self.dial, self.tell)

    async def close(self) -> None:
        await self.pi.close()
        if self.server is not None:
            self.server.close()

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.folder / "proxy.jsonl").open()]


@pytest.fixture
async def wire(tmp_path: Path, echo: int) -> AsyncIterator[Wire]:
    wire = Wire(tmp_path, f"127.0.0.1:{echo}")
    yield wire
    await wire.close()


@pytest.fixture
async def proxy(wire: Wire, tmp_path: Path, echo: int) -> AsyncIterator[Proxy]:
    proxy = wire.proxy(f"127.0.0.1:{echo}")
    await proxy.start()
    yield proxy
    await proxy.stop()
    assert not (tmp_path / "proxy.sock").exists()


async def request(tmp_path: Path, head: bytes) -> tuple[int, asyncio.StreamReader]:
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "proxy.sock"))
    writer.write(head)
    await writer.drain()
    line = await reader.readuntil(b"\r\n")
    request.kept = writer  # type: ignore[attr-defined]
    return int(line.split()[1]), reader


async def test_connect__permitted_target__relays_both_ways(
    tmp_path: Path, proxy: Proxy, echo: int
) -> None:
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "proxy.sock"))
    writer.write(f"CONNECT 127.0.0.1:{echo} HTTP/1.1\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.write(b"abc")
    assert await reader.readexactly(3) == b"ABC"
    writer.write_eof()
    assert await reader.read() == b""
    assert proxy.counts["permitted"] == 1


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:{other}",
        "127.0.0.2:{port}",
        "localhost:{port}",
        "127.0.0.1:0{port}",
        "127.0.0.1:{port} ",
        "127.0.0.1:{port}@evil",
        "0x7f000001:{port}",
        "127.1:{port}",
    ],
)
async def test_connect__any_other_spelling__refused(
    tmp_path: Path, proxy: Proxy, echo: int, target: str
) -> None:
    asked = target.format(port=echo, other=echo - 1)
    code, _ = await request(tmp_path, f"CONNECT {asked} HTTP/1.1\r\n\r\n".encode())
    assert code in (400, 403)
    assert proxy.counts["permitted"] == 0
    assert proxy.counts["refused"] + proxy.counts["malformed"] == 1


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://127.0.0.1/ HTTP/1.1\r\n\r\n",
        b"CONNECT\r\n\r\n",
        b"connect 127.0.0.1:1 HTTP/1.1\r\n\r\n",
        b"\r\n\r\n",
        b"CONNECT x HTTP/1.1\r\n" + b"a" * (MAX_HEAD * 2),
    ],
)
async def test_connect__malformed_request__refused(
    tmp_path: Path, proxy: Proxy, head: bytes
) -> None:
    code, _ = await request(tmp_path, head)
    assert (code, proxy.counts["malformed"]) == (400, 1)


async def test_connect__more_than_the_bound__busy(tmp_path: Path, proxy: Proxy, echo: int) -> None:
    open_ones = [
        await asyncio.open_unix_connection(str(tmp_path / "proxy.sock"))
        for _ in range(MAX_CONNECTIONS)
    ]
    code, _ = await request(tmp_path, f"CONNECT 127.0.0.1:{echo} HTTP/1.1\r\n\r\n".encode())
    assert (code, proxy.counts["busy"]) == (503, 1)
    for _, writer in open_ones:
        writer.close()


async def test_connect__permitted_host_is_down__unreachable(tmp_path: Path) -> None:
    wire = Wire(tmp_path, "127.0.0.1:1")
    proxy = wire.proxy("127.0.0.1:1")
    await proxy.start()
    code, _ = await request(tmp_path, b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n")
    assert (code, proxy.counts["unreachable"]) == (502, 1)
    await proxy.stop()
    await wire.close()


async def test_connect__pi_is_gone__unreachable(tmp_path: Path) -> None:
    async def dial() -> Ends:
        raise ConnectionRefusedError

    proxy = Proxy(tmp_path / "proxy.sock", ("127.0.0.1:1",), dial, Wire(tmp_path).tell)
    await proxy.start()
    code, _ = await request(tmp_path, b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n")
    assert (code, proxy.counts["unreachable"]) == (502, 1)
    await proxy.stop()


async def test_connect__refused_by_the_agent__pi_hears_how_many_and_not_what(
    tmp_path: Path, wire: Wire, proxy: Proxy
) -> None:
    for _ in range(3):
        await request(tmp_path, b"CONNECT secret.example:1 HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(30):
        while not wire.told:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert proxy.counts["refused"] == 3
    assert 1 <= wire.told[0] <= 3
    assert wire.server is None  # the target never left the Machine


async def test_connect__bytes_before_the_answer__reach_the_permitted_host_alone(
    tmp_path: Path, wire: Wire, proxy: Proxy, echo: int
) -> None:
    """Pipelined: a second request behind the first is no request any more."""
    allowed = f"CONNECT 127.0.0.1:{echo} HTTP/1.1\r\n\r\n".encode()
    other = b"CONNECT secret.example:443 HTTP/1.1\r\n\r\n"
    code, reader = await request(tmp_path, allowed + other)
    assert code == 200
    await reader.readuntil(b"\r\n")
    assert await reader.readexactly(len(other)) == other.upper()
    code, reader = await request(tmp_path, other + allowed)
    assert code == 403
    assert b"200" not in await reader.read()  # closed behind the refusal
    assert (proxy.counts["permitted"], proxy.counts["refused"]) == (1, 1)
    assert [line["event"] for line in wire.lines()] == ["opened"]


async def test_run__task_defines_a_connection__that_and_no_other(pi: Pi, echo: int) -> None:
    target, other = f"127.0.0.1:{echo}", f"127.0.0.1:{echo + 1}"
    code = CLIENT.replace("TARGET", target).replace("OTHER", other)
    job = pi.job(code, connections=(target,))
    outcome = await pi.run(job)
    assert (outcome.status, outcome.exit_code) == (Ending.RAN, 0)
    assert pi.open_result(job, "first", outcome.results["first"]) == {"f": b"200 HELLO 403"}
    network = (await pi.ask(job, DURING)).claim("network")
    assert isinstance(network, dict)
    assert network["policy"] == [target]
    assert (network["counts"]["permitted"], network["counts"]["refused"]) == (1, 1)
    assert (network["counts"]["sent_bytes"], network["counts"]["received_bytes"]) == (5, 5)
    assert str(echo + 1) not in repr(network)
    assert [each.kind for each in pi.incidents] == [Kind.PROXY]
    async with asyncio.timeout(30):
        while len(log := (pi.folder / "proxy.jsonl").read_text().splitlines()) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    opened, ended = map(json.loads, log)
    assert (opened["event"], ended["event"]) == ("opened", "closed")
    assert (opened["connection"], ended["connection"]) == (1, 1)
    assert (ended["sent"], ended["received"]) == (5, 5)
    assert str(echo) not in "".join(log), "whom a task reaches stands on no disk of the Pi"
