"""The cable's rules: as text, and against frames on a real cable."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from agent.formats.netboot import ERASE_PORT, HTTP_PORT, LINK_PORT, MACHINE_ADDRESS, PI_ADDRESS
from nodeclient.errors import BadInput, MachineError
from nodeclient.machine.commands import run
from nodeclient.machine.netboot import Cable, firewall
from nodeclient.machine.netboot.firewall import Phase
from tests.machine.boots import CABLE
from tests.machine.wire import STRANGER, Wire, ip

OTHER_PORT = 7001
BEYOND = "10.99.0.7"  # somebody in the Pi's other network
OPEN = {
    Phase.OFF: set[int](),
    Phase.BOOTING: {HTTP_PORT, LINK_PORT},
    Phase.RUNNING: {LINK_PORT},
    Phase.ERASER_BOOTING: {HTTP_PORT, ERASE_PORT},
    Phase.ERASING: {ERASE_PORT},
}


@contextlib.contextmanager
def listeners(*ports: int) -> Iterator[None]:
    """Something on the Pi that listens on every address."""
    with contextlib.ExitStack() as stack:
        for port in ports:
            server = stack.enter_context(socket.socket())
            server.bind(("0.0.0.0", port))
            server.listen()
        yield


@pytest.fixture
async def cable(wire: Wire) -> AsyncIterator[Wire]:
    """The Pi's end with its address, the PC's with the Machine's, and no rules yet."""
    await CABLE.attach()
    wire.address(f"{MACHINE_ADDRESS}/24")
    yield wire
    await firewall.remove(CABLE)


@pytest.mark.parametrize("phase", list(Phase))
async def test_rules__each_phase__only_its_ports(cable: Wire, phase: Phase) -> None:
    ports = (HTTP_PORT, LINK_PORT, ERASE_PORT, OTHER_PORT)
    with listeners(*ports):
        found = {port for port in ports if cable.reaches(PI_ADDRESS, port)}
        assert found == set(ports)  # the control: without rules everything answers
        await firewall.apply(CABLE, phase)
        found = {port for port in ports if cable.reaches(PI_ADDRESS, port)}
    assert found == OPEN[phase]
    counted = await firewall.count(CABLE)
    assert counted["stray"] > 0
    assert counted["stranger"] == 0


async def test_rules__another_mac__heard_by_nothing_and_counted(cable: Wire) -> None:
    """It takes the Machine's own address, and asks as soon as the Machine may."""
    await firewall.apply(CABLE, Phase.BOOTING)
    with listeners(HTTP_PORT, LINK_PORT):
        assert cable.reaches(PI_ADDRESS, HTTP_PORT)
        cable.become(STRANGER)
        cable.address(f"{MACHINE_ADDRESS}/24")
        assert not cable.reaches(PI_ADDRESS, HTTP_PORT)
        assert not cable.reaches(PI_ADDRESS, LINK_PORT)
    assert (await firewall.count(CABLE))["stranger"] > 0


async def test_rules__through_the_pi__nothing_is_forwarded(cable: Wire) -> None:
    """Even on a Pi that forwards: the rules stand before its routing."""
    await run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    await _far_side(cable)
    ip("neighbour", "add", BEYOND, "lladdr", STRANGER, "dev", "wan")
    ip("-n", cable.pc, "route", "add", f"{BEYOND}/32", "via", PI_ADDRESS, "dev", "eth0")
    with cable.frames(0x0800, "far") as seen:
        assert _arrives(cable, seen, b"control")
        await firewall.apply(CABLE, Phase.RUNNING)
        assert not _arrives(cable, seen, b"secret")
    assert (await firewall.count(CABLE))["stray"] > 0


async def test_rules__from_another_interface__cable_address_is_not_there(cable: Wire) -> None:
    """Linux would answer for 10.77.0.1 wherever it is asked."""
    await firewall.apply(CABLE, Phase.BOOTING)
    await _far_side(cable)
    with cable.at_pc():
        ip("address", "del", f"{MACHINE_ADDRESS}/24", "dev", "eth0")
        ip("route", "add", f"{PI_ADDRESS}/32", "dev", "far")
    with listeners(LINK_PORT):
        assert not cable.reaches(PI_ADDRESS, LINK_PORT)
        assert (await firewall.count(CABLE))["foreign"] > 0
        await firewall.remove(CABLE)
        assert cable.reaches(PI_ADDRESS, LINK_PORT)


async def test_rules__frames_that_are_no_ip__dropped_and_counted(cable: Wire) -> None:
    await firewall.apply(CABLE, Phase.RUNNING)
    before = (await firewall.count(CABLE))["stray"]
    with cable.at_pc(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("eth0", 0))
        raw.send(b"\xff" * 6 + raw.getsockname()[4] + b"\x88\xb5" + bytes(50))
    for _ in range(50):
        if (await firewall.count(CABLE))["stray"] > before:
            break
        await asyncio.sleep(0.05)
    assert (await firewall.count(CABLE))["stray"] > before


async def test_rules__pi_sends_what_it_may_not__dropped_and_counted(cable: Wire) -> None:
    await firewall.apply(CABLE, Phase.RUNNING)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain, cable.frames(0x0800) as seen:
        with contextlib.suppress(PermissionError):  # egress says so to the sender
            plain.sendto(b"secret", (MACHINE_ADDRESS, 9))
        with pytest.raises(TimeoutError):
            seen.recv(2048)
    assert (await firewall.count(CABLE))["leak"] > 0


