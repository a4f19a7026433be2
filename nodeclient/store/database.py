"""The Node's memory: one SQLite file, one transaction per event.

``apply`` writes what an event did: the Case, the outbox rows that it ordered, the row that it
closed and the cursor, together or not at all. After SIGKILL the file holds the last committed
event, and the outbox exactly what is still to be done.

Cases, orders, Evidence and the journal speak of TaskSpecs, which are nobody else's: their bodies
are encrypted under a key that only the root opens. Secrets proper (journalled content keys, resume
records) are sealed before they come here.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodeclient.core import actions
from nodeclient.core.actions import Action, Reply
from nodeclient.core.case import Case
from nodeclient.core.images import ImageKind
from nodeclient.core.task import wakes
from nodeclient.core.types import BlockRef, Commitment, TaskId
from nodeclient.store.cover import Cover
from nodeclient.store.endings import ENDS_WITH_TASK
from nodeclient.store.freezing import freeze, row_key, thaw

CASES, OUTBOX, BLOBS, JOURNAL = b"cases", b"outbox", b"blobs", b"journal"

END_OF_BLOCK = 2**31 - 1  # beyond any log index: the whole block is applied
KEPT_BLOCKS = 256  # hashes of heads: a reorganisation below the oldest is told from the deployment
KEPT_PROOFS = 1_000  # endorsements of others' TPMs, some 3 KB each; an older one is asked for again
KEPT_NOTES = 20_000  # lines of the journal: peers cause some, so there must be an end
SCHEMA = """
CREATE TABLE IF NOT EXISTS cases (
    commitment BLOB PRIMARY KEY, task INTEGER UNIQUE, open INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS open_cases ON cases (open);
CREATE TABLE IF NOT EXISTS outbox (
    key BLOB PRIMARY KEY, commitment BLOB NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'done', 'cancelled')));
