"""A Node's database at rest: bodies open with the Node's own key, for their own table, only."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeclient.core.actions import LearnBefore
from nodeclient.core.case import Case
from nodeclient.core.roles.broker import Broker
from nodeclient.core.types import Address, Commitment, Task, TaskId
from nodeclient.store.cover import Cover, StoreUnreadable
from nodeclient.store.database import Store

KEY = b"k" * 32
MARK = b"canary-0123456789"
COMMITMENT = Commitment(b"c" * 32)
TASK = Task(TaskId(1), COMMITMENT, Address(b"r" * 20), 1, 1, 1, 3, 0)


def fill(path: Path) -> None:
    """One row of every kind with the mark in it."""
    store = Store(path, KEY)
    order = LearnBefore(commitment=COMMITMENT, task=TASK, evidence_root=MARK)
    store.apply(Case(COMMITMENT, broker=Broker(spec=MARK)), [order])
    store.put_blob("evidence:1", MARK)
    store.note(1.0, COMMITMENT, MARK.decode())
    store.close()


def test_database__holds_no_body_in_clear(tmp_path: Path) -> None:
    fill(tmp_path / "node.db")
    for file in tmp_path.iterdir():
        assert MARK not in file.read_bytes()


def test_same_key__opens_everything_again(tmp_path: Path) -> None:
    fill(tmp_path / "node.db")
    store = Store(tmp_path / "node.db", KEY)
    found = store.case(COMMITMENT)
    assert found is not None
    assert found.broker is not None
    assert found.broker.spec == MARK
    assert store.blob("evidence:1") == MARK
    assert [row.action for row in store.pending()] == [
        LearnBefore(commitment=COMMITMENT, task=TASK, evidence_root=MARK)
    ]
    assert [what for _, _, what in store.notes()] == [MARK.decode()]
    store.close()


def test_another_key__opens_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "node.db")
    store = Store(tmp_path / "node.db", b"x" * 32)
    with pytest.raises(StoreUnreadable, match=r"; restore"):
        store.case(COMMITMENT)
    store.close()


@pytest.mark.parametrize(
    "change", [lambda b: b[:-1], lambda b: bytes([b[0] ^ 1]) + b[1:], lambda b: b[:5]]
)
def test_body_of_another_table_or_damaged__is_refused(change: object) -> None:
    cover = Cover(KEY)
    body = cover.put(b"cases", MARK)
    with pytest.raises(StoreUnreadable):
        cover.take(b"outbox", body)
    with pytest.raises(StoreUnreadable):
        cover.take(b"cases", change(body))  # type: ignore[operator]


def test_same_body_twice__looks_different() -> None:
    cover = Cover(KEY)
    assert cover.put(b"cases", MARK) != cover.put(b"cases", MARK)
