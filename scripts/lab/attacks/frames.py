"""Frames that a Machine has no business to send, byte for byte: no socket option stops them."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from agent.formats.netboot import MACHINE_ADDRESS, PI_ADDRESS
from scripts.lab.network import MAC

OUTSIDE: Final = "192.0.2.53"  # RFC 5737: nobody's
OUTSIDE_6: Final = "2001:db8::53"  # RFC 3849
OTHER_MAC: Final = "52:54:00:77:00:66"
_BROADCAST: Final = "ff:ff:ff:ff:ff:ff"
_IP4, _ARP, _IP6 = 0x0800, 0x0806, 0x86DD
_ICMP, _TCP, _UDP = 1, 6, 17
_QUERY: Final = bytes.fromhex("1337010000010000000000000765786d61706c6503636f6d0000010001")


def _dns() -> bytes:
    return _ip4(_UDP, _udp(4444, 53, _QUERY))


def _tcp() -> bytes:
    syn = struct.pack(">HHIIBBHHH", 4444, 443, 1, 0, 5 << 4, 2, 64240, 0, 0)
    return _ip4(_TCP, syn)


def _to_pi() -> bytes:
    return _ip4(_UDP, _udp(4444, 4000, b"data"), PI_ADDRESS)


def _icmp() -> bytes:
    return _ip4(_ICMP, b"\x08\0\0\0\0\1\0\1" + b"data")


def _ipv6() -> bytes:
    addresses = (ipaddress.IPv6Address(each).packed for each in ("fe80::1", OUTSIDE_6))
    body = _udp(4444, 53, b"data")
    packet = struct.pack(">IHBB", 6 << 28, len(body), _UDP, 64) + b"".join(addresses) + body
    return _frame(_IP6, packet)


def _arp_reply() -> bytes:
    sender, target = (ipaddress.IPv4Address(each).packed for each in (PI_ADDRESS, OUTSIDE))
    body = struct.pack(">HHBBH", 1, _IP4, 6, 4, 2) + _mac(MAC) + sender + _mac(_BROADCAST) + target
    return _frame(_ARP, body)


def _from_other_mac() -> bytes:
    return _ip4(_UDP, _udp(4444, 4000, b"data"), PI_ADDRESS, OTHER_MAC)


FRAMES_OF: Final[Mapping[str, Callable[[], bytes]]] = MappingProxyType(
    {
        "dns": _dns,
        "tcp": _tcp,
        "udp": _to_pi,
        "icmp": _icmp,
        "ipv6": _ipv6,
        "arp_spoof": _arp_reply,
        "mac_spoof": _from_other_mac,
    }
)


def _frame(kind: int, body: bytes, source: str = MAC) -> bytes:
    return (_mac(_BROADCAST) + _mac(source) + kind.to_bytes(2, "big") + body).ljust(60, b"\0")


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
