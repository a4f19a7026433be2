"""The kernel's own copy of what a rule of the firewall logs: netlink, NFLOG, in pure Python.

The kernel hands over, for each packet that meets a ``log group`` rule, its prefix, its link-layer
header and the first bytes behind it. Messages are the kernel's, what lies in them is foreign.

Source: Linux, include/uapi/linux/netfilter/nfnetlink_log.h and nfnetlink.h; netlink(7).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from agent.formats.cbor import FormatError
from nodeclient.errors import MachineError
from nodeclient.machine.netboot.frames import Frame, describe

SNAPLEN = 128  # bytes of a packet: IPv6 with a few extension headers, and the ports
MAX_DATAGRAM = 1 << 16
_NETLINK_NETFILTER = 12
_ULOG = 4 << 8  # NFNL_SUBSYS_ULOG
_PACKET, _CONFIG = _ULOG | 0, _ULOG | 1
_ERROR, _REQUEST, _ACK = 2, 1, 4
_BIND, _COPY_PACKET = b"\1", 2
_CFG_CMD, _CFG_MODE, _CFG_FLUSH, _CFG_THRESHOLD = 1, 2, 4, 5
_HEADER, _PAYLOAD, _PREFIX, _LINK, _VLAN = 1, 9, 10, 16, 20
_VLAN_TAG = 2
_RECEIVE = 1 << 20  # bytes that wait while the daemon is busy: thousands of frames
_OFFSET, _MESSAGE, _FAMILY = 4, 16, 4  # sizes: attribute, nlmsghdr, nfgenmsg


@dataclass(frozen=True, slots=True)
class Logged:
    """One logged packet and the prefix of the rule that it met."""

    prefix: str
    frame: Frame


def listen(group: int) -> socket.socket:
    """A socket that gets what this namespace's rules log to ``group``. Raises MachineError."""
    plain = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    try:
        plain.bind((0, 0))
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE)
        for kind, value in (
            (_CFG_CMD, _BIND),
            (_CFG_MODE, struct.pack(">IBB", SNAPLEN, _COPY_PACKET, 0)),
            (_CFG_FLUSH, struct.pack(">I", 1)),  # 1/100 s: what is there is handed over at once
            (_CFG_THRESHOLD, struct.pack(">I", 1)),
        ):
            _configure(plain, group, kind, value)
        plain.setblocking(False)
    except OSError as error:
        plain.close()
        raise MachineError(
            f"frames of the cable cannot be logged: {error.strerror}",
            "end what else reads NFLOG on this Pi, or use a kernel with nfnetlink_log",
        ) from error
    return plain


def _configure(plain: socket.socket, group: int, kind: int, value: bytes) -> None:
    body = struct.pack(">BBH", 0, 0, group) + _attribute(kind, value)
    head = struct.pack("=IHHII", _MESSAGE + len(body), _CONFIG, _REQUEST | _ACK, 0, 0)
    plain.send(head + body)
    answer = plain.recv(MAX_DATAGRAM)
    length, kind_of = struct.unpack_from("=IH", answer)
    (code,) = struct.unpack_from("=i", answer, _MESSAGE)
    if kind_of != _ERROR or length < _MESSAGE + 4 or code:
        raise OSError(-code, "the kernel refused")


def parse_datagram(data: bytes) -> tuple[Logged, ...]:
    """The packets in one datagram of the kernel. Raises FormatError."""
    return tuple(_packets(data))


def _packets(data: bytes) -> Iterator[Logged]:
    at = 0
    while at < len(data):
        if len(data) - at < _MESSAGE:
            raise FormatError("nflog: a message without its header")
        length, kind = struct.unpack_from("=IH", data, at)
        if not _MESSAGE <= length <= len(data) - at:
            raise FormatError("nflog: a message of another length than it says")
        if kind == _PACKET:
            yield _packet(data[at + _MESSAGE + _FAMILY : at + length])
        at += _aligned(length)


def _packet(body: bytes) -> Logged:
    found = _attributes(body)
    header, link = found.get(_HEADER, b""), found.get(_LINK, b"")
    if len(header) < 2:
        raise FormatError("nflog: a packet without its protocol")
    (ether_type,) = struct.unpack_from(">H", header)
    if len(link) >= 14:
        (said,) = struct.unpack_from(">H", link, 12)
        # The kernel calls every frame with a length instead of a type 4; the header has the length.
        ether_type = said if said < 0x0600 else ether_type
    frame = describe(link, ether_type, found.get(_PAYLOAD, b""), _vlan(found.get(_VLAN)))
    return Logged(found.get(_PREFIX, b"").rstrip(b"\0").decode("ascii", "replace"), frame)


def _vlan(nested: bytes | None) -> int:
    tag = _attributes(nested).get(_VLAN_TAG, b"") if nested else b""
    return int.from_bytes(tag[:2], "big") & 0x0FFF if len(tag) >= 2 else -1


def _attributes(body: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + _OFFSET <= len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        if not _OFFSET <= length <= len(body) - at:
            raise FormatError("nflog: an attribute of another length than it says")
        found[kind & 0x3FFF] = body[at + _OFFSET : at + length]  # without the flag "nested"
        at += _aligned(length)
    return found


def _attribute(kind: int, value: bytes) -> bytes:
    head = struct.pack("=HH", _OFFSET + len(value), kind)
    return head + value + bytes(-len(value) % 4)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
