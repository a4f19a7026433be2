"""What the picture takes from configuration and database, with a daemon and without."""

from __future__ import annotations

from collections import Counter

from nodeclient.config.node import Config
from nodeclient.core.case import Role
from nodeclient.core.verdict import Bounds
from nodeclient.store.database import END_OF_BLOCK, Store

DRAWN = frozenset({Role.EXECUTOR, Role.MEMBER})
UNPOSTED = "UNPOSTED"


def is_drawable(config: Config) -> bool:
    """Whether the Node takes a role for which Nodes are drawn."""
    return bool(DRAWN & config.node.roles)


def bounds_of(config: Config) -> Bounds:
    """From when on something is a fault."""
    return Bounds(config.health.head_age_seconds, config.health.behind_blocks)


def applied_block(store: Store) -> int | None:
    """The last block whose events are applied, all of them; None before the first."""
    cursor = store.cursor()
    if cursor is None:
        return None
    return cursor[0] if cursor[1] == END_OF_BLOCK else cursor[0] - 1


def open_tasks(store: Store) -> tuple[tuple[str, int], ...]:
    """Open Tasks by their state on chain."""
    states = Counter(case.state.name if case.state else UNPOSTED for case in store.open_cases())
    return tuple(sorted(states.items()))
