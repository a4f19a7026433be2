"""Attacks on the RAM of the running Machine, from outside, as with a probe on its memory bus.

The lab's PC has its RAM in a file. What is changed is put back afterwards, so that the Machine can
be attacked again.
"""

from __future__ import annotations

import contextlib
import mmap
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from agent.formats.bootimage import EFI, KERNEL_MAP, ROOT, KernelMap
from agent.formats.evidence import Evidence
from agent.formats.measure import choose_ranges, tree_files
from agent.formats.ranges import Area, choose
from nodeclient.core import claims
from nodeclient.images.boot.kallsyms import symbols
from nodeclient.images.boot.kernel import Kernel, open_kernel
from nodeclient.images.boot.pe import Pe
from nodeclient.machine.measure import agent_folder
from scripts.lab.attacks.wire import Reasons
from scripts.lab.rig import Rig
from scripts.lab.verifier import said

VICTIM: Final = "security_locked_down"  # answers whether root may change the running kernel
RETURN_ZERO: Final = b"\x31\xc0\xc3"  # xor eax, eax; ret
AGENT_FILE: Final = "seal.py"
_STEP = 2 << 20  # CONFIG_PHYSICAL_ALIGN: where x86-64 may put its kernel
_PAGE = 4096
_TRIES = 1 << 16
# TCG_PCR_EVENT2 of a variable: digest, size, then UEFI_VARIABLE_DATA, whose name is at 32.
_DIGEST, _SIZE, _NAME = 32, 4, 32


def kernel_text(rig: Rig) -> Reasons:
    """A rootkit's patch: the kernel's lockdown now permits everything."""
    efi = (rig.image.path / EFI).read_bytes()
    (linux,) = (each for each in Pe.parse(efi).sections if each.name == ".linux")
    kernel = open_kernel(efi[linux.offset : linux.offset + linux.virtual_size])
    known = KernelMap.decode((rig.image.path / KERNEL_MAP).read_bytes())
    offset, joined = _fixed_part(known, symbols(kernel)[VICTIM])
    size = sum(length for _, length in known.intervals)
    nonce = draw(lambda nonce: _asked(nonce, Area.KERNEL, size, joined))
    with _ram(rig) as ram:
        place = _find_kernel(ram, kernel, known) + offset
        with _changed(ram, [place], RETURN_ZERO):
            return said(rig.judge(rig.ask(nonce)))


def root_file_system(rig: Rig) -> Reasons:
    """The file system that the Machine runs from, in the RAM where it keeps it."""
    path = rig.image.path / ROOT
    size = path.stat().st_size
    offset = size // 2 // _PAGE * _PAGE
    with path.open("rb") as source:
        source.seek(offset)
        page = source.read(_PAGE)
    nonce = draw(lambda nonce: _asked(nonce, Area.ROOT, size, offset))
    with _ram(rig) as ram, _changed(ram, _places(ram, page), _other(page)):
        return said(rig.judge(rig.ask(nonce)))


def running_agent(rig: Rig) -> Reasons:
    """A file of the Agent, in the page cache through which it is read."""
    folder = agent_folder()
    page = (folder / AGENT_FILE).read_bytes()[:_PAGE]
    files = tree_files(folder)

    def asks(nonce: bytes) -> bool:
        return any(
            name == AGENT_FILE and offset == 0 for name, offset, _ in choose_ranges(nonce, files)
        )

    nonce = draw(asks)
    with _ram(rig) as ram, _changed(ram, _places(ram, page[:512]), _other(page[:16])):
        return said(rig.judge(rig.ask(nonce)))


def event_log(rig: Rig) -> Reasons:
    """The kernel's copy of the firmware's event log: another boot order than was measured."""
    log = claims.log(Evidence.decode(rig.ask().data), "event_log")
    begin = log.index("BootOrder".encode("utf-16-le")) - _NAME - _SIZE - _DIGEST
    event = log[begin : begin + _DIGEST + _SIZE + _NAME]
    with _ram(rig) as ram, _changed(ram, _places(ram, event), _other(event[:_DIGEST])):
        return said(rig.judge(rig.ask()))


def _fixed_part(known: KernelMap, address: int) -> tuple[int, int]:
    """(offset from _text, offset in the joined bytes) of the first fixed bytes from an address."""
    wanted, joined = address - known.base, 0
    for offset, length in known.intervals:
        begin = max(offset, wanted)
        if begin + len(RETURN_ZERO) <= offset + length:
            return begin, joined + begin - offset
        joined += length
    raise RuntimeError(f"{VICTIM} has no fixed bytes; choose another function")


def _find_kernel(ram: mmap.mmap, kernel: Kernel, known: KernelMap) -> int:
    """Where _text lies in the RAM: compared at three intervals."""
    probes = [each for each in known.intervals if each[1] >= 512][:3]
    parts = [(offset, kernel.at(known.base + offset, 512)) for offset, _ in probes]
    for base in range(0, len(ram), _STEP):
        if all(ram[base + at : base + at + 512] == part for at, part in parts):
            return base
    raise RuntimeError("the running kernel is not in the RAM file")


def _asked(nonce: bytes, area: Area, size: int, place: int) -> bool:
    return any(at <= place < at + length for at, length in choose(nonce, area, size))


def draw(hits: Callable[[bytes], bool]) -> bytes:
    """A random nonce that asks for what was changed: a verifier that asks often enough draws one.

    With RANGES ranges of 4 KiB over 20 MB, one question in eighty does.
    """
    for _ in range(_TRIES):
        nonce = secrets.token_bytes(32)
        if hits(nonce):
            return nonce
    raise RuntimeError("no nonce asks for it")


def _places(ram: mmap.mmap, content: bytes) -> list[int]:
    """Everywhere that it lies."""
    found, at = [], ram.find(content)
    while at >= 0:
        found.append(at)
        at = ram.find(content, at + 1)
    if not found:
        raise RuntimeError("it is not in the RAM file")
    return found


def _other(content: bytes) -> bytes:
    return bytes(byte ^ 0x20 for byte in content)


@contextlib.contextmanager
def _changed(ram: mmap.mmap, places: list[int], content: bytes) -> Iterator[None]:
    size = len(content)
    before = [ram[place : place + size] for place in places]
    try:
        for place in places:
            ram[place : place + size] = content
        yield
    finally:
        for place, old in zip(places, before, strict=True):
            ram[place : place + size] = old


@contextlib.contextmanager
def _ram(rig: Rig) -> Iterator[mmap.mmap]:
    with Path(rig.pc.memory).open("r+b") as file, mmap.mmap(file.fileno(), 0) as ram:
        yield ram
