"""RAM disks: bounded, without execution, wiped whatever a function left in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent import loops, mapper
from agent.disks import CONTAINER_UID, Numbers, unmount
from agent.scratch import ScratchError, Wiped, make_scratch, mounted_under, wipe_tree


def test_mount__then_erase__nothing_left(tmp_path: Path) -> None:
    scratch = make_scratch(tmp_path / "scratch", sealed=False)
    scratch.mount(16 << 20, 4 << 20, ["first"])
    try:
        options = {
            line.split()[4]: line for line in Path("/proc/self/mountinfo").read_text().splitlines()
        }
        assert {"noexec", "nosuid", "nodev"} <= set(options[str(scratch.out)].split()[5].split(","))
        assert "size=4096k" in options[str(scratch.out)]
        assert (scratch.out / "first").stat().st_uid == CONTAINER_UID
        assert scratch.folder.stat().st_mode & 0o777 == 0o700
        (scratch.inputs / "one").write_bytes(b"secret")
    finally:
        wiped = scratch.erase()
    assert wiped == Wiped(files=1, bytes=6, keys=0)
    assert scratch.gone
    assert mounted_under(tmp_path) == []


def test_erase__never_mounted__is_fine(tmp_path: Path) -> None:
    scratch = make_scratch(tmp_path / "scratch", sealed=False)
    assert scratch.erase() == Wiped(0, 0, 0)
    assert scratch.gone


def test_wipe__content_is_overwritten_before_it_is_unlinked(tmp_path: Path) -> None:
    """An open handle still reads the pages of an unlinked file."""
    (tmp_path / "a").write_bytes(b"secret" * 1000)
    with (tmp_path / "a").open("rb") as kept:
        assert wipe_tree(tmp_path) == (1, 6000)
        assert kept.read() == bytes(6000)
    assert list(tmp_path.iterdir()) == []


def test_wipe__folders_nested_beyond_any_path__removed(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):  # beyond Python's recursion and, by name, beyond PATH_MAX
        os.mkdir("nested-folder", dir_fd=here)
        inner = os.open("nested-folder", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    handle = os.open("secret", os.O_WRONLY | os.O_CREAT, dir_fd=here)
    os.write(handle, b"secret")
    os.close(handle)
    os.close(here)
    assert wipe_tree(tmp_path) == (1, 6)
    assert list(tmp_path.iterdir()) == []


def test_wipe__links_and_pipes__removed_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"keep")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    (inside / "folder").symlink_to(tmp_path)
    os.mkfifo(inside / "pipe")
    assert wipe_tree(inside) == (0, 0)
    assert outside.read_bytes() == b"keep"


def test_mount__work_larger_than_the_bound__write_fails(tmp_path: Path) -> None:
    scratch = make_scratch(tmp_path / "scratch", sealed=False)
    scratch.mount(1 << 20, 1 << 20, [])
    try:
        with pytest.raises(OSError, match="No space"):
            (scratch.inputs / "one").write_bytes(bytes(2 << 20))
    finally:
        scratch.erase()


def test_claim__ram_disk__says_that_nothing_is_encrypted(tmp_path: Path) -> None:
    scratch = make_scratch(tmp_path / "scratch", sealed=False)
    claim = {"kind": "tmpfs", "cipher": "", "key_bits": 0, "devices": []}
    assert scratch.claim() == claim
    assert not scratch.sealed


def test_sealed__host_without_a_device_mapper__typed_error_and_nothing_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A boot image never falls back to a RAM disk in clear."""
    monkeypatch.setattr(mapper, "CONTROL", tmp_path / "none")
    scratch = make_scratch(tmp_path / "scratch", sealed=True)
    monkeypatch.setattr(scratch.disks, "_numbers", Numbers("test", (96, 97), (96, 97)))
    try:
        with pytest.raises(ScratchError, match="no device mapper"):
            scratch.mount(1 << 20, 1 << 20, [])
    finally:
        for point in mounted_under(scratch.backing):
            unmount(point)
    assert loops.is_free(96)
