"""Encrypted block devices of the kernel's device mapper, made by its ioctls alone.

The key is drawn into a buffer that only this process has, goes to the kernel once, and is
overwritten at once; no program, file, environment or command line ever holds it. From then on it
is in the kernel only, which overwrites it when the mapping is removed: what was written through
the mapping can then be read by nobody, wherever its bytes still lie.

Source: linux/dm-ioctl.h; Documentation/admin-guide/device-mapper/dm-crypt.rst.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONTROL = Path("/dev/mapper/control")
CIPHER = "aes-xts-plain64"
KEY_BYTES = 64  # two AES-256 keys: XTS takes one for the data and one for the place
SECTOR = 512
_BLOCK = 4096  # encrypted at once, which costs an eighth of what 512 bytes cost
_OPTIONS = f"2 allow_discards sector_size:{_BLOCK}"  # a file that is deleted gives its RAM back

_HEADER = struct.Struct("=3IIIIiIIIQ128s129s7x")  # struct dm_ioctl
_TARGET = struct.Struct("=QQiI16s")  # struct dm_target_spec
_VERSION = (4, 0, 0)
_CREATE, _REMOVE, _SUSPEND, _STATUS, _LOAD, _TABLE = 3, 4, 6, 7, 9, 12  # DM_*_CMD
_PERSISTENT, _SECURE = 1 << 3, 1 << 15  # DM_PERSISTENT_DEV_FLAG, DM_SECURE_DATA_FLAG
_ACTIVE = 1 << 5  # DM_ACTIVE_PRESENT_FLAG
_BUSY_TRIES = 100  # of 0.1 s: what just closed it may still be closing
_DIGITS = b"0123456789abcdef"
# bytes of an order: above 1,024, since `fcntl.ioctl` leaves a copy of a shorter one on its stack
_ROOM = 2048


class MapperError(Exception):
    """The device mapper refused."""


def create(name: str, minor: int, backing: Path, size: int) -> None:
    """Make the encrypted device `name`, `/dev/dm-<minor>`, over `size` bytes of `backing`.

    Its key is random and known to the kernel alone. Raises MapperError; nothing is left then.
    """
    head = _call(_CREATE, request(_CREATE, name, flags=_PERSISTENT, minor=minor))
    device = _HEADER.unpack_from(head)[10]
    try:
        if _minor(device) != minor:
            raise MapperError(f"{name} is device {_minor(device)}, not {minor}; boot again")
        table = crypt_table(name, backing, size)
        try:
            _call(_LOAD, table)
        finally:
            table[:] = bytes(len(table))
        _call(_SUSPEND, request(_SUSPEND, name))  # without its flag this resumes
    except BaseException:
        remove(name)
        raise


def remove(name: str) -> bool:
    """Remove a device and with it its key; False if there is none. Raises MapperError."""
    for left in range(_BUSY_TRIES, -1, -1):
        try:
            _call(_REMOVE, request(_REMOVE, name))
        except _NoDevice:
            return False
        except _Busy:
            if not left:
                raise
            time.sleep(0.1)
        else:
            return True
    return False


def is_crypt(name: str) -> bool:
    """Whether `name` is there, in use, and one encrypted device; the key is not asked for."""
    try:
        answer = _call(_TABLE, request(_TABLE, name))
    except _NoDevice:
        return False
    fields = _HEADER.unpack_from(answer)
    start, targets, flags = fields[4], fields[5], fields[7]
    if targets != 1 or not flags & _ACTIVE or start + _TARGET.size > len(answer):
        return False
    kind: bytes = _TARGET.unpack_from(answer, start)[4]
    return kind.rstrip(b"\0") == b"crypt"


def exists(name: str) -> bool:
    """Whether there is a device of this name, whatever it is. Raises MapperError."""
    try:
        _call(_STATUS, request(_STATUS, name))
    except _NoDevice:
        return False
    return True


def name_of(minor: int) -> str:
    """The name of a device, or nothing if there is none."""
    try:
        return Path(f"/sys/block/dm-{minor}/dm/name").read_text().rstrip("\n")
    except OSError:
        return ""


def request(command: int, name: str, *, flags: int = 0, minor: int = 0) -> bytearray:
    """A `struct dm_ioctl` with room for what belongs to it, either way."""
    device = (minor & 0xFF) | (minor >> 8) << 20  # the kernel replaces the major number
    targets = 1 if command == _LOAD else 0
    order = bytearray(_ROOM)
    fields = (*_VERSION, _ROOM, _HEADER.size, targets, 0, flags, 0, 0, device)
    _HEADER.pack_into(order, 0, *fields, name.encode(), b"")
    return order


def crypt_table(name: str, backing: Path, size: int) -> bytearray:
    """The order to encrypt `size` bytes (of whole blocks) of `backing` under a fresh key.

    The caller overwrites it: it holds the key.
    """
    if size <= 0 or size % _BLOCK:
        raise MapperError(f"{size} bytes are no whole blocks; report this as a fault")
    before, after = f"{CIPHER} ".encode(), f" 0 {backing} 0 {_OPTIONS}\0".encode()
    order = request(_LOAD, name, flags=_SECURE)
    _TARGET.pack_into(order, _HEADER.size, 0, size // SECTOR, 0, 0, b"crypt")
    key = _HEADER.size + _TARGET.size + len(before)
    order[key - len(before) : key] = before
    order[key + 2 * KEY_BYTES : key + 2 * KEY_BYTES + len(after)] = after
    if len(order) != _ROOM:
        raise MapperError(f"{backing} is too long a name; report this as a fault")
    _draw_key(order, key)
    return order


def _draw_key(order: bytearray, at: int) -> None:
    """Write a fresh key into `order` at `at`, as hexadecimal digits, and nowhere else."""
    key = bytearray(KEY_BYTES)
    with open("/dev/urandom", "rb", buffering=0) as source:
        if source.readinto(key) != KEY_BYTES:
            raise MapperError("no random numbers; boot again")
    for place, value in enumerate(key):
        order[at + 2 * place] = _DIGITS[value >> 4]
        order[at + 2 * place + 1] = _DIGITS[value & 15]
    key[:] = bytes(KEY_BYTES)


class _NoDevice(MapperError):
    """No device of that name."""


class _Busy(MapperError):
    """The device is in use."""


def _call(command: int, order: bytearray) -> bytearray:
    """Give an order; the same buffer holds the answer. Raises MapperError."""
    number = 3 << 30 | _HEADER.size << 16 | 0xFD << 8 | command  # _IOWR(DM_IOCTL, command, …)
    with _opened() as handle:
        try:
            fcntl.ioctl(handle, number, order, True)
        except OSError as error:
            kind = {errno.ENXIO: _NoDevice, errno.EBUSY: _Busy}.get(error.errno or 0, MapperError)
            raise kind(f"device mapper: {error.strerror}; boot the Machine again") from error
    return order


@contextmanager
def _opened() -> Iterator[int]:
    try:
        handle = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise MapperError(f"no device mapper ({error.strerror}); boot another image") from error
    try:
        yield handle
    finally:
        os.close(handle)


def _minor(device: int) -> int:
    """Of a device number as `huge_encode_dev` writes it."""
    return (device & 0xFF) | (device >> 12 & 0xFFF00)
