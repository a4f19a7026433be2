"""Looks after the root of trust while the Node runs, and ends the Node when it is lost.

A root that is unplugged, or whose perimeter was breached, can vouch for nothing: the Node leaves
the draw (`NodeRegistry.pause`), so that no task is given to it, forgets its keys, and stops. What
it was doing stays as it is in its database, where each step is whole or was not taken; tasks on
chain end by their deadlines, and nobody's money stays behind.

A breach that happened while the Node was off ends it in the same way at its start, before it talks
to anybody (`opening`).

The order is that of what could still do harm: first the work stops, then all keys go that open
capsules, prove tickets or speak for the Node, then the account's own key sends the one transaction
that is left, and goes, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, NoReturn

from agent.formats.faults import place_of
from nodeclient.chain import registry
from nodeclient.chain.errors import OrderReverted
from nodeclient.config.node import Config
from nodeclient.core.incidents import Incident, Kind, Report
from nodeclient.core.roothealth import RootHealth
from nodeclient.core.types import Address, NodeStatus
from nodeclient.duties.services import Services
from nodeclient.errors import Reverted, RootLost, SealrunError
from nodeclient.identity.keys import NodeKeys
from nodeclient.ports import ChainReader, ChainSender, Root
from nodeclient.roots.base import RootError, RootQueued
from nodeclient.runner import Runner

log = logging.getLogger(__name__)

LOOKS = 2  # in a row without an answer: a driver that is loaded anew answers at the second
# Longer than the draw stands still at most, during which no node may leave it: lookahead and draw
# window of the mainnet preset are 160 blocks of 12 s.
PAUSE_SECONDS = 2400.0
RETRY_SECONDS = 2.0
STOP_SECONDS = 60.0
POWER_SECONDS = 60.0
CLOSE_SECONDS = 30.0
NOT_ACTIVE = "not active"  # of the registry's reason: paused already, or never drawn


@dataclass(frozen=True)
class Hands:
    """What is done at the end. ``stop_work``: no more duties. ``power_off``: the Machine.
    ``forget``: all secrets but the account's; ``forget_account``: that one.
    """

    stop_work: Callable[[], Coroutine[Any, Any, None]]
    power_off: Callable[[], Coroutine[Any, Any, None]]
    forget: Callable[[], None]
    forget_account: Callable[[], None]


@contextlib.contextmanager
def going_on(what: str) -> Iterator[None]:
    """Whatever fails here (a full disk, a relay) must not keep the keys from being forgotten."""
    try:
        yield
    except Exception as error:
        log.error("cannot %s: %s", what, place_of(error))


async def within(seconds: float, work: Coroutine[Any, Any, None]) -> None:
    """Wait so long and no longer, also for what does not end when it is cancelled. Raises
    TimeoutError."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise TimeoutError(f"not done in {seconds:g} s")
        task.result()
    finally:
        task.cancel()


