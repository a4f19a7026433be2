"""The firmware's memory map as the Agent states it, and as verifiers read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import host
from nodeclient.core.claims import Region, read_memory


def entry(folder: Path, name: str, start: str, end: str, kind: str) -> None:
    place = folder / "firmware" / "memmap" / name
    place.mkdir(parents=True)
    for file, text in (("start", start), ("end", end), ("type", kind)):
        (place / file).write_text(text + "\n")


def test_memory__rows_of_the_kernel__ends_made_exclusive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "_SYS", tmp_path)
    entry(tmp_path, "0", "0x0", "0x9fbff", "System RAM")
    entry(tmp_path, "1", "0x100000000", "0x63fffffff", "System RAM")
    entry(tmp_path, "2", "0xfffc0000", "0xffffffff", "Reserved")
    entry(tmp_path, "3", "torn", "0xffffffff", "Reserved")
    assert set(read_memory(host.memory())) == {
        Region(0, 0x9FC00, "System RAM"),
        Region(1 << 32, 0x640000000, "System RAM"),
        Region(0xFFFC0000, 1 << 32, "Reserved"),
    }


def test_memory__kernel_without_a_map__empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "_SYS", tmp_path)
    assert host.memory() == []
