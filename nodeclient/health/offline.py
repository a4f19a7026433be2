"""How a Node is while no daemon runs: its folder, its root and the chain are asked directly.

Nothing is written but a breach that the root shows, and no key is unsealed but the one that covers
the database at rest. What is imported here decides how long the command takes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nodeclient.chain import deployment as deployments
from nodeclient.chain.reader import Reader
from nodeclient.chain.registration import FILE_NAME
from nodeclient.chain.registration import load as load_registration
from nodeclient.chain.rpc import Rpc
from nodeclient.config.node import Config, load_config
from nodeclient.core.health import MachinePart, TaskPart
from nodeclient.core.roothealth import RootHealth
from nodeclient.core.types import RootClass
from nodeclient.core.verdict import judge
from nodeclient.errors import SealrunError
from nodeclient.files import read_private
from nodeclient.health.gather import Gatherer, Sources, unusable
from nodeclient.health.holdings import guard_part, guard_picture, held_images, running
from nodeclient.health.service import Reading
from nodeclient.health.state import applied_block, bounds_of, is_drawable, open_tasks
from nodeclient.machine.ban import Ban
from nodeclient.ports import Root
from nodeclient.roots.base import RootError
from nodeclient.roots.choose import open_root
from nodeclient.store.cover import STORE_KEY
from nodeclient.store.database import Store


@dataclass
class _Found:
    """The root and the database, as far as they open."""

    root: Root | None
    fault: RootHealth
    store: Store | None = None

    def health(self) -> RootHealth:
        """The root's own word, or why there is none."""
        return self.fault if self.root is None else self.root.health()


async def look(folder: Path) -> Reading:
    """The picture without a daemon. Raises ConfigError, DeploymentInvalid, RegistrationInvalid."""
    config = load_config(folder)
    registration = load_registration(config.folder / FILE_NAME)
    root_class = RootClass(registration.keys.root_class)
    rpc = Rpc(config.chain.rpc)
    try:
        reader = Reader(rpc, deployments.load(config.path(config.chain.deployment)))
        with _opened(config) as found:
            sources = Sources(
                account=registration.account,
                drawable=is_drawable(config),
                root_class=root_class,
                simulated=found.root.simulated if found.root else root_class == RootClass.SOFTWARE,
                root=found.health,
                chain=reader,
                images=lambda: (*held_images(config), *running(guard_picture(config))),
                applied=lambda: applied_block(found.store) if found.store else None,
                machine=lambda: MachinePart(_is_banned(config)),
                guard=lambda: guard_part(config, guard_picture(config)),
                peers=lambda: None,
                tasks=lambda: _tasks(found.store),
                started_at=None,
            )
            picture = await Gatherer(sources).gather()
    finally:
        await rpc.close()
    return Reading(picture, judge(picture, bounds_of(config)))


def _is_banned(config: Config) -> bool:
    return Ban(config.folder / "machine").standing() is not None


def _tasks(store: Store | None) -> TaskPart | None:
    return None if store is None else TaskPart(open_tasks(store), store.known())


@contextmanager
def _opened(config: Config) -> Iterator[_Found]:
    try:
        found = _Found(open_root(config), RootHealth(True, False, ""))
    except RootError as error:
        found = _Found(None, unusable(error))
    try:
        if found.root is not None:
            found.store = _open_store(config, found.root)
        yield found
    finally:
        if found.store is not None:
            found.store.close()
        if found.root is not None:
            found.root.close()


def _open_store(config: Config, root: Root) -> Store | None:
    """The database that a daemon has left; None where none has run, and where it cannot be opened:
    by this root, or because of the disk."""
    database, key = config.folder / "node.db", config.folder / STORE_KEY
    if not database.exists() or not key.exists():
        return None
    try:
        return Store(database, root.unseal(read_private(key), STORE_KEY))
    except (SealrunError, sqlite3.Error):
        return None
