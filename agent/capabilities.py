"""Rights that a process gives up for itself and for all that it will start (capabilities(7))."""

from __future__ import annotations

import ctypes
import os

SYS_TIME = 25  # set the clock
_DROP_BOUND = 24  # PR_CAPBSET_DROP of prctl(2)
_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: two words of 32 rights each


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def drop(right: int) -> None:
    """Give up `right` for good, over every `exec`, too. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.prctl(_DROP_BOUND, right, 0, 0, 0))  # before the rest: it takes another right
    header, data = _Header(_VERSION, 0), (_Data * 2)()
    _check(libc.capget(ctypes.byref(header), data))
    word, keep = right // 32, ~(1 << right % 32)
    data[word].effective &= keep
    data[word].permitted &= keep
    data[word].inheritable &= keep
    _check(libc.capset(ctypes.byref(header), data))


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
