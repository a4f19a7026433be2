"""What is counted: Tasks of this Node's database, those that ended, incidents, images on disk."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from nodeclient.core.case import Case
from nodeclient.core.health import Use
from nodeclient.core.incidents import Kind
from nodeclient.core.types import BlockRef, TaskState
from nodeclient.health.holdings import MOST_RUNTIME, runtime_images
from nodeclient.health.state import applied_block, open_tasks
from nodeclient.health.tally import Tally
from nodeclient.store.database import Store
from tests.core.test_roles import (
    COMMITMENT,
    ME,
    OTHER,
    accepted,
    admitted,
    posted,
    seated_member,
    walk,
)


def store_at(folder: Path) -> Store:
    return Store(folder / "node.db", bytes(32))


def seated() -> Case:
    who, events = seated_member()
    return walk(who, *events, accepted(), admitted())[0]


def test_tasks__open_and_known__by_state(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    store.apply(seated(), ())
    assert open_tasks(store) == (("ADMITTED", 1),)
    over = replace(seated(), state=TaskState.SETTLED)
    tally = Tally(ME)
    assert tally.tasks(store).known == 1
    tally.committed(seated(), over, posted())
    assert tally.tasks(store).ended == (("SETTLED", 1),)
    store.close()


def test_ended__told_again_or_of_others__is_not_counted(tmp_path: Path) -> None:
    store, tally = store_at(tmp_path), Tally(ME)
    over = replace(seated(), state=TaskState.FAILED)
    tally.committed(over, over, posted())
    foreign = replace(over, members=(OTHER,), member=None)
    tally.committed(None, foreign, posted())
    assert tally.tasks(store).ended == ()
    tally.committed(None, over, posted())
    assert tally.tasks(store).ended == (("FAILED", 1),)
    store.close()


def test_incidents__counted_by_kind__and_passed_on() -> None:
    tally, told = Tally(ME), list[tuple[Kind, int]]()
    tally.incident(Kind.STRAY)
    tally.on_incident = lambda kind, count: told.append((kind, count))
    tally.incident(Kind.STRAY)
    tally.incident(Kind.PROXY)
    assert tally.incidents() == (("proxy", 1), ("stray", 2))
    assert told == [(Kind.STRAY, 2), (Kind.PROXY, 1)]


def test_applied__a_block_counts_when_all_of_it_is(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    assert applied_block(store) is None
    store.reach(BlockRef(7, bytes(32)))
    assert applied_block(store) == 7
    store.apply(None, (), cursor=(9, 0))
    assert applied_block(store) == 8
    store.close()


def test_runtime_images__newest_archives_only(tmp_path: Path) -> None:
    for number in range(MOST_RUNTIME + 4):
        path = tmp_path / f"{number:064x}.tar"
        path.touch()
        os.utime(path, (number, number))
    for name in ("x.tar", "00.tar", f"{1:064X}".replace("1", "A") + ".tar", "a" * 64):
        (tmp_path / name).touch()
    found = runtime_images(tmp_path)
    assert [use for use, _ in found] == [Use.RUNTIME] * MOST_RUNTIME
    assert int.from_bytes(found[0][1]) == MOST_RUNTIME + 3
    assert runtime_images(tmp_path / "none") == ()


def test_case__of_the_kit__is_the_one_that_is_counted() -> None:
    assert seated().commitment == COMMITMENT
