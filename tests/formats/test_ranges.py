"""Which bytes a nonce asks for, over things with holes and without."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.formats.cbor import FormatError
from agent.formats.ranges import RANGE, RANGES, Area, Intervals, answer, choose

NONCE = bytes(range(32))


def test_choose__another_nonce_or_area__other_ranges() -> None:
    size = 64 << 20
    first = choose(NONCE, Area.KERNEL, size)
    assert len(first) == RANGES
    assert first == choose(NONCE, Area.KERNEL, size)
    assert not set(first) & set(choose(NONCE, Area.ROOT, size))
    assert not set(first) & set(choose(NONCE[::-1], Area.KERNEL, size))


@given(st.binary(min_size=32, max_size=32), st.integers(1, 1 << 40))
def test_choose__any_size__inside_and_full(nonce: bytes, size: int) -> None:
    for offset, length in choose(nonce, Area.ROOT, size):
        assert length == min(RANGE, size)
        assert 0 <= offset <= size - length


def test_choose__many_nonces__reach_every_page_up_to_the_ends() -> None:
    size = 16 * RANGE
    met = set()
    for number in range(64):
        for offset, length in choose(number.to_bytes(32, "big"), Area.ROOT, size):
            met |= {offset // RANGE, (offset + length - 1) // RANGE}
    assert met == set(range(16))


def test_answer__one_byte_changed__differs_where_it_was_asked() -> None:
    content = bytearray(hashlib.shake_256(b"root").digest(3 * RANGE))
    whole = [[0, 9, hashlib.sha256(NONCE + content[:9]).digest()]] * RANGES
    assert answer(NONCE, Area.ROOT, 9, lambda o, n: bytes(content[o : o + n])) == whole
    before = answer(NONCE, Area.ROOT, len(content), lambda o, n: bytes(content[o : o + n]))
    content[RANGE] ^= 1
    after = answer(NONCE, Area.ROOT, len(content), lambda o, n: bytes(content[o : o + n]))
    for (offset, length, old), (_, _, new) in zip(before, after, strict=True):
        assert isinstance(offset, int)
        assert isinstance(length, int)
        assert (old != new) == (offset <= RANGE < offset + length)
    assert before != after


def test_answer__nothing_there__no_ranges() -> None:
    assert answer(NONCE, Area.ROOT, 0, lambda *_: b"") == []


def test_answer__a_reader_that_gives_less__refused() -> None:
    with pytest.raises(FormatError, match="root range"):
        answer(NONCE, Area.ROOT, RANGE, lambda _, n: bytes(n - 1))


def test_choose__short_nonce__refused() -> None:
    with pytest.raises(FormatError, match="nonce"):
        choose(NONCE[1:], Area.ROOT, 1)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=1), st.data())
def test_pieces__any_intervals__are_the_joined_bytes(
    gaps: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Reading the pieces from the whole gives what joining first would have given."""
    intervals, end = [], 0
    for gap, length in gaps:
        intervals.append((end + gap, length))
        end += gap + length
    whole = hashlib.shake_256(b"kernel").digest(end)
    joined = b"".join(whole[offset : offset + length] for offset, length in intervals)
    parts = Intervals(intervals)
    assert parts.size == len(joined)
    offset = data.draw(st.integers(0, parts.size))
    length = data.draw(st.integers(0, parts.size - offset))
    pieces = parts.pieces(offset, length)
    assert b"".join(whole[at : at + size] for at, size in pieces) == joined[offset:][:length]


@pytest.mark.parametrize("bad", [[(0, 2), (1, 2)], [(5, 1), (0, 1)], [(0, 0)], [(-1, 3)]])
def test_intervals__overlapping_disordered_or_empty__refused(bad: list[tuple[int, int]]) -> None:
    with pytest.raises(FormatError, match="intervals"):
        Intervals(bad)


@pytest.mark.parametrize(("offset", "length"), [(0, 5), (4, 1), (-1, 1), (0, -1)])
def test_pieces__beyond_the_end__refused(offset: int, length: int) -> None:
    with pytest.raises(FormatError, match="beyond"):
        Intervals([(10, 4)]).pieces(offset, length)
