"""Where a running kernel equals its file."""

from __future__ import annotations

import struct

from agent.formats.bootimage import KernelMap
from nodeclient.images.boot.kernel import Kernel


def kernel_map(kernel: Kernel) -> KernelMap:
    """The map of `kernel`: its text without what boot code patches."""
    text = kernel.sections[".text"]
    holes = [(address, address + size) for address, size in kernel.relocations]
    holes += _pc_relative(kernel, ".retpoline_sites", 6) + _pc_relative(kernel, ".return_sites", 5)
    holes += _pc_relative(kernel, ".smp_locks", 1)
    section = kernel.sections[".altinstructions"]
    for index in range(0, section.size, 12):
        (offset,) = struct.unpack_from("<i", kernel.data, section.offset + index)
        length = kernel.data[section.offset + index + 10]
        at = section.address + index + offset
        holes.append((at, at + length))
    section = kernel.sections[".parainstructions"]
    for index in range(0, section.size, 16):
        at, _, length = struct.unpack_from("<QBB", kernel.data, section.offset + index)
        holes.append((at, at + length))
    begin, intervals = text.address, []
    for low, high in sorted(holes):
        if high <= text.address or low >= text.address + text.size:
            continue
        if low > begin:
            intervals.append((begin - text.address, low - begin))
        begin = max(begin, high)
    end = text.address + text.size
    if end > begin:
        intervals.append((begin - text.address, end - begin))
    return KernelMap(text.address, tuple(intervals))


def _pc_relative(kernel: Kernel, name: str, length: int) -> list[tuple[int, int]]:
    section = kernel.sections[name]
    holes = []
    for index in range(0, section.size, 4):
        (offset,) = struct.unpack_from("<i", kernel.data, section.offset + index)
        at = section.address + index + offset
        holes.append((at, at + length))
    return holes
