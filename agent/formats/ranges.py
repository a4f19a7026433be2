"""Which bytes of a large thing a nonce asks for: the running kernel, or the root file system.

Nobody can know them before the nonce, so all of it must be as it should be. What is asked may have
holes, such as the parts of a kernel that patch themselves: it is then the *joined* bytes of its
intervals that are asked for, each answer RANGE bytes long wherever the holes are.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence
from enum import StrEnum

from agent.formats.cbor import FormatError
from agent.formats.hashes import sha256
from agent.formats.shape import as_bytes

RANGE = 4096  # bytes: one page
RANGES = (
    64  # 256 KiB per thing: a page changed in 16 MiB is met by 3 in 200 questions, a MiB by all
)
_ASK = b"sealrun/ranges/v2/"

Range = tuple[int, int]  # (offset, length) in bytes
Answer = tuple[int, int, bytes]  # (offset, length, sha256(nonce ‖ bytes))
Read = Callable[[int, int], bytes]


class Area(StrEnum):
    """What ranges are asked of. Its name keeps one area's answers from serving for another's."""

    KERNEL = "kernel"
    ROOT = "root"


def choose(nonce: bytes, area: Area, size: int) -> tuple[Range, ...]:
    """The RANGES ranges of `size` bytes that this nonce (32 bytes) asks for; none of nothing.

    Offsets are uniform over all full pages' starting points, so that the last byte is asked as
    often as any other near it.
    """
    if size <= 0:
        return ()
    length = min(RANGE, size)
    ask = _ASK + area.value.encode() + as_bytes(nonce, 32, "nonce")
    seeds = (sha256(ask + index.to_bytes(4, "big")) for index in range(RANGES))
    return tuple((int.from_bytes(seed[:16], "big") % (size - length + 1), length) for seed in seeds)


def answers(nonce: bytes, area: Area, size: int, read: Read) -> tuple[Answer, ...]:
    """The answer for each range; `read(offset, length)` gives bytes.

    Both sides call it, each with its own `read`: equal bytes give equal answers. Raises FormatError
    if `read` gives another number of bytes than asked for.
    """
    found = []
    for offset, length in choose(nonce, area, size):
        content = as_bytes(read(offset, length), length, f"{area} range")
        found.append((offset, length, sha256(nonce + content)))
    return tuple(found)


def answer(nonce: bytes, area: Area, size: int, read: Read) -> list[list[object]]:
    """`answers` as they stand in a claim."""
    return [list(each) for each in answers(nonce, area, size, read)]


class Intervals:
    """The parts of something that count, in order and apart: [offset, length] in bytes."""

    def __init__(self, intervals: Sequence[Range]) -> None:
        """Raises FormatError for intervals that overlap, are empty or out of order."""
        end = 0
        for offset, length in intervals:
            if offset < end or length < 1:
                raise FormatError("intervals: not in order, or one is empty; build the image again")
            end = offset + length
        self._offsets = [offset for offset, _ in intervals]
        self._ends = list(itertools.accumulate(length for _, length in intervals))

    @property
    def size(self) -> int:
        """Bytes of all intervals joined."""
        return self._ends[-1] if self._ends else 0

    def pieces(self, offset: int, length: int) -> list[Range]:
        """Where `length` joined bytes from `offset` lie in the whole. Raises FormatError."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise FormatError("intervals: a range reaches beyond the end")
        found: list[Range] = []
        index = bisect.bisect_right(self._ends, offset)
        while length:
            begin = self._ends[index - 1] if index else 0
            inside = offset - begin
            taken = min(length, self._ends[index] - offset)
            found.append((self._offsets[index] + inside, taken))
            offset, length, index = offset + taken, length - taken, index + 1
        return found
