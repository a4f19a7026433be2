"""Orders to the device mapper and loop devices; `tests/images/test_guest_scratch.py` has them
carried out by the boot image's kernel.
"""

from __future__ import annotations

import fcntl
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import loops, mapper
from agent.mapper import KEY_BYTES, MapperError, crypt_table

NUMBER = 95  # no other test's, and not the Agent's


def test_crypt_table__fields__as_the_kernels_header_lays_them_out() -> None:
    """Offsets of struct dm_ioctl and dm_target_spec, taken from a C compiler (x86-64)."""
    order = crypt_table("sealrun-out", Path("/dev/loop7"), 8 << 20)
    size, start, targets, _, flags = struct.unpack_from("=IIIiI", order, 12)
    assert (size, start, targets) == (len(order), 312, 1)
    assert flags == 1 << 15  # DM_SECURE_DATA_FLAG: the kernel overwrites its own copy
    assert order[48:176].rstrip(b"\0") == b"sealrun-out"
    sector, length, _, _, kind = struct.unpack_from("=QQiI16s", order, 312)
    assert (sector, length, kind.rstrip(b"\0")) == (0, (8 << 20) // 512, b"crypt")
    words = bytes(order[352:]).split(b"\0", 1)[0].decode().split()
    assert words[0] == "aes-xts-plain64"
    assert words[2:] == ["0", "/dev/loop7", "0", "2", "allow_discards", "sector_size:4096"]
    assert len(bytes.fromhex(words[1])) == KEY_BYTES == 64


def test_crypt_table__again__another_key() -> None:
    first, again = (crypt_table("a", Path("/dev/loop7"), 4096) for _ in range(2))
    assert first != again


@pytest.mark.parametrize("size", [0, -4096, 4095, 512])
def test_crypt_table__no_whole_blocks__refused(size: int) -> None:
    with pytest.raises(MapperError, match="whole blocks"):
        crypt_table("a", Path("/dev/loop7"), size)


def test_crypt_table__name_that_does_not_fit__refused() -> None:
    with pytest.raises(MapperError, match="too long"):
        crypt_table("a", Path("/dev/" + "x" * 4000), 4096)


class Kernel:
    """Answers ioctls as the device mapper does, and keeps what it was given."""

    def __init__(self, fail: int | None = None) -> None:
        self.orders: list[tuple[int, bytes]] = []
        self.buffers: list[bytearray] = []
        self._fail = fail

    def ioctl(self, _handle: int, number: int, order: bytearray, _mutate: bool) -> int:
        assert number >> 8 == 0xC138FD  # _IOWR(0xfd, …, struct dm_ioctl)
        assert len(order) > 1024  # a shorter one is copied to the stack by Python
        self.orders.append((number & 0xFF, bytes(order)))
        self.buffers.append(order)
        if number & 0xFF == self._fail:
            raise OSError(22, "Invalid argument")
        return 0


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "control"
    file.touch()
    monkeypatch.setattr(mapper, "CONTROL", file)


def test_create__made_loaded_resumed__and_the_key_overwritten(
    control: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel()
    monkeypatch.setattr(fcntl, "ioctl", kernel.ioctl)
    mapper.create("sealrun-work", 1, Path("/dev/loop6"), 1 << 20)
    assert [command for command, _ in kernel.orders] == [3, 9, 6]  # create, load table, resume
    assert struct.unpack_from("=I", kernel.orders[0][1], 28)[0] == 1 << 3  # this minor and no other
    assert struct.unpack_from("=Q", kernel.orders[0][1], 40)[0] == 1
    assert b"aes-xts-plain64" in kernel.orders[1][1]
    assert kernel.buffers[1] == bytes(len(kernel.buffers[1]))


def test_create__table_refused__key_overwritten_and_device_removed(
    control: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(fail=9)
    monkeypatch.setattr(fcntl, "ioctl", kernel.ioctl)
    with pytest.raises(MapperError, match="Invalid argument"):
        mapper.create("sealrun-work", 0, Path("/dev/loop6"), 1 << 20)
    assert [command for command, _ in kernel.orders] == [3, 9, 4]  # create, load table, remove
    assert kernel.buffers[1] == bytes(len(kernel.buffers[1]))


def test_create__no_device_mapper__typed_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapper, "CONTROL", tmp_path / "none")
    with pytest.raises(MapperError, match="no device mapper"):
        mapper.create("sealrun-work", 0, Path("/dev/loop6"), 4096)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "disk"
    file.write_bytes(b"content-" * 1024)
    yield file
    loops.detach(NUMBER)


def test_loop__attached__shows_the_file_and_lets_go_by_itself(file: Path) -> None:
    with loops.attached(NUMBER, file) as device:
        assert loops.backing(NUMBER) == str(file)
        assert device.read_bytes() == file.read_bytes()
    assert loops.is_free(NUMBER)


def test_loop__somebody_elses__refused(file: Path) -> None:
    with (
        loops.attached(NUMBER, file),
        pytest.raises(loops.LoopError, match="cannot be had"),
        loops.attached(NUMBER, file),
    ):
        pass
    assert loops.is_free(NUMBER)


def test_loop__still_open__says_so_and_goes_when_it_is_closed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "_TRIES", 2)
    with loops.attached(NUMBER, file) as device, device.open("rb"):
        with pytest.raises(loops.LoopError, match="does not let go"):
            loops.detach(NUMBER)
        assert loops.backing(NUMBER) == str(file)
    assert loops.is_free(NUMBER)
    loops.detach(NUMBER)  # there is nothing to do, and that is fine
