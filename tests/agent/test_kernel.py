"""Answers about the running kernel: right wherever it lies, and none where it cannot be read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from agent.formats.bootimage import KernelMap
from agent.formats.ranges import Area, answer
from agent.kernel import KernelMemory, KernelUnreadable
from tests.agent.core_file import SEGMENT, core_file, header

NONCE = bytes(range(32))
KERNEL = hashlib.shake_256(b"kernel").digest(1 << 20)
# Small holes as patched sites leave them, and one larger than what is read at once.
INTERVALS = (
    *((at, 700) for at in range(0, 300_000, 777)),
    *((at, 5000) for at in range(600_000, 1_000_000, 5003)),
)
MAP = KernelMap(0xFFFFFFFF81000000, INTERVALS)


def expected(kernel: bytes) -> list[list[object]]:
    joined = b"".join(kernel[offset : offset + length] for offset, length in INTERVALS)
    return answer(NONCE, Area.KERNEL, len(joined), lambda o, n: joined[o : o + n])


@pytest.mark.parametrize("slide", [0, 0x1E000000])
def test_answer__wherever_the_kernel_lies__is_what_its_file_gives(
    tmp_path: Path, slide: int
) -> None:
    memory = KernelMemory(MAP, core_file(tmp_path / "kcore", KERNEL, slide=slide, extra=9))
    assert memory.answer(NONCE) == expected(KERNEL)
    memory.close()


def test_answer__memory_altered_while_it_runs__is_another(tmp_path: Path) -> None:
    core = core_file(tmp_path / "kcore", KERNEL)
    memory = KernelMemory(MAP, core)
    first = memory.answer(NONCE)
    with core.open("r+b") as file:
        file.seek(-len(KERNEL), 2)
        file.write(bytes(400_000))
    assert memory.answer(NONCE) != first
    assert memory.answer(NONCE) == expected(bytes(400_000) + KERNEL[400_000:])


def test_answer__only_holes_altered__is_the_same(tmp_path: Path) -> None:
    patched = bytearray(KERNEL)
    patched[700:777] = bytes(77)
    patched[300_200:599_999] = bytes(299_799)
    memory = KernelMemory(MAP, core_file(tmp_path / "kcore", bytes(patched)))
    assert memory.answer(NONCE) == expected(KERNEL)


def test_kernel_memory__kernel_shorter_than_its_map__refused(tmp_path: Path) -> None:
    with pytest.raises(KernelUnreadable, match="smaller"):
        KernelMemory(MAP, core_file(tmp_path / "kcore", KERNEL[:900_000]))


def test_answer__core_file_that_ends_early__typed_error(tmp_path: Path) -> None:
    core = core_file(tmp_path / "kcore", KERNEL)
    core.write_bytes(core.read_bytes()[:-900_000])
    with pytest.raises(KernelUnreadable, match="ends early"):
        KernelMemory(MAP, core).answer(NONCE)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no header"),
        (header(1)[:-1], "no header"),
        (header(0), "one kernel image"),
        (header(3) + SEGMENT.pack(1, 7, 0, 0, 0, 9, 9, 0), "one kernel image"),
        (header(2) + 2 * SEGMENT.pack(1, 7, 0, 0xFFFFFFFF81000000, 0, 9, 9, 0), "one kernel image"),
        (header(1) + SEGMENT.pack(1, 7, 0, 0xFFFFFFFFC0000000, 0, 9, 9, 0), "one kernel image"),
        (header(1025), "segments"),
        (header(1, magic=b"MZ\0\0"), "64-bit"),
        (header(1, width=1), "64-bit"),
    ],
)
def test_kernel_memory__no_core_file_of_a_kernel__typed_error(
    tmp_path: Path, content: bytes, why: str
) -> None:
    (tmp_path / "kcore").write_bytes(content)
    with pytest.raises(KernelUnreadable, match=why):
        KernelMemory(MAP, tmp_path / "kcore")


def test_kernel_memory__not_there__typed_error(tmp_path: Path) -> None:
    with pytest.raises(KernelUnreadable, match="cannot be opened"):
        KernelMemory(MAP, tmp_path / "kcore")
