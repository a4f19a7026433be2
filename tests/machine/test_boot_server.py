"""The boot server: what it serves and how often, with which rights, and that it goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from agent.formats.bootimage import EFI, ROOT
from agent.formats.cbor import FormatError
from agent.formats.netboot import EFI_PATH, HTTP_PORT, PARAMETERS_PATH, PI_ADDRESS, ROOT_PATH
from nodeclient.errors import MachineError
from nodeclient.machine.netboot import firewall
from nodeclient.machine.netboot.dhcp import NOBODY, dnsmasq_config
from nodeclient.machine.netboot.firewall import Phase
from nodeclient.machine.netboot.order import LENGTH, BootOrder, Event
from nodeclient.machine.netboot.server import BootServer, default_command
from tests.machine.boots import CABLE, make_image
from tests.machine.wire import Wire

SERVED = {("tcp", HTTP_PORT), ("udp", 67)}


@pytest.fixture
def order(tmp_path: Path) -> BootOrder:
    image = make_image(tmp_path)
    return BootOrder(CABLE, tmp_path / image.hex(), image, secrets.token_bytes(200))


@pytest.fixture
async def server(wire: Wire, order: BootOrder) -> AsyncIterator[BootServer]:
    await firewall.apply(CABLE, Phase.BOOTING)
    await CABLE.attach()
    wire.address("10.77.0.2/24")
    server = BootServer(default_command())
    await server.start(order)
    yield server
    await server.stop()
    assert wire.listening() == set()


def ask(wire: Wire, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    with wire.at_pc():
        connection = HTTPConnection(PI_ADDRESS, HTTP_PORT, timeout=20)
        connection.connect()
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


async def ask_often(wire: Wire, *paths: str) -> list[int]:
    return [(await asyncio.to_thread(ask, wire, path))[0] for path in paths]


async def test_server__files__whole_and_with_their_length(
    wire: Wire, server: BootServer, order: BootOrder
) -> None:
    for path, name in ((EFI_PATH, EFI), (ROOT_PATH, ROOT)):
        content = (order.folder / name).read_bytes()
        status, headers, body = await asyncio.to_thread(ask, wire, path)
        assert (status, body) == (200, content)
        assert headers["Content-Length"] == str(len(content))
        status, headers, body = await asyncio.to_thread(ask, wire, path, "HEAD")
        assert (status, headers["Content-Length"], body) == (200, str(len(content)), b"")
    await until(lambda: Event.ROOT in server.served)
    assert server.served == [Event.READY, Event.EFI, Event.ROOT]


async def test_server__parameters__once(wire: Wire, server: BootServer, order: BootOrder) -> None:
    assert (await asyncio.to_thread(ask, wire, PARAMETERS_PATH, "HEAD"))[0] == 405
    status, headers, body = await asyncio.to_thread(ask, wire, PARAMETERS_PATH)
    assert (status, body, headers["Cache-Control"]) == (200, order.parameters, "no-store")
    assert "Date" in headers  # the Machine's clock until the channel stands
    assert server.finding is None
    status, _, body = await asyncio.to_thread(ask, wire, PARAMETERS_PATH)
    assert (status, body) == (403, b"")
    await until(lambda: server.finding is not None)
    assert "two machines share the cable" in str(server.finding)


@pytest.mark.parametrize(
    "path", ["/", "/manifest.cbor", "/../etc/passwd", "/boot.efi/", "//boot.efi", "/parameters%00"]
)
async def test_server__any_other_path__not_found(wire: Wire, server: BootServer, path: str) -> None:
    assert await ask_often(wire, path) == [404]


async def test_server__file_replaced_while_it_serves__the_measured_one_goes_out(
    wire: Wire, server: BootServer, order: BootOrder
) -> None:
    content = (order.folder / EFI).read_bytes()
    (order.folder / EFI).unlink()
    (order.folder / EFI).write_bytes(b"other")
    assert (await asyncio.to_thread(ask, wire, EFI_PATH))[2] == content


async def test_server__its_rights__nobody_without_capabilities(
    wire: Wire, server: BootServer
) -> None:
    """dnsmasq keeps what it needs to answer a host without an address; the rest keeps nothing."""
    assert wire.listening() == SERVED
    found = {status["Name"]: status for status in processes(server)}
    assert set(found) == {"python3", "dnsmasq"} or set(found) == {"python", "dnsmasq"}
    needed = 1 << 10 | 1 << 12 | 1 << 13  # NET_BIND_SERVICE, NET_ADMIN, NET_RAW
    for name, status in found.items():
        assert status["Uid"].split() == [str(NOBODY)] * 4
        assert status["Groups"] == ""
        assert status["NoNewPrivs"] == "1"
        allowed = needed if name == "dnsmasq" else 0
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == allowed


async def test_server__secrets__in_no_argument_environment_or_file(
    wire: Wire, server: BootServer, order: BootOrder, tmp_path: Path
) -> None:
    seen = contents(tmp_path)
    for status in processes(server):
        process = Path("/proc") / status["Pid"]
        seen += (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    assert len(seen) > 2_000_000
    assert order.parameters not in seen
    assert order.parameters[:16].hex().encode() not in seen


async def test_server__killed__dnsmasq_goes_with_it_and_the_boot_knows(
    wire: Wire, server: BootServer
) -> None:
    pid = next(int(each["Pid"]) for each in processes(server) if each["Name"].startswith("python"))
    os.kill(pid, signal.SIGKILL)
    await until(lambda: wire.listening() == set())
    await until(lambda: server.finding is not None)
    assert server.finding == "the boot server ended in the middle of a boot"


async def test_server__dnsmasq_ends__the_boot_knows(wire: Wire, server: BootServer) -> None:
    pid = next(int(each["Pid"]) for each in processes(server) if each["Name"] == "dnsmasq")
    os.kill(pid, signal.SIGKILL)
    await until(lambda: server.finding is not None)
    assert server.finding == "dnsmasq ended in the middle of a boot; boot again"


async def test_start__daemon_dies__server_ends(wire: Wire, server: BootServer) -> None:
    """Its standard input is the daemon: when that is gone, nothing serves any more."""
    assert server._process is not None
    assert server._process.stdin is not None
    server._process.stdin.close()
    await until(lambda: wire.listening() == set())


async def test_start__port_taken__one_line(wire: Wire, order: BootOrder) -> None:
    await CABLE.attach()
    taken = socket.create_server((PI_ADDRESS, HTTP_PORT))
    with taken, pytest.raises(MachineError, match="port 80 of cable cannot be served"):
        await BootServer(default_command()).start(order)


async def test_start__command_that_is_none__one_line(wire: Wire, order: BootOrder) -> None:
    with pytest.raises(MachineError, match=r"correct machine\.boot_server"):
        await BootServer(("/nowhere/docker",)).start(order)
    for command in (("true",), ("echo", "ready?"), ("yes", "x" * 600)):
        with pytest.raises(MachineError, match="boot server"):
            await BootServer(command).start(order)


def test_order__damaged__refused(order: BootOrder) -> None:
    encoded = order.encode()[LENGTH:]
    assert BootOrder.decode(encoded) == order
    for damaged in (
        b"",
        encoded[:-1],
        encoded + b"\0",
        encoded.replace(b"ecable", b"ecab;e"),
        encoded.replace(b"52:54", b"52:5g"),
    ):
        with pytest.raises(FormatError):
            BootOrder.decode(damaged)


def test_dnsmasq_config__one_machine__nothing_but_dhcp() -> None:
    lines = dnsmasq_config(CABLE).splitlines()
    assert {"port=0", "leasefile-ro", "dhcp-ignore=tag:!known", "interface=cable"} <= set(lines)
    assert f"dhcp-host={CABLE.mac},10.77.0.2,infinite" in lines
    assert "dhcp-range=10.77.0.2,static,255.255.255.0,infinite" in lines
    assert "dhcp-boot=tag:httpboot,http://10.77.0.1/boot.efi" in lines
    assert not [each for each in lines if "tftp" in each or "server=" in each or "log-dhcp" in each]


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def processes(server: BootServer) -> list[dict[str, str]]:
    """/proc status of the boot server and of each process below it: other tests have theirs."""
    assert server._process is not None
    found, waiting = [status_of(server._process.pid)], [server._process.pid]
    while waiting:
        parent = waiting.pop()
        for task in Path(f"/proc/{parent}/task").iterdir():
            for pid in (task / "children").read_text().split():
                waiting.append(int(pid))
                found.append(status_of(int(pid)))
    return found


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