@pytest.mark.parametrize("phase", [Phase.BOOTING, Phase.RUNNING])
async def test_rules__pi_s_own_broadcast__is_no_frame_of_the_machine(
    cable: Wire, phase: Phase
) -> None:
    """Linux gives a copy to the sender's own interface, through its ingress: a name service on the
    Pi would make every Machine a suspect."""
    cable.hush()
    await firewall.apply(CABLE, phase)
    earlier = "type filter hook ingress device cable priority -501; policy accept;"
    table = (
        "add table netdev probe\n"
        f"add chain netdev probe in {{ {earlier} }}\n"
        "add rule netdev probe in udp dport 5353 counter\n"
    )
    await run("nft", "-f", "-", text=table)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        plain.bind((PI_ADDRESS, 0))
        with contextlib.suppress(PermissionError):
            plain.sendto(b"who is there", ("255.255.255.255", 5353))
    assert "packets 1 " in await run(
        "nft", "list", "table", "netdev", "probe"
    )  # the copy was there
    counted = await firewall.counters(CABLE)
    assert {counted[f"{kind}_{phase.value}"] for kind in ("stray", "stranger")} == {0}
    assert counted["leak"] == 1


async def test_apply__next_phase__counters_go_on(cable: Wire) -> None:
    await firewall.apply(CABLE, Phase.BOOTING)
    cable.reaches(PI_ADDRESS, OTHER_PORT)
    counted = await firewall.count(CABLE)
    await firewall.apply(CABLE, Phase.RUNNING)
    assert (await firewall.count(CABLE))["stray"] >= counted["stray"] > 0


async def test_attach__no_such_interface__one_line(wire: Wire) -> None:
    with pytest.raises(MachineError, match=r"ip failed with 1: .*missing.*; try it by hand"):
        await Cable("missing", CABLE.mac).attach()


def test_ruleset__every_phase__denies_by_default_in_one_transaction() -> None:
    added = "add rule netdev sealrun_cable"
    for phase in Phase:
        lines = firewall.ruleset(CABLE, phase).splitlines()
        for hook in ("ingress", "egress"):
            base = f'type filter hook {hook} device "cable" priority -500; policy drop;'
            chain = lines.index(f"add chain netdev sealrun_cable {hook} {{ {base} }}")
            assert lines[chain + 1] == f"flush chain netdev sealrun_cable {hook}"
            rules = [each for each in lines if each.startswith(f"{added} {hook} ")]
            assert rules[-1].endswith(" drop")
        for kind in ("stray", "stranger"):
            rules = [each for each in lines if each.startswith(f"{added} {kind} ")]
            assert rules[0].endswith(f" counter name {kind}_{phase.value}")
            # Counted all, copied some: without a limit a flood would be the daemon's to bear.
            assert f" limit rate {firewall.LOGGED_PER_SECOND}/second " in rules[1]
            assert rules[1].index(" limit ") < rules[1].index(" log ")
            assert rules[-1].endswith(" drop")
        first = next(each for each in lines if "ingress ether" in each)
        assert first.endswith(f"ether saddr != {CABLE.mac} jump stranger")
        # Nothing is deleted on the way: there is no moment without rules.
        assert not any(each.startswith("delete") for each in lines)


def test_ruleset__machine_runs__no_dhcp_and_no_http() -> None:
    text = firewall.ruleset(CABLE, Phase.RUNNING)
    assert "dport 67" not in text
    assert f"port {HTTP_PORT}" not in text
    assert f"tcp dport {LINK_PORT} accept" in text


@pytest.mark.parametrize("name", ["", "a b", 'x"', "0", "x" * 16, "x;y", "x\n", "-x"])
def test_cable__name_that_could_end_a_word__refused(name: str) -> None:
    with pytest.raises(BadInput, match="see: ip link"):
        Cable(name, CABLE.mac)


@pytest.mark.parametrize(
    "mac", ["", "52:54:00:77:00", "52-54-00-77-00-01", "01:00:5e:00:00:01", "52:54:00:77:00:01\n"]
)
def test_cable__mac_of_no_machine__refused(mac: str) -> None:
    with pytest.raises(BadInput, match="aa:bb:cc:dd:ee:ff"):
        Cable("cable", mac)


async def _far_side(cable: Wire) -> None:
    """A second link between the two, as if the PC had found the Pi's other network."""
    with cable.at_pc():
        ip("link", "add", "far", "type", "veth", "peer", "name", "wan", "netns", cable.pi)
        ip("link", "set", "far", "up")
        ip("address", "add", "10.99.0.2/24", "dev", "far")
    ip("link", "set", "wan", "up")
    ip("address", "add", "10.99.0.1/24", "dev", "wan")


def _arrives(cable: Wire, seen: socket.socket, content: bytes) -> bool:
    """Whether what the PC sends to BEYOND comes out of the Pi's other interface."""
    with cable.at_pc(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.sendto(content, (BEYOND, 9))
    with contextlib.suppress(TimeoutError):
        while content not in seen.recv(2048):
            pass
        return True
    return False
