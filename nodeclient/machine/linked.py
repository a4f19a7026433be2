"""What every Machine has that its Agent joins to this Pi: one Link, calls over it, its keys."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol

from agent.formats.events import EVENT, Event
from agent.formats.rpc import RpcClosed, RpcConnection, RpcError, RpcTimeout
from nodeclient.core.incidents import Report
from nodeclient.errors import MachineError, MachineRefused
from nodeclient.machine.channel_keys import KeySlot, SessionKeys
from nodeclient.machine.events import EVENTS, EventJournal
from nodeclient.machine.link import Link, LinkKeys
from nodeclient.machine.proxy import ProxyRules, TaskProxy
from nodeclient.machine.rotation import every, rotate_keys
from nodeclient.machine.supply import Supply

_TRIES = 3  # connections over which one call is repeated
_BUSY = "busy"  # as `agent.formats.rpc` refuses what is above its bound of requests in progress
_BUSY_SECONDS = 0.2
_MAX_CALLS = 16  # on their way at once: an Agent that is sent four times its eight hangs up


class LinkedSettings(Protocol):
    """What the settings of every such Machine have. Times in seconds."""

    @property
    def folder(self) -> Path: ...
    @property
    def boot_seconds(self) -> float: ...
    @property
    def call_seconds(self) -> float: ...
    @property
    def rotate_seconds(self) -> float: ...
    @property
    def proxy(self) -> ProxyRules: ...


class LinkedMachine(ABC):
    """Base of the adapters of ``ports.Machine``.

    `supply` answers the Agent's calls, but for what its kernel says of devices: a journal in the
    Machine's folder keeps it. `slot` keeps the channel's keys; `report` hears of incidents.
    """

    def __init__(
        self, settings: LinkedSettings, supply: Supply, slot: KeySlot, report: Report
    ) -> None:
        self._boot_seconds, self._call_seconds = settings.boot_seconds, settings.call_seconds
        self._rotate_seconds = settings.rotate_seconds
        self._supply, self._slot = supply, slot
        self._events = EventJournal(settings.folder / EVENTS, report)
        self._proxy = TaskProxy.of(settings.proxy, supply, settings.folder, report)
        self._calls = asyncio.Semaphore(_MAX_CALLS)
        self._link: Link | None = None
        self._rotating: asyncio.Task[None] | None = None

    async def call(self, method: str, body: object) -> object:
        """Call the Agent. Raises MachineRefused for its no, MachineError if it is gone.

        Every method may be repeated: a call whose connection breaks goes over the next one. An
        Agent that has enough to do is no Machine lost: members and owners ask when they like, so
        on a slow PC their questions meet; the call is put again until its time is over.
        """
        link = self._link
        if link is None:
            raise MachineError("the Machine is off", "boot it")
        loop, tries = asyncio.get_running_loop(), _TRIES
        end = loop.time() + self._call_seconds
        while tries:
            connection = await self._connection(link)
            try:
                async with self._calls:
                    answer = await connection.call(method, body, self._call_seconds)
            except RpcClosed:
                tries -= 1
                continue
            except RpcTimeout as error:
                raise MachineError(f"no answer to {method}", "cut the Machine's power") from error
            except RpcError as error:
                if error.code == _BUSY and loop.time() < end:
                    await asyncio.sleep(_BUSY_SECONDS)
                    continue
                raise MachineRefused(error.code, error.message) from error
            if method == "prepare" and link.session is not None:
                self._events.permit(link.session[1], body)
            return answer
        raise MachineError("the Machine's channel keeps breaking", "cut its power")

    async def _serve(self, method: str, body: object) -> object:
        """What the Agent calls. Raises RpcError and FormatError, which are the answer."""
        if method == EVENT:
            if self._link is None or self._link.session is None:
                raise RpcError(_BUSY, "the Machine is being let go; dial again")
            event, devices = Event.from_body(body), self._supply.devices()
            self._events.take(self._link.session[1], event, devices)
            return None
        return await self._supply.serve(method, body)

    async def let_go(self) -> None:
        """Close this daemon's end only: the Machine runs on, for a later `resume`."""
        rotating, self._rotating = self._rotating, None
        if rotating is not None:
            rotating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await rotating
        link, self._link = self._link, None
        if link is not None:
            await link.close()
        await self._proxy.close()

    async def _take_up(self, link: Link) -> SessionKeys:
        """Wait for the Agent, then hold its keys. Raises MachineError.

        Who fails, or gives up waiting, lets go: the next one must not find a link that nobody
        holds, whose keys are never replaced and whose silence nobody notices.
        """
        try:
            await self._connection(link)
            return await self._hold(link)
        except BaseException:
            await self.let_go()
            raise

    async def _hold(self, link: Link) -> SessionKeys:
        """Keep the channel's keys, now and whenever they change. Raises MachineError."""
        session = link.session
        if session is None:
            raise MachineError("the Agent gave no session keys", "boot it again")

        def seal(keys: LinkKeys) -> bytes:
            return self._slot.seal(session, keys)

        sealed = await asyncio.to_thread(seal, link.keys)
        if self._link is not link:
            raise MachineError("the Machine was let go", "take it up again")
        self._slot.put(sealed)
        pause = every(self._rotate_seconds)
        self._rotating = asyncio.create_task(rotate_keys(link, seal, self._slot.put, pause))
        return session

    async def _connection(self, link: Link) -> RpcConnection:
        """The Agent's connection, waited for while the Machine may live. Raises MachineError."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._boot_seconds
        while loop.time() < deadline:
            with contextlib.suppress(MachineError):
                return await link.agent(0.5)
            if self._link is not link:  # let go meanwhile: nobody will dial it any more
                raise MachineError("the Machine was let go", "take it up again")
            self._check_alive()
        raise MachineError("the Machine is not heard", "cut its power and boot it again")

    @abstractmethod
    def _check_alive(self) -> None:
        """Raises MachineError, with the reason, once waiting for the Agent is useless."""
