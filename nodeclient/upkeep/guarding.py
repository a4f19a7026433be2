"""The guard of the services as a process of its own: ``sealrun node guard``.

It needs no key and sends nothing: it reads the chain and asks the engine. So it can stand outside
of the containers that it watches, also of the one that the daemon runs in; the daemon reads what
it saw from the node's folder, reports the loads, and answers to peers.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable

from nodeclient.chain import deployment as deployments
from nodeclient.chain.reader import Reader
from nodeclient.chain.rpc import Rpc
from nodeclient.chain.watcher import Watcher, WatchSettings
from nodeclient.config.node import Config
from nodeclient.errors import ConfigError
from nodeclient.images.services import RunningService
from nodeclient.machine.jsonlines import JsonLines
from nodeclient.upkeep.imageduty import make_guard

LINES = "services.jsonl"
MAX_BYTES = 1 << 20  # of the file, before it becomes services.jsonl.1


async def run_guard(config: Config, say: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT. Raises ConfigError where another one watches, and what reading
    the chain for the first time raises."""
    if config.services.guard != "apart":
        raise ConfigError(
            f"services.guard is {config.services.guard!r}",
            'set [services] guard = "apart" in config.toml',
        )
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    work = asyncio.create_task(_guard(config, say))
    stop = asyncio.create_task(stopping.wait())
    done, _ = await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
    for each in (work, stop):
        each.cancel()
    if work in done:
        work.result()
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _guard(config: Config, say: Callable[[str], None]) -> None:
    deployed = deployments.load(config.path(config.chain.deployment))
    lines = JsonLines(config.folder / LINES, MAX_BYTES)

    def stopped(service: RunningService, reason: str) -> None:
        say(f"service {service.name} stopped: {reason}")
        lines.write({"service": service.name, "image": service.image.hex(), "reason": reason})

    rpc = Rpc(config.chain.rpc)
    try:
        await deployments.check_chain(deployed, rpc)
        chain = Reader(rpc, deployed)
        guard = make_guard(config.services, config.folder, chain.image, stopped)
        settings = WatchSettings(poll_seconds=config.chain.poll_seconds)
        watcher = Watcher(rpc, deployed, settings)
        head = (await chain.head()).number
        say(f"watching services of project {config.services.project} from block {head} on")
        async with asyncio.TaskGroup() as group:
            group.create_task(guard.run())
            async for event in watcher.events(head - 1):
                guard.on_event(event)
    finally:
        await rpc.close()
