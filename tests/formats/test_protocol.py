"""Frames: bounded before they are read, and one meaning each; contexts that never coincide."""

import asyncio

import pytest

from agent.formats import cbor, protocol
from agent.formats.cbor import FormatError
from agent.formats.protocol import ChannelClosed, Frame, FrameKind


def reader_of(data, *, end=True):
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    if end:
        reader.feed_eof()
    return reader


def wire(frame):
    encoded = frame.encode()
    return len(encoded).to_bytes(4, "big") + encoded


@pytest.mark.parametrize(
    "frame",
    [
        Frame(0, FrameKind.REQUEST, "block.get", {"cid": "b"}),
        Frame((1 << 32) - 1, FrameKind.OK, None, b"x" * (1 << 20)),
        Frame(7, FrameKind.ERROR, None, ["busy", "try again"]),
    ],
)
async def test_read_frame__written_frame__comes_back(frame):
    assert await protocol.read_frame(reader_of(wire(frame))) == frame


@pytest.mark.parametrize(
    "fields",
    [
        [1, "req", None, 0],
        [1, "req", "", 0],
        [1, "req", "Upper", 0],
        [1, "req", "x" * 65, 0],
        [1, "ok", "method", 0],
        [1, "nok", None, 0],
        [1, "err", None, "text"],
        [1, "err", None, ["code", "x" * 1025]],
        [1, "err", None, ["", "m"]],
        [-1, "ok", None, 0],
        [1 << 32, "ok", None, 0],
        [True, "ok", None, 0],
        [1, "ok", None],
        [1, "ok", None, 0, 0],
        {"id": 1},
    ],
)
def test_decode__frame_of_another_shape__refused(fields):
    with pytest.raises(FormatError):
        Frame.decode(cbor.encode(fields))


@pytest.mark.parametrize("length", [0, protocol.MAX_FRAME + 1, (1 << 32) - 1])
async def test_read_frame__length_out_of_bounds__refused_before_a_byte_is_awaited(length):
    reader = reader_of(length.to_bytes(4, "big"), end=False)
    with pytest.raises(FormatError, match="length"):
        await asyncio.wait_for(protocol.read_frame(reader), 5)


@pytest.mark.parametrize("keep", [0, 3, 4, 10])
async def test_read_frame__stream_that_ends__is_closed_and_not_a_frame(keep):
    data = wire(Frame(1, FrameKind.OK, None, b"x" * 20))
    with pytest.raises(ChannelClosed):
        await protocol.read_frame(reader_of(data[:keep]))


def test_encode__body_beyond_the_bound__refused():
    with pytest.raises(FormatError, match="parts"):
        Frame(1, FrameKind.OK, None, bytes(protocol.MAX_FRAME)).encode()


def test_infos__any_field_or_purpose_changed__differ():
    market, root = b"\x01" * 20, b"\x02" * 32
    infos = {
        protocol.release_info(1, market, 7, "b", root),
        protocol.release_info(2, market, 7, "b", root),
        protocol.release_info(1, b"\x02" * 20, 7, "b", root),
        protocol.release_info(1, market, 8, "b", root),
        protocol.release_info(1, market, 7, "c", root),
        protocol.release_info(1, market, 7, "b", bytes(32)),
        protocol.result_info(1, market, 7, "b"),
        protocol.result_info(1, market, 7, ""),
        protocol.taskspec_info(1, market, 7),
    }
    assert len(infos) == 9
    with pytest.raises(FormatError):
        protocol.release_info(1, market[1:], 7, "b", root)
