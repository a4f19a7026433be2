"""Secrets in memory: on pages of their own that never reach a disk, overwritten after use.

A page is locked (no swap), left out of core dumps and emptied in a child process. Where the
platform refuses to lock (``ulimit -l``), the secret is kept all the same, and the log says so once.

What this cannot do: Python's ``bytes`` cannot be overwritten. Whoever needs a secret as ``bytes``
takes a copy with ``reveal`` and keeps it as short as it can. The interpreter frees that copy
without clearing it, and libraries make copies of their own; OpenSSL clears its own.
"""

from __future__ import annotations

import ctypes
import hmac
import logging
import mmap
import threading
from typing import Final

log = logging.getLogger(__name__)

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mlock.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.munlock.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_WIPE_ON_FORK: Final = 18  # MADV_WIPEONFORK of madvise(2); Python's mmap has no name for it
_told = threading.Event()


class Wiped(ValueError):
    """A secret that was dropped is asked for."""


class Secret:
    """One secret. It shows in no repr, and two of them are compared in constant time."""

    def __init__(self, content: bytes) -> None:
        self._size = len(content)
        # Private: of shared pages a child would have the content.
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._pages = mmap.mmap(-1, max(1, self._size), flags=private)
        # An exported buffer keeps the pages where they are: their address stays good.
        self._view: ctypes.Array[ctypes.c_char] | None = (
            ctypes.c_char * len(self._pages)
        ).from_buffer(self._pages)
        self._address = ctypes.addressof(self._view)
        self.locked = _lock(self._address, len(self._pages))
        for advice in (mmap.MADV_DONTDUMP, _WIPE_ON_FORK):
            _advise(self._pages, advice)
        self._pages[: self._size] = content

    @classmethod
    def take(cls, content: bytearray) -> Secret:
        """Keep what is in ``content``, and overwrite that."""
        kept = cls(bytes(content))
        wipe(content)
        return kept

    def reveal(self) -> bytes:
        """A copy, which cannot be cleared: keep it short. Raises Wiped."""
        if self._view is None:
            raise Wiped("the secret was dropped; start the node again")
        return self._pages[: self._size]

    def wipe(self) -> None:
        """Overwrite it, and give the pages back. Harmless twice."""
        if self._view is None:
            return
        ctypes.memset(self._address, 0, len(self._pages))
        if self.locked:
            _libc.munlock(self._address, len(self._pages))
        self._view = None
        self._pages.close()

    @property
    def wiped(self) -> bool:
        """Whether it is gone."""
        return self._view is None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.reveal(), other.reveal())

    __hash__ = None  # type: ignore[assignment]  # a hash of a secret would speak of it

    def __repr__(self) -> str:
        return "Secret(wiped)" if self.wiped else "Secret(…)"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not written out")

    def __del__(self) -> None:
        if hasattr(self, "_view"):
            self.wipe()


def wipe(buffer: bytearray) -> None:
    """Overwrite a buffer in place."""
    if buffer:
        ctypes.memset((ctypes.c_char * len(buffer)).from_buffer(buffer), 0, len(buffer))


def _lock(address: int, size: int) -> bool:
    """mlock(2); False where the platform does not allow it, which is logged once."""
    if _libc.mlock(address, size) == 0:
        return True
    if not _told.is_set():
        _told.set()
        log.warning(
            "secrets cannot be locked into memory (%s); raise `ulimit -l` or turn swap off",
            ctypes.get_errno(),
        )
    return False


def _advise(pages: mmap.mmap, advice: int) -> None:
    """madvise(2); an old kernel may not know it."""
    try:
        pages.madvise(advice)
    except OSError:
        log.debug("madvise %d is unknown here", advice)
