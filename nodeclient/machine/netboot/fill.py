"""The fill of one erasure: a key stream, and two tags over it, in parts and never kept."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.poly1305 import Poly1305

from agent.formats.erasure import KEYS, MAX_FILL

PART = 1 << 20  # bytes: what is in memory at a time
_NONCE = bytes(16)  # a seed is used once; its counter begins at 0 (RFC 8439, §2.4)


class Fill:
    """`size` bytes of the ChaCha20 key stream of `seed` (32 bytes); `keys`: two of Poly1305.

    `parts` gives all of it once; `tags` (32 bytes) are right after the last part.
    """

    def __init__(self, seed: bytes, keys: bytes, size: int) -> None:
        if len(seed) != 32 or len(keys) != KEYS or not 0 < size <= MAX_FILL:
            raise ValueError("a fill has a seed of 32 bytes, two keys and some bytes")
        self._stream = Cipher(ChaCha20(seed, _NONCE), mode=None).encryptor()
        self._macs = (Poly1305(keys[:32]), Poly1305(keys[32:]))
        self._size = size

    def parts(self) -> Iterator[bytes]:
        """PART bytes after another; the last may be shorter."""
        zeros = bytes(PART)
        for at in range(0, self._size, PART):
            part = self._stream.update(zeros[: self._size - at])
            for mac in self._macs:
                mac.update(part)
            yield part

    def tags(self) -> bytes:
        """Both tags over all parts. Callable once."""
        return b"".join(mac.finalize() for mac in self._macs)
