"""Encryption of a Node's own database at rest, body by body."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from nodeclient.errors import SealrunError

NONCE = 12

STORE_KEY = "store.key"  # the file of its key in a Node's folder, sealed under the same label


class StoreUnreadable(SealrunError):
    """The database and its key do not belong together, or a row is damaged."""


class Cover:
    """Encrypts bodies at rest: ChaCha20-Poly1305, a fresh nonce per write, bound to the table."""

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)

    def put(self, table: bytes, body: bytes) -> bytes:
        """nonce ‖ ciphertext."""
        nonce = os.urandom(NONCE)
        return nonce + self._cipher.encrypt(nonce, body, table)

    def take(self, table: bytes, covered: bytes) -> bytes:
        """The body again. Raises StoreUnreadable: another key's, another table's, or damaged."""
        try:
            return self._cipher.decrypt(covered[:NONCE], covered[NONCE:], table)
        except (InvalidTag, ValueError) as error:
            raise StoreUnreadable(
                f"store: a row of {table.decode()} does not open", "restore node.db and store.key"
            ) from error
