"""Parsers of what crosses the cable without permission, and of what the Pi says about it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from agent.formats import stream
from agent.formats.cable import CableReport, Sighting
from agent.formats.cbor import FormatError
from nodeclient.core.types import Phase
from nodeclient.machine.netboot import nflog
from nodeclient.machine.netboot.frames import Frame
from tests.core import evidence_kit as kits
from tests.fuzz.check import Target
from tests.fuzz.machine_targets import encoded, from_body, from_stream


def all_targets() -> Iterator[Target]:
    """Every parser of the cable."""
    row = Sighting("udp", "10.77.0.2", 68, "192.0.2.1", 53, 7)
    yield from_body(Sighting, row)
    yield encoded(CableReport, kits.cable(Phase.DURING, stray_running=9))
    yield Target(
        "nflog datagram",
        tuple(map(bytes.fromhex, NFLOG_DATAGRAMS)),
        nflog.parse_datagram,
        (FormatError,),
        lambda data, value: all(_is_tellable(each.frame) for each in value),  # type: ignore[attr-defined]
        ("nodeclient.machine.netboot.nflog:parse_datagram",),
        codec="bytes",
    )
    ended = (FormatError, asyncio.IncompleteReadError)
    yield Target(
        "stream target",
        (b"\0\x0fexample.org:443",),
        lambda data: from_stream(stream.read_target, data),
        ended,
        lambda data, value: data[2:].startswith(str(value).encode()),
        ("agent.formats.stream:read_target",),
        codec="bytes",
    )
    yield Target(
        "stream answer",
        (b"\0", b"\4"),
        lambda data: from_stream(stream.read_answer, data),
        ended,
        lambda data, value: data[:1] == bytes([value]),  # type: ignore[list-item]
        ("agent.formats.stream:read_answer",),
        codec="bytes",
    )
    yield Target(
        "stream part",
        (b"\0\4part\0\0", b"\0\0"),
        lambda data: from_stream(lambda reader: stream.Parts(reader, None).read(), data),  # type: ignore[arg-type]
        ended,
        lambda data, value: data[2:].startswith(value),  # type: ignore[arg-type]
        ("agent.formats.stream:Parts.read",),
        codec="bytes",
    )


def _is_tellable(frame: Frame) -> bool:
    """It fits on a line, and into a report."""
    ends = [frame.source, frame.source_port, frame.destination, frame.destination_port]
    return str(frame).isprintable() and Sighting.from_body([frame.protocol, *ends, 1]) is not None


# As a kernel (6.18) gave them: IPv6 with an extension header, TCP in a VLAN, UDP behind two tags,
# ARP, and a frame with a length instead of a type.
NFLOG_DATAGRAMS = (
    (
        "ec0000000004000000000000000000000500e9be0800010086dd000012000a007374726179207275"
        "6e6e696e6700000008000400000000021000080000060000525400770001000006000f0000010000"
        "06001100000e000012001000ffffffffffff52540077000186dd000014000300000000006b034b1c"
        "00000000000e9fec08000b000000000008000e000000000012001500ffffffffffff525400770001"
        "86dd00004800090060000000001c00fffe80000000000000000000000000000120010db800000000"
        "00000000000000010600000000000000000701bb00000000000000000000000000000000"
    ),
    (
        "e40000000004000000000000000000000500e9be080001000800000012000a007374726179207275"
        "6e6e696e6700000008000400000000021000080000060000525400770001000006000f0000010000"
        "06001100000e000012001000ffffffffffff5254007700010800000014000300000000006b034b1c"
        "00000000000eccf008000b000000000008000e000000000014001480060002000005000006000100"
        "8100000012001500ffffffffffff525400770001080000002c000900450000280000000040060000"
        "0a4d00020a4d000100041e1400000000000000000000000000000000"
    ),
    (
        "e80000000004000000000000000000000500e9be080001008100000012000a007374726179207275"
        "6e6e696e6700000008000400000000021000080000060000525400770001000006000f0000010000"
        "06001100000e000012001000ffffffffffff5254007700018100000014000300000000006b034b1c"
        "00000000000efbd108000b000000000008000e000000000014001480060002000005000006000100"
        "88a8000012001500ffffffffffff5254007700018100000030000900000608004500002800000000"
        "401100000a4d0002c00002010001000200000000000000000000000000000000"
    ),
    (
        "c40000000004000000000000000000000500e9be080001000806000012000a007374726179207275"
        "6e6e696e6700000008000400000000021000080000060000525400770001000006000f0000010000"
        "06001100000e000012001000ffffffffffff5254007700010806000014000300000000006b034b1c"
        "00000000000f3a1308000b000000000008000e000000000012001500ffffffffffff525400770001"
        "080600002000090000010800060400025254007700010a4d00090000000000000a4d0001"
    ),
    (
        "ac0000000004000000000000000000000500e9be080001000004000012000a007374726179207275"
        "6e6e696e6700000008000400000000021000080000060000525400770001000006000f0000010000"
        "06001100000e000012001000ffffffffffff5254007700010004000014000300000000006b034b1d"
        "000000000000362308000b000000000008000e000000000012001500ffffffffffff525400770001"
        "000400000800090042420300"
    ),
)
