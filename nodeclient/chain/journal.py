"""The sender's journal on SQLite, for scripts and tools that have no store of their own.

Same contract as `nodeclient.ports.Journal`: an attempt is durable before it is sent, and it is
kept after `finish`. An order that is asked for again after a crash must find its old transaction.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

_TABLE = """
CREATE TABLE IF NOT EXISTS sent (
    key TEXT PRIMARY KEY,
    nonce INTEGER NOT NULL,
    tx_hash BLOB NOT NULL,
    raw BLOB NOT NULL,
    finished INTEGER NOT NULL DEFAULT 0
) STRICT
"""


class SqliteJournal:
    """A `Journal` in one file, or in memory with ":memory:". One writer at a time."""

    def __init__(self, path: Path | str) -> None:
        """Opens (and creates) the file. Raises `sqlite3.Error`."""
        self._db = sqlite3.connect(str(path), isolation_level=None)
        # FULL: an attempt that was sent must survive a power cut, or it could be sent twice.
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(_TABLE)

    def load(self, key: str) -> tuple[int, bytes, bytes] | None:
        """(nonce, tx hash, raw attempts) of an order, finished or not; None if never signed."""
        row = self._db.execute("SELECT nonce, tx_hash, raw FROM sent WHERE key = ?", (key,))
        found: tuple[int, bytes, bytes] | None = row.fetchone()
        return found

    def save(self, key: str, nonce: int, tx_hash: bytes, raw: bytes) -> None:
        """Durable when it returns. Replaces what stood under the key."""
        self._db.execute(
            "INSERT OR REPLACE INTO sent (key, nonce, tx_hash, raw) VALUES (?, ?, ?, ?)",
            (key, nonce, tx_hash, raw),
        )

    def next_nonce(self, chain_nonce: int) -> int:
        """The lowest nonce from `chain_nonce` on that no unfinished order holds."""
        rows = self._db.execute(
            "SELECT nonce FROM sent WHERE finished = 0 AND nonce >= ?", (chain_nonce,)
        )
        held = {int(row[0]) for row in rows}
        nonce = chain_nonce
        while nonce in held:
            nonce += 1
        return nonce

    def finish(self, key: str) -> None:
        """The order is mined or given up; the row stays, its nonce is no longer reserved."""
        self._db.execute("UPDATE sent SET finished = 1 WHERE key = ?", (key,))

    def close(self) -> None:
        """Close the file."""
        self._db.close()
