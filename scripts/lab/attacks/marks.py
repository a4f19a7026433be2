"""Attacks that the breached Machine is marked by until its next boot: what is found stays found.

One boot serves all of them. What was found before an attack is taken off what is found after it:
a row says what this attack alone adds. The control run came before the first of them.
"""

from __future__ import annotations

import ipaddress
import re
import struct
import time
from collections.abc import Sequence
from typing import Final

from agent.formats.netboot import MACHINE_ADDRESS, PI_ADDRESS
from nodeclient.core.incidents import Kind
from nodeclient.errors import MachineError
from nodeclient.machine.lab.plugging import Gadget, plug_in, pull_out
from scripts.lab.attacks.breach import door_of
from scripts.lab.attacks.wire import Reasons
from scripts.lab.network import MAC
from scripts.lab.rig import Rig
from scripts.lab.verifier import said

OUTSIDE: Final = "192.0.2.53"  # RFC 5737: nobody's
OUTSIDE_6: Final = "2001:db8::53"  # RFC 3849
OTHER_MAC: Final = "52:54:00:77:00:66"
FRAMES: Final = 4  # one more than a policy forgives by default
_NOTICED_SECONDS: Final = 30.0  # an emulated PC on a busy host; the figure is the benchmark's
_BROADCAST: Final = "ff:ff:ff:ff:ff:ff"
_IP4, _ARP, _IP6 = 0x0800, 0x0806, 0x86DD
_ICMP, _TCP, _UDP, _ICMP_6 = 1, 6, 17, 58


def usb_stick(rig: Rig) -> Reasons:
    """A USB stick, pulled again before anybody asks."""
    return _plugged(rig, Gadget.USB_STICK)


def pci_card(rig: Rig) -> Reasons:
    """A PCI card, pulled again before anybody asks."""
    return _plugged(rig, Gadget.PCI_CARD)


def disk(rig: Rig) -> Reasons:
    """A disk, pulled again before anybody asks."""
    return _plugged(rig, Gadget.NVME)


def network_card(rig: Rig) -> Reasons:
    """A network card, pulled again before anybody asks."""
    return _plugged(rig, Gadget.NETWORK_CARD)


def dns(rig: Rig) -> Reasons:
    """DNS queries to a resolver elsewhere."""
    question = bytes.fromhex("133701000001000000000000076578616d706c6503636f6d0000010001")
    return _sent(rig, _ip4(_UDP, _udp(4444, 53, question)))


def tcp(rig: Rig) -> Reasons:
    """TCP connections to a server elsewhere."""
    syn = struct.pack(">HHIIBBHHH", 4444, 443, 1, 0, 5 << 4, 2, 64240, 0, 0)
    return _sent(rig, _ip4(_TCP, syn))


def udp(rig: Rig) -> Reasons:
    """UDP to a port of the Pi's that is not the Agent's."""
    return _sent(rig, _ip4(_UDP, _udp(4444, 4000, b"data"), PI_ADDRESS))


def icmp(rig: Rig) -> Reasons:
    """Data in echo requests."""
    return _sent(rig, _ip4(_ICMP, b"\x08\0\0\0\0\1\0\1" + b"data"))


def ipv6(rig: Rig) -> Reasons:
    """IPv6, of which the Machine has none: UDP, in frames made by hand."""
    addresses = (ipaddress.IPv6Address(each).packed for each in ("fe80::1", OUTSIDE_6))
    body = _udp(4444, 53, b"data")
    packet = struct.pack(">IHBB", 6 << 28, len(body), _UDP, 64) + b"".join(addresses) + body
    return _sent(rig, _frame(_IP6, packet))


def arp_spoof(rig: Rig) -> Reasons:
    """ARP replies: the Pi's address is the Machine's now."""
    addresses = (ipaddress.IPv4Address(each).packed for each in (PI_ADDRESS, OUTSIDE))
    sender, target = addresses
    body = struct.pack(">HHBBH", 1, _IP4, 6, 4, 2) + _mac(MAC) + sender + _mac(_BROADCAST) + target
    return _sent(rig, _frame(_ARP, body, _BROADCAST))


def mac_spoof(rig: Rig) -> Reasons:
    """Frames from another hardware address than the Machine's, to the Agent's own port."""
    body = _ip4(_UDP, _udp(4444, 4000, b"data"), PI_ADDRESS, OTHER_MAC)
    return _sent(rig, body)


def killed(rig: Rig) -> Reasons:
    """The Agent is killed: the Machine has no reason to run any more."""
    door_of(rig).run("kill()")
    try:
        rig.ask()
    except MachineError as error:
        return (f"machine: {error.message}",)
    return ()


def _plugged(rig: Rig, gadget: Gadget) -> Reasons:
    """Reasons that are new, and what the Pi heard of it at once."""
    before, heard = _found(rig), len(rig.pi.incidents)
    plug_in(rig.pc.monitor, gadget, "intruder")
    try:
        _await_incident(rig, Kind.HARDWARE, heard)
    finally:
        pull_out(rig.pc.monitor, gadget, "intruder")
    return _new(rig, before)


def _sent(rig: Rig, frame: bytes) -> Reasons:
    """Reasons that are new, and which frames the Pi names."""
    before, heard = _found(rig), len(rig.pi.incidents)
    door_of(rig).run(f"send({[frame.hex()] * FRAMES!r})")
    _await_incident(rig, Kind.STRAY, heard)
    named = {
        f"cable: {re.sub(r', [0-9]+ frames$', '', each.text)}"
        for each in rig.pi.incidents[heard:]
        if each.kind is Kind.STRAY
    }
    return (*_new(rig, before), *sorted(named))


def _found(rig: Rig) -> frozenset[str]:
    return frozenset(said(rig.judge(rig.ask())))


def _new(rig: Rig, before: frozenset[str]) -> Reasons:
    return tuple(text for text in said(rig.judge(rig.ask())) if text not in before)


def _await_incident(rig: Rig, kind: Kind, heard: int) -> None:
    end = time.monotonic() + _NOTICED_SECONDS
    while not any(each.kind is kind for each in rig.pi.incidents[heard:]):
        if time.monotonic() > end:
            raise RuntimeError(f"the Pi heard of no {kind.value}; look at its own log")
        time.sleep(0.05)


def _frame(kind: int, body: bytes, target: str = "", source: str = MAC) -> bytes:
    there = _mac(target or _BROADCAST)
    return (there + _mac(source) + kind.to_bytes(2, "big") + body).ljust(60, b"\0")


def _ip4(protocol: int, body: bytes, target: str = OUTSIDE, source: str = MAC) -> bytes:
    addresses = (ipaddress.IPv4Address(each).packed for each in (MACHINE_ADDRESS, target))
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0)
    head += b"".join(addresses)
    summed = _checksum(struct.unpack(">10H", head))
    return _frame(_IP4, head[:10] + summed.to_bytes(2, "big") + head[12:] + body, source=source)


def _udp(source: int, target: int, data: bytes) -> bytes:
    return struct.pack(">HHHH", source, target, 8 + len(data), 0) + data


def _checksum(words: Sequence[int]) -> int:
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
