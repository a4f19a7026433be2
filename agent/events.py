"""Every device that comes, goes or changes from the Agent's hello on: kept, and told to the Pi.

Nothing is lost in silence. The kernel queues what nobody has read yet; where its queue overflows it
says so, and that is an event. A list that is full ends with an event that says so. Before Evidence
is signed the queue is read to its end, so that an answer never lags behind the kernel.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path, PurePosixPath

from agent.formats.cbor import FormatError
from agent.formats.events import CUT, EVENT, LOST, MAX_EVENTS, MAX_NAME, Event
from agent.formats.rpc import RpcError
from agent.inventory import device_at, devices_by_path
from agent.uevents import MAX_MESSAGE, Uevent, listen, parse

_log = logging.getLogger(__name__)
_BUSY_SECONDS = 0.2  # between two tries with a Pi that has too much to do
_KERNEL = 0  # who sends: netlink port of the kernel

Call = Callable[[str, object], Awaitable[object]]


class EventLog:
    """Construct (listens at once), `begin`, then `drain` whenever `fileno` is readable.

    own: names of block devices that the Agent makes and removes itself; nobody else's are left out.
    Safe to use from several threads.
    """

    def __init__(
        self,
        own: frozenset[str] = frozenset(),
        sys_folder: Path = Path("/sys"),
        source: socket.socket | None = None,
    ) -> None:
        self._own, self._sys = own, sys_folder
        self._socket = source or listen()
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._events: list[Event] = []
        self._devices: dict[str, str] = {}  # path in /sys → usb:… or pci:…
        self.notify: Callable[[], None] = _nobody  # called whenever there is a new event

    def fileno(self) -> int:
        """The kernel's end; readable when there is something to drain."""
        return self._socket.fileno()

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def begin(self) -> bool:
        """Forget what came so far: those are the devices of the boot itself. Whether there were."""
        self.drain()
        with self._lock:
            forgotten, self._events = bool(self._events), []
            self._devices |= devices_by_path(self._sys)
            self._begun = time.monotonic()
        return forgotten

    def drain(self) -> None:
        """Take over whatever the kernel has queued. Never raises for what a message holds."""
        with self._lock:
            while True:
                try:
                    data, _, flags, sender = self._socket.recvmsg(MAX_MESSAGE)
                except BlockingIOError:
                    return
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    self._note(LOST, "", "", "")
                    continue
                if not isinstance(sender, tuple) or sender[0] != _KERNEL:
                    continue  # another program's message, which says nothing about devices
                try:
                    if flags & socket.MSG_TRUNC:
                        raise FormatError("uevent: too long")
                    self._take(parse(data))
                except FormatError:
                    self._note(LOST, "", "", "")  # nobody can say what it was about

    def rows(self) -> list[object]:
        """The claim `events`, up to this moment."""
        self.drain()
        return [each.to_body() for each in self.since(0)]

    def since(self, number: int) -> tuple[Event, ...]:
        """Events behind this number."""
        with self._lock:
            return tuple(self._events[number:])

    def _take(self, event: Uevent) -> None:
        if self._events and self._events[-1].action == CUT:
            return
        if not event.is_hardware or (event.subsystem == "block" and event.name in self._own):
            return
        device = self._device_of(event)
        if event.action == "remove":
            self._devices.pop(event.path, None)
        elif event.device:
            self._devices[event.path] = event.device
        self._note(event.action, event.subsystem, event.name, device)

    def _note(self, action: str, subsystem: str, name: str, device: str) -> None:
        if self._events and self._events[-1].action in (CUT, LOST) and action == LOST:
            return  # said already
        room = MAX_EVENTS - len(self._events)
        if room == 0:
            return
        if room == 1:
            action, subsystem, name, device = CUT, "", "", ""
        ms = int((time.monotonic() - self._begun) * 1000)
        number = len(self._events) + 1
        self._events.append(Event(number, ms, action, _plain(subsystem), _plain(name), device))
        self.notify()

    def _device_of(self, event: Uevent) -> str:
        """The device that it is, or else the nearest one that it belongs to.

        What is gone has no files any more, when what hung on it goes: without the memory of what
        was there, that would seem to belong to the hub or controller above.
        """
        if event.device:
            return event.device
        path = PurePosixPath(event.path)
        for place in (path, *path.parents):
            if found := self._devices.get(str(place)) or device_at(
                self._sys / str(place).lstrip("/")
            ):
                return found
        return ""


async def tell(log: EventLog, call: Call) -> None:
    """Tell the Pi each event, in order, as soon as the kernel says it. Raises what `call` raises
    for a Pi that is gone for good.

    `call` waits for a Pi that is gone for a while, so that it gets what it missed.
    """
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(news.set)

    log.notify = wake
    loop.add_reader(log.fileno(), log.drain)
    news.set()
    told = 0
    try:
        while True:
            await news.wait()
            news.clear()
            for event in log.since(told):
                await _tell(event, call)
                told = event.number
    finally:
        loop.remove_reader(log.fileno())
        log.notify = _nobody


async def _tell(event: Event, call: Call) -> None:
    while True:
        try:
            await call(EVENT, event.to_body())
        except RpcError as error:
            if error.code == "busy":
                await asyncio.sleep(_BUSY_SECONDS)
                continue
            # It stands in the Evidence all the same, where the Pi cannot refuse it.
            _log.warning("the Pi does not take a kernel event (%s)", error.code)
        return


def _nobody() -> None:
    """Nobody waits for events yet."""


def _plain(text: str) -> str:
    return "".join(_printable(text[:MAX_NAME]))


def _printable(text: str) -> Iterator[str]:
    for char in text:
        yield char if char.isprintable() else "?"
