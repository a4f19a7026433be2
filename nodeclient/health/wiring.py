"""Health within a daemon: what is gathered from which adapter, and who is told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from agent.formats.faults import place_of
from nodeclient.chain.reader import Reader
from nodeclient.config.node import Config
from nodeclient.core.health import MachinePart
from nodeclient.core.incidents import Kind
from nodeclient.core.types import Address, RootClass
from nodeclient.duties.services import Services
from nodeclient.health.endpoint import Endpoint, Page
from nodeclient.health.exposition import Metric, expose
from nodeclient.health.gather import Gatherer, Sources
from nodeclient.health.holdings import guard_part, held_images, running
from nodeclient.health.reach import ALIVE, Reach
from nodeclient.health.service import Health, Reading
from nodeclient.health.state import applied_block, bounds_of, is_drawable
from nodeclient.health.tally import Tally
from nodeclient.health.target import Memory, load_target
from nodeclient.health.webhook import Webhook

ALIVE_SECONDS = 5.0  # a peer that takes longer to say nothing is as good as gone
AGAIN_SECONDS = 60.0
MEMORY = "webhook.json"
log = logging.getLogger(__name__)


@asynccontextmanager
async def run_health(
    config: Config, services: Services, chain: Reader, tally: Tally
) -> AsyncIterator[Health]:
    """Health of a daemon that starts now, until it ends. Raises ConfigError."""
    me = services.me

    async def ask(peer: Address) -> None:
        contact = services.directory.contact(peer)
        await services.peers.request(contact, ALIVE, b"", ALIVE_SECONDS)

    reach = Reach(lambda: set(services.directory.admitted()) - {me.address}, ask)
    sources = Sources(
        account=me.address,
        drawable=is_drawable(config),
        root_class=RootClass(services.root.class_id),
        simulated=services.root.simulated,
        root=services.root.health,
        chain=chain,
        images=lambda: (*held_images(config), *running(services.images.own.picture())),
        applied=lambda: applied_block(services.store),
        machine=lambda: MachinePart(services.ban.standing() is not None, tally.incidents()),
        guard=lambda: guard_part(config, services.images.own.picture()),
        peers=lambda: reach.part(len(services.images.watch.standing)),
        tasks=lambda: tally.tasks(services.store),
        started_at=int(time.time()),
    )
    health = Health(Gatherer(sources), bounds_of(config))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(health.stop)
        webhook = open_webhook(config, me.address)
        if config.health.listen:
            host, _, port = config.health.listen.rpartition(":")
            endpoint = Endpoint(page_of(health, webhook))
            await endpoint.start(host.strip("[]"), int(port))
            stack.push_async_callback(endpoint.close)
        workers: list[Callable[[], Awaitable[None]]] = [reach.watch]
        if webhook is not None:

            def told(kind: Kind, count: int) -> None:
                webhook.incident(kind, count)
                health.hurry()

            tally.on_incident = told
            workers += [lambda: health.watch(webhook.judged), webhook.run]
        for worker in workers:
            stack.push_async_callback(_end, asyncio.create_task(keep_going(worker)))
        if webhook is not None:
            stack.push_async_callback(webhook.farewell)
        yield health


def open_webhook(config: Config, account: Address) -> Webhook | None:
    """The webhook, where one is configured. Raises ConfigError."""
    health = config.health
    if health.webhook_url_file is None or health.webhook_secret_file is None:
        return None
    target = load_target(
        config.path(health.webhook_url_file), config.path(health.webhook_secret_file)
    )
    return Webhook(target, Memory(config.folder / MEMORY), account)


def page_of(health: Health, webhook: Webhook | None) -> Page:
    """What the endpoint serves."""

    async def page() -> str:
        reading: Reading = await health.read()
        more: tuple[Metric, ...] = webhook.metrics() if webhook is not None else ()
        return expose(reading.picture, reading.remarks, more)

    return page


async def keep_going(work: Callable[[], Awaitable[None]]) -> None:
    """Begin again after an error that nobody foresaw: it ends neither the Node nor the watch."""
    while True:
        try:
            await work()
        except Exception as error:
            log.error("health: a part failed, going on: %s", place_of(error))
        await asyncio.sleep(AGAIN_SECONDS)


async def _end(worker: asyncio.Task[None]) -> None:
    worker.cancel()
    await asyncio.wait({worker})
