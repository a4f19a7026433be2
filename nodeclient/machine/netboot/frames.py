"""What a frame says of itself, for the log of those that were dropped.

Pure. A frame that is cut off or wrong inside is told as far as it can be read: no frame is refused,
because one that nobody can read was sent all the same.

Source: IEEE 802.3 and 802.1Q, RFC 826 (ARP), RFC 791 (IPv4), RFC 8200 (IPv6, extension headers).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

_IPV4, _ARP, _IPV6, _VLANS = 0x0800, 0x0806, 0x86DD, (0x8100, 0x88A8, 0x9100)
_LEAST_ETHER_TYPE = 0x0600  # below, the field is a length (IEEE 802.3, 3.2.6)
_NAMES = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 33: "dccp", 58: "icmpv6", 132: "sctp"}
_WITH_PORTS = frozenset({6, 17, 33, 132, 136})
_FRAGMENT, _EXTENSIONS = 44, frozenset({0, 43, 60})
_MAX_HEADERS, _MAX_TAGS = 8, 2
_OPERATIONS = {1: "arp-request", 2: "arp-reply"}


@dataclass(frozen=True, slots=True)
class Frame:
    """A five-tuple and what lies around it.

    protocol: a name, ``ip-<number>``, ``802.3`` or the EtherType (``0x88b5``). source, destination:
    IP addresses; of ARP the sender's and the asked address; of anything else the MACs. Ports are 0
    where there are none. vlan: the outermost tag's VLAN, -1 without a tag.
    """

    protocol: str
    source: str
    source_port: int
    destination: str
    destination_port: int
    ether_type: int
    source_mac: str
    destination_mac: str
    vlan: int = -1

    def __str__(self) -> str:
        """One line for people."""
        ends = (
            f"{address}:{port}" if port else address
            for address, port in (
                (self.source, self.source_port),
                (self.destination, self.destination_port),
            )
        )
        return f"{self.protocol} {' to '.join(ends)}"


def describe(header: bytes, ether_type: int, payload: bytes, vlan: int = -1) -> Frame:
    """The frame behind a link-layer header (14 bytes or more), its EtherType and its payload, of
    which the end may be missing. vlan: the tag that the network card took out."""
    destination, source = mac_text(header[:6]), mac_text(header[6:12])
    for _ in range(_MAX_TAGS):
        if ether_type not in _VLANS or len(payload) < 4:
            break
        tag, ether_type = struct.unpack_from(">HH", payload)
        vlan, payload = tag & 0x0FFF if vlan < 0 else vlan, payload[4:]
    said = _inside(ether_type, payload)
    protocol, near, near_port, far, far_port = said or (
        _name(ether_type),
        source,
        0,
        destination,
        0,
    )
    return Frame(protocol, near, near_port, far, far_port, ether_type, source, destination, vlan)


def mac_text(raw: bytes) -> str:
    """Six bytes as ``aa:bb:cc:dd:ee:ff``; fewer are filled up."""
    return raw[:6].ljust(6, b"\0").hex(":")


_Tuple = tuple[str, str, int, str, int]
_Address = IPv4Address | IPv6Address


def _inside(ether_type: int, data: bytes) -> _Tuple | None:
    """The five-tuple; None for what has no addresses of its own, or lost them."""
    if ether_type == _ARP and len(data) >= 28 and data[:6] == b"\0\1\x08\0\6\4":
        name = _OPERATIONS.get(int.from_bytes(data[6:8], "big"), "arp")
        return name, str(IPv4Address(data[14:18])), 0, str(IPv4Address(data[24:28])), 0
    if ether_type == _IPV4 and len(data) >= 20 and data[0] >> 4 == 4:
        first = not int.from_bytes(data[6:8], "big") & 0x1FFF  # others of a datagram: no ports
        rest = data[(data[0] & 15) * 4 :] if first else b""
        return _ip(data[9], IPv4Address(data[12:16]), IPv4Address(data[16:20]), rest)
    if ether_type == _IPV6 and len(data) >= 40 and data[0] >> 4 == 6:
        number, rest = _behind_extensions(data[6], data[40:])
        return _ip(number, IPv6Address(data[8:24]), IPv6Address(data[24:40]), rest)
    return None


def _ip(number: int, source: _Address, destination: _Address, rest: bytes) -> _Tuple:
    ports = (0, 0)
    if number in _WITH_PORTS and len(rest) >= 4:
        ports = struct.unpack_from(">HH", rest)
    name = _NAMES.get(number, f"ip-{number}")
    return name, str(source), ports[0], str(destination), ports[1]


def _behind_extensions(number: int, rest: bytes) -> tuple[int, bytes]:
    """The protocol of an IPv6 packet and where it begins (RFC 8200, 4)."""
    for _ in range(_MAX_HEADERS):
        if number == _FRAGMENT and len(rest) >= 8:
            later = int.from_bytes(rest[2:4], "big") & 0xFFF8
            number, rest = rest[0], b"" if later else rest[8:]
        elif number in _EXTENSIONS and len(rest) >= 8:
            number, rest = rest[0], rest[(rest[1] + 1) * 8 :]
        else:
            break
    return number, rest


def _name(ether_type: int) -> str:
    return "802.3" if ether_type < _LEAST_ETHER_TYPE else f"{ether_type:#06x}"