CREATE INDEX IF NOT EXISTS pending ON outbox (status);
CREATE TABLE IF NOT EXISTS blocks (number INTEGER PRIMARY KEY, hash BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS cursor (one INTEGER PRIMARY KEY CHECK (one = 1), block INTEGER NOT NULL,
    log_index INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS transactions (
    key TEXT PRIMARY KEY, nonce INTEGER NOT NULL, hash BLOB NOT NULL, raw BLOB NOT NULL,
    finished INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS blobs (key TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    commitment BLOB NOT NULL, member BLOB NOT NULL, nonce BLOB NOT NULL, root BLOB NOT NULL,
    PRIMARY KEY (commitment, member, nonce));
CREATE TABLE IF NOT EXISTS uses (policy TEXT NOT NULL, commitment BLOB NOT NULL,
    PRIMARY KEY (policy, commitment));
CREATE TABLE IF NOT EXISTS numbers (
    one INTEGER PRIMARY KEY CHECK (one = 1), next INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS proofs (
    node BLOB NOT NULL, attestation_key BLOB NOT NULL, endorsement BLOB NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (node, attestation_key));
CREATE TABLE IF NOT EXISTS tpms (attestation_key BLOB PRIMARY KEY, facts BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS loads (
    image BLOB PRIMARY KEY, kind INTEGER NOT NULL, reported INTEGER NOT NULL DEFAULT 0,
    newest INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS boots (id INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE IF NOT EXISTS journal (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, commitment BLOB, what BLOB NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An action that is still to be done. ``key`` is the digest of what it says."""

    key: bytes
    action: Action


class Store:
    """Synchronous on purpose: every call is a few rows of a local file."""

    def __init__(self, path: Path, key: bytes) -> None:
        """``key``: 32 bytes that cover the bodies."""
        self._cover = Cover(key)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # ------------------------------------------------------------------------------- cases

    def case(self, commitment: Commitment) -> Case | None:
        """The Case of a commitment."""
        row = self._one("SELECT body FROM cases WHERE commitment = ?", commitment)
        return self._case(row[0]) if row else None

    def case_of(self, task: TaskId) -> Case | None:
        """The Case of a task id."""
        row = self._one("SELECT body FROM cases WHERE task = ?", task)
        return self._case(row[0]) if row else None

    def open_cases(self) -> list[Case]:
        """Cases that a new block can still change."""
        rows = self._all("SELECT body FROM cases WHERE open = 1 ORDER BY task")
        return [self._case(body) for (body,) in rows]

    def cases(self, limit: int = 100) -> list[Case]:
        """The newest Cases."""
        rows = self._all("SELECT body FROM cases ORDER BY rowid DESC LIMIT ?", limit)
        return [self._case(body) for (body,) in rows]

    def known(self) -> int:
        """How many Cases there are."""
        return int(self._one("SELECT count(*) FROM cases")[0])

    def _case(self, covered: bytes) -> Case:
        found: Case = thaw(Case, self._cover.take(CASES, covered))
        return found

    # ------------------------------------------------------------------------------ events

    def apply(
        self,
        changed: Case | None,
        ordered: Iterable[Action],
        closes: bytes | None = None,
        cursor: tuple[int, int] | None = None,
    ) -> list[OutboxRow]:
        """One event's effect, atomically. Returns the rows that are new.

        ``closes`` is the key of the outbox row that the event is the outcome of; ``cursor`` the
        (block, log index) of a chain event. A Case whose Task is over loses its pending rows
        except the new ones.
        """
        fresh: list[OutboxRow] = []
        with self._lock, self._transaction():
            if changed is not None:
                self._put_case(changed)
            if closes is not None:
                # The key stays, so that the same order is not done again; its body (Evidence has
                # up to 4 MiB) is needed no more.
                self._db.execute(
                    "UPDATE outbox SET status = 'done', body = x'' WHERE key = ?", (closes,)
                )
            for action in ordered:
                if not isinstance(action, Reply) and (row := self._put_row(action)):
                    fresh.append(row)
            if cursor is not None:
                self._db.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?, ?)", cursor)
        return fresh

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def _put_case(self, case: Case) -> None:
        task = case.task.id if case.task else None
        self._db.execute(
            "INSERT INTO cases VALUES (?, ?, ?, ?) ON CONFLICT (commitment) DO UPDATE SET"
            " task = excluded.task, open = excluded.open, body = excluded.body",
            (case.commitment, task, int(wakes(case)), self._cover.put(CASES, freeze(case))),
        )
        if case.over:
            self._db.executemany(
                "UPDATE outbox SET status = 'cancelled', body = x'' WHERE status = 'pending'"
                " AND commitment = ? AND kind = ?",
                [(case.commitment, kind.__name__) for kind in ENDS_WITH_TASK],
            )

    def _put_row(self, action: Action) -> OutboxRow | None:
        key, kind = row_key(action), type(action).__name__
        done = self._db.execute(
            "INSERT OR IGNORE INTO outbox VALUES (?, ?, ?, ?, 'pending')",
            (key, action.commitment, kind, self._cover.put(OUTBOX, freeze(action))),
        )
        return OutboxRow(key, action) if done.rowcount else None

    def pending(self) -> list[OutboxRow]:
        """What is still to be done, oldest first."""
        rows = self._all(
            "SELECT key, kind, body FROM outbox WHERE status = 'pending' ORDER BY rowid"
        )
        return [
            OutboxRow(key, thaw(getattr(actions, kind), self._cover.take(OUTBOX, body)))
            for key, kind, body in rows
        ]

    def waiting_for(self, kind: type[Action]) -> list[Commitment]:
        """Commitments with an order of this kind that is still to be done."""
        rows = self._all(
            "SELECT commitment FROM outbox WHERE status = 'pending' AND kind = ?", kind.__name__
        )
        return [commitment for (commitment,) in rows]

    def is_pending(self, key: bytes) -> bool:
        """False when the row was closed or cancelled meanwhile."""
        return (
            self._one("SELECT 1 FROM outbox WHERE key = ? AND status = 'pending'", key) is not None
        )

    def reach(self, block: BlockRef) -> None:
        """Every event up to this head is applied. Its hash shows, after a restart, whether the
        chain was reorganised meanwhile."""
        with self._lock, self._transaction():
            place = (block.number, END_OF_BLOCK)
            self._db.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?, ?)", place)
            self._db.execute(
                "INSERT OR REPLACE INTO blocks VALUES (?, ?)", (block.number, block.hash)
            )
            self._db.execute(
                "DELETE FROM blocks WHERE number NOT IN"
                " (SELECT number FROM blocks ORDER BY number DESC LIMIT ?)",
                (KEPT_BLOCKS,),
            )

    def rewind(self, to_block: int) -> None:
        """What lies above is told again."""
        with self._lock, self._transaction():
            place = (to_block, END_OF_BLOCK)
            self._db.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?, ?)", place)
            self._db.execute("DELETE FROM blocks WHERE number > ?", (to_block,))

    def blocks(self) -> list[BlockRef]:
        """The newest heads that were reached, oldest first."""
        rows = self._all("SELECT number, hash FROM blocks ORDER BY number")
        return [BlockRef(number, block_hash) for number, block_hash in rows]

    def cursor(self) -> tuple[int, int] | None:
        """(block, log index) of the last chain event that was applied."""
        row = self._one("SELECT block, log_index FROM cursor")
        return (row[0], row[1]) if row else None

    # ------------------------------------------------------------- the sender's journal (ports)

    def load(self, key: str) -> tuple[int, bytes, bytes] | None:
        """See ``ports.Journal``."""
        row = self._one("SELECT nonce, hash, raw FROM transactions WHERE key = ?", key)
        return (row[0], row[1], row[2]) if row else None

    def save(self, key: str, nonce: int, tx_hash: bytes, raw: bytes) -> None:
        """See ``ports.Journal``."""
        self._run(
            "INSERT OR REPLACE INTO transactions VALUES (?, ?, ?, ?, 0)", key, nonce, tx_hash, raw
        )

    def next_nonce(self, chain_nonce: int) -> int:
        """See ``ports.Journal``."""
        rows = self._all(
            "SELECT nonce FROM transactions WHERE finished = 0 AND nonce >= ?", chain_nonce
        )
        taken = {nonce for (nonce,) in rows}
        nonce = chain_nonce
        while nonce in taken:
            nonce += 1
        return nonce

    def finish(self, key: str) -> None:
        """See ``ports.Journal``."""
        self._run("UPDATE transactions SET finished = 1 WHERE key = ?", key)

    # ------------------------------------------------------------------ Evidence, answers, uses

    def put_blob(self, key: str, body: bytes) -> None:
        """Keep bytes under a name; the first ones stay."""
        covered = self._cover.put(BLOBS, body)
        self._run("INSERT OR IGNORE INTO blobs VALUES (?, ?)", key, covered)

    def blob(self, key: str) -> bytes | None:
        """Bytes kept under a name."""
        row = self._one("SELECT body FROM blobs WHERE key = ?", key)
        return self._cover.take(BLOBS, row[0]) if row else None

    def add_answer(self, commitment: Commitment, member: bytes, nonce: bytes, root: bytes) -> None:
        """Remember an answer that the Machine gave to a member during the run."""
        self._run(
            "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?)", commitment, member, nonce, root
        )

    def answers(self, commitment: Commitment) -> list[tuple[bytes, bytes, bytes]]:
        """(member, nonce, evidence root) of the run, in a fixed order."""
        return self._all(
            "SELECT member, nonce, root FROM answers WHERE commitment = ? ORDER BY member, nonce",
            commitment,
        )

    def put_proof(self, node: bytes, attestation_key: bytes, endorsement: bytes, at: float) -> None:
        """A Node's TPM proved, at ``at`` seconds since 1970, that it holds the registered key."""
        with self._lock, self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO proofs VALUES (?, ?, ?, ?)",
                (node, attestation_key, endorsement, at),
            )
            self._db.execute(
                "DELETE FROM proofs WHERE rowid NOT IN"
                " (SELECT rowid FROM proofs ORDER BY rowid DESC LIMIT ?)",
                (KEPT_PROOFS,),
            )

    def proof(self, node: bytes, attestation_key: bytes) -> tuple[bytes, float] | None:
        """(endorsement, when) of what ``put_proof`` kept of this very key."""
        row = self._one(
            "SELECT endorsement, at FROM proofs WHERE node = ? AND attestation_key = ?",
            node,
            attestation_key,
        )
        return (row[0], row[1]) if row else None

    def put_tpm(self, attestation_key: bytes, facts: bytes) -> None:
        """What a TPM said of its own boots when this Node last affirmed it."""
        with self._lock, self._transaction():
            self._db.execute("INSERT OR REPLACE INTO tpms VALUES (?, ?)", (attestation_key, facts))
            self._db.execute(
                "DELETE FROM tpms WHERE rowid NOT IN"
                " (SELECT rowid FROM tpms ORDER BY rowid DESC LIMIT ?)",
                (KEPT_PROOFS,),
            )

    def tpm(self, attestation_key: bytes) -> bytes | None:
        """What ``put_tpm`` kept of this key."""
        row = self._one("SELECT facts FROM tpms WHERE attestation_key = ?", attestation_key)
        return row[0] if row else None

    def use_policy(self, policy: str, commitment: Commitment) -> None:
        """Count one use of a policy for a commitment; the same pair counts once."""
        self._run("INSERT OR IGNORE INTO uses VALUES (?, ?)", policy, commitment)

    def uses(self, policy: str, except_for: bytes) -> int:
        """How many other commitments a policy was used for."""
        row = self._one(
            "SELECT count(*) FROM uses WHERE policy = ? AND commitment != ?", policy, except_for
        )
        return int(row[0]) if row else 0

    def take_number(self, at_least: int = 0) -> int:
        """A number for one Task of this Node; none is given twice."""
        with self._lock, self._transaction():
            row = self._db.execute("SELECT next FROM numbers").fetchone()
            number = max(at_least, row[0] if row else 0)
            self._db.execute("INSERT OR REPLACE INTO numbers VALUES (1, ?)", (number + 1,))
        return number

    def next_boot(self) -> int:
        """A number that only grows, over all boots that this Node orders."""
        with self._lock:
            self._db.execute("INSERT INTO boots DEFAULT VALUES")
            return int(self._db.execute("SELECT max(id) FROM boots").fetchone()[0])

    def add_load(self, image: bytes, kind: ImageKind) -> None:
        """This Node booted or started an image; remembered before it is reported on chain."""
        self._run(
            "INSERT INTO loads (image, kind, newest)"
            " VALUES (?, ?, (SELECT coalesce(max(newest), 0) + 1 FROM loads))"
            " ON CONFLICT (image) DO UPDATE SET"
            " newest = (SELECT max(newest) + 1 FROM loads)",
            image,
            int(kind),
        )

    def has_load(self, image: bytes) -> bool:
        """Whether ``add_load`` kept this image."""
        return self._one("SELECT 1 FROM loads WHERE image = ?", image) is not None

    def loads(self, *, reported: bool) -> list[bytes]:
        """Images whose load the chain was told, or was not told yet; oldest first."""
        rows = self._all("SELECT image FROM loads WHERE reported = ? ORDER BY newest", reported)
        return [image for (image,) in rows]

    def load_reported(self, image: bytes, reported: bool = True) -> None:
        """The chain was told; or it does not know any more."""
        self._run("UPDATE loads SET reported = ? WHERE image = ?", reported, image)

    def newest_load(self, kind: ImageKind) -> bytes | None:
        """The image of this kind that was loaded last."""
        row = self._one(
            "SELECT image FROM loads WHERE kind = ? ORDER BY newest DESC LIMIT 1", int(kind)
        )
        return row[0] if row else None

    def note(self, at: float, commitment: Commitment | None, what: str) -> None:
        """Write a line of the operator's journal. Never a secret, never a name from a Capsule."""
        covered = self._cover.put(JOURNAL, what.encode())
        self._run(
            "INSERT INTO journal (at, commitment, what) VALUES (?, ?, ?)", at, commitment, covered
        )
        self._run("DELETE FROM journal WHERE id <= (SELECT max(id) FROM journal) - ?", KEPT_NOTES)

    def notes(self, limit: int = 200) -> list[tuple[float, bytes | None, str]]:
        """The newest journal lines, newest first."""
        rows = self._all("SELECT at, commitment, what FROM journal ORDER BY id DESC LIMIT ?", limit)
        return [
            (at, who, self._cover.take(JOURNAL, what).decode(errors="replace"))
            for at, who, what in rows
        ]

    # ------------------------------------------------------------------------------ plumbing

    def _run(self, sql: str, *args: object) -> None:
        with self._lock:
            self._db.execute(sql, args)

    def _one(self, sql: str, *args: object) -> Any:
        with self._lock:
            return self._db.execute(sql, args).fetchone()

    def _all(self, sql: str, *args: object) -> list[Any]:
        with self._lock:
            return self._db.execute(sql, args).fetchall()
