"""Where a running kernel's read-only memory must equal its file.

Boot code patches the kernel's text: for the processor it finds (alternatives, retpolines, returns),
for tracing and for branches that are decided once, and for the place that KASLR chose. All of these
places stand in tables of the kernel itself. What is left is the same in every honest Machine, and
that is what verifiers ask about. Too much left out costs coverage; too little left out would accuse
an honest Machine, so a table that is not as expected fails the build.

Source: Linux 6.1: arch/x86/kernel/vmlinux.lds.S, arch/x86/kernel/alternative.c,
include/linux/jump_label.h, include/linux/static_call_types.h, arch/x86/include/asm/alternative.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from agent.formats.bootimage import MAX_INTERVALS, Interval, KernelMap
from nodeclient.images.boot.kallsyms import symbols
from nodeclient.images.boot.kernel import Kernel
from nodeclient.images.errors import ImageError

_LEAST = 32  # bytes: shorter intervals cost more to list than a change could hide in them
_CALL, _BRANCH, _SHORT = (
    5,
    6,
    2,
)  # bytes of a near call or jump, of a conditional one, of a short one
_TRAMPOLINE = 8  # bytes of a static call's trampoline, behind which it is padded
_SHORT_FORMS = (b"\xeb", b"\x66\x90")  # jmp rel8, and the two-byte NOP that replaces it

Hole = tuple[int, int]  # address, size


def kernel_map(kernel: Kernel) -> KernelMap:
    """Text and read-only data of `kernel` without what boot changes. Raises ImageError."""
    names = symbols(kernel)
    try:
        areas = _areas(kernel, names)
        holes = sorted(_holes(kernel, names))
    except (struct.error, KeyError, IndexError) as error:
        raise ImageError(f"the kernel's patch tables are not as expected ({error!r})") from error
    base = kernel.sections[".text"].address
    parts = [part for area in areas for part in _between(area, holes)]
    found = tuple((low - base, high - low) for low, high in parts if high - low >= _LEAST)
    if not 0 < len(found) <= MAX_INTERVALS:
        raise ImageError(f"the kernel map has {len(found)} intervals; raise the least length")
    return KernelMap(base, found)


def interval_bytes(kernel: Kernel, each: Interval) -> bytes:
    """What the memory of `each` interval must hold. Raises IndexError if it lies outside."""
    offset, length = each
    return kernel.at(kernel.sections[".text"].address + offset, length)


def _areas(kernel: Kernel, names: dict[str, int]) -> list[tuple[int, int]]:
    """(begin, end) addresses: text, and read-only data around what init still writes."""
    text = kernel.sections[".text"]
    return [
        (text.address, text.address + text.size),
        (names["__start_rodata"], names["__start_ro_after_init"]),
        *(
            (max(each.address, names["__end_ro_after_init"]), each.address + each.size)
            for each in sorted(kernel.sections.values(), key=lambda each: each.address)
            if names["__end_ro_after_init"] < each.address + each.size <= names["__end_rodata"]
        ),
    ]


def _holes(kernel: Kernel, names: dict[str, int]) -> Iterator[Hole]:
    yield from kernel.relocations
    yield from ((at, 1) for at in _sites(kernel, ".smp_locks"))
    yield from ((at, _BRANCH) for at in _sites(kernel, ".retpoline_sites"))
    yield from ((at, _CALL) for at in _sites(kernel, ".return_sites"))
    for at, _, length in _rows(kernel.content(".parainstructions"), "<QBB6x"):
        yield at, length
    table = kernel.sections[".altinstructions"]
    rows = _rows(kernel.content(".altinstructions"), "<iiHBB")
    for number, (offset, _, _, length, _) in enumerate(rows):
        yield table.address + 12 * number + offset, length
    for (at,) in _table(kernel, names, "mcount_loc", "<Q"):
        yield at, _CALL
    start = names["__start___jump_table"]
    for number, (offset, _, _) in enumerate(_table(kernel, names, "__jump_table", "<iiq")):
        yield _branch(kernel, start + 16 * number + offset)
    start = names["__start_static_call_sites"]
    for number, (offset, _) in enumerate(_table(kernel, names, "static_call_sites", "<ii")):
        yield _branch(kernel, start + 8 * number + offset)
    yield from ((at, _TRAMPOLINE) for name, at in names.items() if name.startswith("__SCT__"))


def _sites(kernel: Kernel, section: str) -> Iterator[int]:
    """Addresses in a table of 32-bit distances, each from its own place."""
    address = kernel.sections[section].address
    for number, (offset,) in enumerate(_rows(kernel.content(section), "<i")):
        yield address + 4 * number + offset


def _table(kernel: Kernel, names: dict[str, int], name: str, row: str) -> Iterable[tuple[int, ...]]:
    start, stop = names[f"__start_{name}"], names[f"__stop_{name}"]
    return _rows(kernel.at(start, stop - start), row)


def _rows(data: bytes, row: str) -> Iterable[tuple[int, ...]]:
    """The rows of a table, which is neither empty nor ends in the midst of one."""
    if not data or len(data) % struct.calcsize(row):
        raise ImageError("a patch table of the kernel is not as expected; refresh the lock")
    return struct.iter_unpack(row, data)


def _branch(kernel: Kernel, at: int) -> Hole:
    """A place where a jump, call or NOP stands: as long as the instruction in the file."""
    if kernel.at(at, _SHORT).startswith(_SHORT_FORMS):
        return at, _SHORT
    return at, _BRANCH if kernel.at(at, 1) == b"\x0f" else _CALL


def _between(area: tuple[int, int], holes: Iterable[Hole]) -> Iterator[tuple[int, int]]:
    """What of `area` no hole (sorted) touches."""
    begin, end = area
    for address, size in holes:
        if address >= end:
            break
        if address > begin:
            yield begin, address
        begin = max(begin, address + size)
    if begin < end:
        yield begin, end
