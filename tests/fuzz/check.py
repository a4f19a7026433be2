"""What must hold of a parser for whatever bytes it is given.

It ends with one of its own typed errors, or accepts; what it accepts means what its bytes say, and
neither its memory nor its steps are more than its input's size explains. Steps are calls of Python
and C functions, not seconds: a busy computer changes nothing.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

Meaning = Callable[[bytes, object], bool]


class Violation(AssertionError):
    """A parser broke its promise; the text holds the input."""


@dataclass(frozen=True)
class Target:
    """One parser.

    samples: valid inputs. parse: raises nothing but `errors`. meaning: whether what came out of an
    accepted input is what the input says. covers: functions, as "module:qualified name", that this
    reaches. memory, steps: what is permitted besides a multiple of the input's size.
    """

    name: str
    samples: tuple[bytes, ...]
    parse: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    meaning: Meaning
    covers: tuple[str, ...]
    codec: str = "cbor"
    memory: int = 1 << 18
    steps: int = 5_000


MEMORY_PER_BYTE = 400  # a byte of CBOR may be an integer in a map: key, value, entry, twice
STEPS_PER_BYTE = 60


def judge(target: Target, data: bytes) -> bool:
    """Whether the parser accepts. Raises Violation."""
    try:
        value = target.parse(data)
    except target.errors:
        return False
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise _violation(target, data, f"{type(error).__name__}: {error}") from error
    if not target.meaning(data, value):
        raise _violation(target, data, f"accepted, and means something else: {value!r:.200}")
    return True


def judge_cost(target: Target, data: bytes) -> tuple[int, int]:
    """(bytes, steps) that one parse took at most. Raises Violation above the bounds."""
    steps = count_steps(lambda: judge(target, data))
    if steps > target.steps + STEPS_PER_BYTE * len(data):
        raise _violation(target, data, f"{steps} steps")
    peak = measure_memory(lambda: judge(target, data))
    if peak > target.memory + MEMORY_PER_BYTE * len(data):
        raise _violation(target, data, f"{peak} bytes of memory")
    return peak, steps


def count_steps(work: Callable[[], object]) -> int:
    """How many calls of Python and C functions `work` makes, in this thread."""
    count = 0

    def step(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(step)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def measure_memory(work: Callable[[], object]) -> int:
    """The most that Python had allocated at once while `work` ran, in bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def only(samples: Sequence[bytes]) -> Meaning:
    """For what is signed, sealed or named by its hash: nothing but the samples is accepted."""
    permitted = frozenset(samples)
    return lambda data, _value: data in permitted


def same(encode: Callable[[object], bytes]) -> Meaning:
    """For what has one encoding: the value encodes to the very bytes that were accepted."""
    return lambda data, value: encode(value) == data


def _violation(target: Target, data: bytes, what: str) -> Violation:
    return Violation(f"{target.name}: {what}; {len(data)} bytes: {data[:2000].hex()}")
