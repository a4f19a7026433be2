"""Loop devices: a file as a block device, by number, made by ioctls alone.

Each lets go of its file by itself once nobody has it open: an Agent that is killed leaves none
behind. Source: linux/loop.h, loop(4).
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

_CONTROL = Path("/dev/loop-control")
_ADD, _CONFIGURE, _CLEAR = 0x4C80, 0x4C0A, 0x4C01  # LOOP_CTL_ADD, LOOP_CONFIGURE, LOOP_CLR_FD
_AUTOCLEAR = 4  # LO_FLAGS_AUTOCLEAR
_CONFIG = struct.Struct("=II52xI176x64x")  # struct loop_config, of loop_info64 its lo_flags only
_BLOCK = 4096
_TRIES = 50  # of 0.1 s


class LoopError(Exception):
    """A loop device cannot be had."""


def node(number: int) -> Path:
    """Its device file."""
    return Path(f"/dev/loop{number}")


@contextmanager
def attached(number: int, file: Path) -> Iterator[Path]:
    """The loop device `number` over `file`; it stays for as long as anybody has it open.

    Raises LoopError: also if that device is somebody else's.
    """
    _make_node(number)
    with _opened(node(number)) as device, _opened(file) as backing:
        config = _CONFIG.pack(backing, _BLOCK, _AUTOCLEAR)
        try:
            fcntl.ioctl(device, _CONFIGURE, config)
        except OSError as error:
            why = error.strerror
            raise LoopError(f"loop{number} cannot be had ({why}); boot again") from error
        yield node(number)


def detach(number: int) -> None:
    """Let go of the file, if there is one, and wait until that is done. Raises LoopError."""
    if is_free(number):
        return
    with _opened(node(number)) as device:
        try:
            fcntl.ioctl(device, _CLEAR)
        except OSError as error:
            if error.errno != errno.ENXIO:  # let go meanwhile, by itself
                raise LoopError(f"loop{number} is in use ({error.strerror}); boot again") from error
    for _ in range(_TRIES):
        if is_free(number):
            return
        time.sleep(0.1)
    raise LoopError(f"loop{number} does not let go of its file; boot again")


def is_free(number: int) -> bool:
    """Whether no file is attached."""
    return backing(number) == ""


def backing(number: int) -> str:
    """The attached file's name, or nothing."""
    try:
        return Path(f"/sys/block/loop{number}/loop/backing_file").read_text().rstrip("\n")
    except OSError:
        return ""


def _make_node(number: int) -> None:
    if node(number).exists():
        return
    with _opened(_CONTROL) as control:
        try:
            fcntl.ioctl(control, _ADD, number)
        except OSError as error:
            if error.errno != errno.EEXIST:
                why = error.strerror
                raise LoopError(f"loop{number} cannot be made ({why}); boot again") from error


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise LoopError(f"{path} cannot be opened ({error.strerror}); boot again") from error
    try:
        yield handle
    finally:
        os.close(handle)
