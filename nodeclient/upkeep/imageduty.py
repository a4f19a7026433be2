"""The Verification module inside the daemon: everything about images that is no single Task's.

Bringing images in, stopping services that are not approved, telling the chain what was loaded,
telling peers what runs and asking them the same. ``daemon`` makes one, feeds it the chain's events
and lets it run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from agent.formats.faults import place_of
from nodeclient.config.node import Config, ServicesConfig
from nodeclient.core import events as ev
from nodeclient.core.case import Me
from nodeclient.core.images import ImageKind, ImageRecord
from nodeclient.core.incidents import Incident, Kind, Report
from nodeclient.core.running import Mismatch
from nodeclient.core.types import Address
from nodeclient.health.holdings import guard_picture
from nodeclient.images.guard import Guard
from nodeclient.images.picture import PICTURE, Picture, read_picture, write_picture
from nodeclient.images.services import RunningService, ServiceEngine
from nodeclient.images.verification import Verification
from nodeclient.ports import BlockStore, ChainReader, ChainSender, Root
from nodeclient.store.database import Store
from nodeclient.upkeep.imageblocks import ImageBlocks
from nodeclient.upkeep.incidents import IncidentLog
from nodeclient.upkeep.loads import LoadBook, Loads
from nodeclient.upkeep.running import Ask, OwnSet, RunningWatch
from nodeclient.upkeep.stops import StopBook

log = logging.getLogger(__name__)
Note = Callable[[None, str, str], None]
AGAIN_SECONDS = 5.0  # until what failed unexpectedly is begun again


@dataclass(frozen=True)
class ImageDuty:
    """The parts, and what runs them. ``verification``: only where this process lets images in; one
    that may be in a container must not (``upkeep.fetching`` does then). ``guard``: only where this
    process watches the services; ``stops``: only where another one does."""

    verification: Verification | None
    loads: Loads
    book: LoadBook
    own: OwnSet
    watch: RunningWatch
    guard: Guard | None
    stops: StopBook | None

    def on_event(self, event: ev.ChainEvent | ev.BlockSeen | ev.ChainReorganised) -> None:
        """One item of the chain's watcher."""
        self.book.on_event(event)
        self.loads.on_event(event)
        if self.guard is not None:
            self.guard.on_event(event)
        if isinstance(event, ev.BlockSeen):
            self._note_loads()
            if self.stops is not None:
                self.stops.look()

    def _note_loads(self) -> None:
        """What the guard let run was loaded; twice costs nothing."""
        for _, image in self.own.picture().services:
            if not self.loads.knows(image):
                self.loads.add(image, ImageKind.SERVICE)

    async def run(self) -> None:
        """All that goes on by itself. Ends only by cancellation."""
        async with asyncio.TaskGroup() as group:
            group.create_task(kept(self.loads.run))
            group.create_task(kept(self.watch.run))
            if self.guard is not None:
                group.create_task(kept(self.guard.run))


async def kept(work: Callable[[], Awaitable[None]]) -> None:
    """Run ``work`` for ever: a fault in one part must end neither it nor the others."""
    while True:
        try:
            await work()
        except Exception as error:
            log.error("%s failed unexpectedly: %s", work.__qualname__, place_of(error))
        await asyncio.sleep(AGAIN_SECONDS)


def choose_images(
    config: Config,
    *,
    me: Me,
    chain: ChainReader,
    root: Root,
    registry: Address,
    store: Store,
    blocks: BlockStore,
    sender: ChainSender,
    ask: Ask,
    peers: Callable[[], tuple[Address, ...]],
    head: Callable[[], int],
    boot: Callable[[], bytes],
    lines: IncidentLog,
    report: Report,
    note: Note,
) -> ImageDuty:
    """The parts that the configuration names; nothing runs yet. Call it inside the event loop."""
    services, book = config.services, LoadBook()

    def picture() -> Picture:
        return guard_picture(config)

    watch = RunningWatch(
        chain,
        me.parameters,
        registry,
        book,
        ask,
        lambda: tuple(each for each in peers() if each != me.address),
        tell_found(lines, note),
        config.node.ask_running_seconds,
    )
    guard = stops = None
    if services.guard == "daemon":
        guard = make_guard(services, config.folder, chain.image, tell_stopped(report))
    elif services.guard == "apart":
        stops = StopBook(config.folder, picture, report)
    return ImageDuty(
        verification=None
        if services.guard == "apart"
        else make_door(config, chain, blocks, ask, peers, me.address),
        loads=Loads(store, sender, book, me.address),
        book=book,
        own=OwnSet(me.address, me.parameters, registry, root, head, boot, picture),
        watch=watch,
        guard=guard,
        stops=stops,
    )


def make_door(
    config: Config,
    chain: ChainReader,
    blocks: BlockStore,
    ask: Ask,
    peers: Callable[[], tuple[Address, ...]],
    own: Address,
) -> Verification:
    """What lets images in: from the own blocks or any peer's, if the chain approves them."""

    async def look(image: bytes) -> tuple[ImageRecord | None, int]:
        return await chain.image(image), (await chain.head()).timestamp

    return Verification(
        look,
        ImageBlocks(blocks, ask, peers, own).get,
        config.path(config.machine.images),
        config.services.engine,
    )


def make_guard(
    config: ServicesConfig,
    folder: Path,
    look: Callable[[bytes], Awaitable[ImageRecord | None]],
    stopped: Callable[[RunningService, str], None],
) -> Guard:
    """The guard of this node's services, which leaves its picture in ``folder``."""

    def keep(picture: Picture) -> None:
        with contextlib.suppress(OSError):  # a full disk keeps nobody from being stopped
            write_picture(folder / PICTURE, picture)

    engine = ServiceEngine(config.project, config.engine)
    return Guard(engine, look, stopped, keep, read_picture(folder / PICTURE).stops)


def tell_stopped(report: Report) -> Callable[[RunningService, str], None]:
    """Tells that a service was stopped."""

    def tell(service: RunningService, reason: str) -> None:
        text = f"service {service.name} stopped, image {service.image.hex()}: {reason}"
        log.warning("%s", text)
        report(Incident(Kind.SERVICE, text))

    return tell


def tell_found(lines: IncidentLog, note: Note) -> Callable[[Address, Mismatch], None]:
    """Writes down that a peer runs what it should not."""

    def tell(peer: Address, mismatch: Mismatch) -> None:
        text = f"peer 0x{peer.hex()} runs {mismatch}"
        lines.add(kind="peer", text=text)
        note(None, text, "")

    return tell