class RootGuard:
    """``seconds`` between two looks; ``node``: the Node's account."""

    def __init__(
        self,
        root: Root,
        node: Address,
        chain: ChainReader,
        sender: ChainSender,
        hands: Hands,
        report: Report,
        seconds: float,
    ) -> None:
        self._root, self._node, self._chain, self._sender = root, node, chain, sender
        self._hands, self._report, self._seconds = hands, report, seconds
        self._ending = False

    async def beside(self, follow: asyncio.Task[None]) -> None:
        """`watch` while the chain is followed; raises what ends first. A Node that is being ended
        is ended, also where following fails meanwhile. Cancelled, it cancels both."""
        watch = asyncio.create_task(self.watch())
        try:
            await asyncio.wait({follow, watch}, return_when=asyncio.FIRST_COMPLETED)
            if self._ending:
                await asyncio.wait({watch})
            (watch if watch.done() else follow).result()
        finally:
            for each in (follow, watch):
                each.cancel()
            await asyncio.gather(follow, watch, return_exceptions=True)

    async def watch(self) -> None:
        """Until the root is lost: then everything is done, and RootLost raised."""
        failed = 0
        while True:
            await asyncio.sleep(self._seconds)
            health = await self.look()
            if health is None:
                continue
            failed = 0 if health.sound else failed + 1
            if health.tampered or failed >= LOOKS:
                await self.end(health)

    async def look(self) -> RootHealth | None:
        """Ask the root, in a thread: a device may take its time. None: it was busy with this Node's
        own commands all the while, which says nothing about the device."""
        try:
            return await asyncio.to_thread(self._root.health)
        except RootQueued:
            return None
        except RootError as error:
            return RootHealth(False, False, str(error))
        except Exception as error:  # of no handles left, say: the Node must not end unpaused by it
            return RootHealth(False, False, f"{type(error).__name__} when asked how it is")

    async def end(self, health: RootHealth) -> NoReturn:
        """Stop, forget, pause. Raises RootLost, whatever of it succeeded."""
        self._ending = True
        what = "was tampered with" if health.tampered else "is lost"
        log.error("the root of trust %s: %s", what, health.detail)
        try:
            with going_on("write that down"):
                self._report(Incident(Kind.ROOT, f"{what}: {health.detail}"))
            with going_on("stop the work"):
                await within(STOP_SECONDS, self._hands.stop_work())
            if health.tampered:
                # Whatever the Machine was given for a task was given on the word of this root.
                with going_on("cut the machine's power"):
                    await within(POWER_SECONDS, self._hands.power_off())
            self._hands.forget()
            with going_on("let go of the device"):  # which may hang: not on the event loop
                await within(CLOSE_SECONDS, asyncio.to_thread(self._root.close))
            paused = await self._pause()
        finally:
            self._hands.forget_account()
        how = "the node is out of the draw" if paused else "the node could not leave the draw"
        raise RootLost(
            f"the root of trust {what} ({health.detail}); {how}, its keys are forgotten",
            "look at the device before you start the node again"
            if paused
            else "look at the device, then start the node: only its own account can pause it",
        )

    async def end_at_start(
        self, health: RootHealth, telling: AbstractAsyncContextManager[object]
    ) -> NoReturn:
        """`end`, within ``telling``: where that does not begin (a port that is taken), without."""
        async with contextlib.AsyncExitStack() as stack:
            with going_on("tell of it"):
                await stack.enter_async_context(telling)
            await self.end(health)

    async def _pause(self) -> bool:
        """Whether the Node is out of the draw."""
        order = registry.pause(f"root-lost/{time.time_ns()}")
        end = time.monotonic() + PAUSE_SECONDS
        while True:
            try:
                record = await self._chain.node(self._node)
                if record is None or record.status is not NodeStatus.ACTIVE:
                    return True
                await self._sender.execute(order)
                return True
            except Reverted as refused:
                if NOT_ACTIVE in refused.reason:
                    return True
                if isinstance(refused, OrderReverted) and refused.tx_hash is not None:
                    # Mined, and refused: the journal would say so again for this key for ever.
                    order = registry.pause(f"root-lost/{time.time_ns()}")
                log.warning("cannot leave the draw yet: %s", refused.reason)
            except SealrunError as error:
                log.warning("cannot leave the draw yet: %s", error.message)
            except Exception as error:  # a full disk takes no journal of what is sent
                log.error("cannot leave the draw yet: %s", place_of(error))
            if time.monotonic() > end:
                return False
            await asyncio.sleep(RETRY_SECONDS)


def root_guard(config: Config, services: Services, runner: Runner, keys: NodeKeys) -> RootGuard:
    """What ends this Node when its root is lost. ``keys``: another copy that has to be forgotten,
    too."""

    def forget() -> None:
        keys.wipe()
        services.keys.wipe()

    return RootGuard(
        services.root,
        services.me.address,
        services.chain,
        services.sender,
        Hands(runner.stop, services.machine.cut, forget, services.sender.forget),
        services.report,
        config.root.health_seconds,
    )
