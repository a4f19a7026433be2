"""One thread for one device, and callers that wait so long and no longer.

A driver or a bus that hangs blocks the call inside a C library, where nothing can interrupt it. So
each device has a thread of its own: calls are served one by one, and whoever waited in vain gets
`RootBusy`; `RootQueued` where the device works at another call, for no longer than that may take. A
call that was given up before it began is never made; the result of one that comes too late is
dropped. Once the device answers again, so does the root.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitedInVain
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nodeclient.roots.base import RootBusy, RootError, RootQueued

Result = TypeVar("Result")


@dataclass(eq=False, slots=True)
class _Call:
    """``seconds`` that it may take once it has begun."""

    make: Callable[[], Any]
    seconds: float
    future: Future[Any] = field(default_factory=Future)
    begun: threading.Event = field(default_factory=threading.Event)


class Patience:
    """Serves calls to one device. ``seconds`` that a caller waits for its turn, and again for the
    answer.

    ``idle`` is called in the device's thread when no call came for ``linger`` seconds after one,
    and before the thread ends.
    """

    def __init__(
        self,
        name: str,
        seconds: float,
        idle: Callable[[], None] = lambda: None,
        linger: float = 0.0,
    ) -> None:
        self._name, self._seconds = name, seconds
        self._idle, self._linger = idle, linger
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        # A daemon: a device that never answers must not keep the process from ending.
        self._thread = threading.Thread(target=self._serve, name=f"root-{name}", daemon=True)
        self._lock = threading.Lock()
        self._begun = self._closed = False
        self._due = math.inf  # when what the device does now has to be done, on the monotonic clock

    def run(self, call: Callable[[], Result], seconds: float | None = None) -> Result:
        """What ``call`` returns or raises; ``seconds``: what this one may take, where it is slow.

        Raises RootBusy, RootQueued, and RootError after ``close``.
        """
        asked: _Call = _Call(call, seconds or self._seconds)
        with self._lock:
            if self._closed:
                raise RootError(f"root: the {self._name} was closed", "start the node again")
            if not self._begun:
                self._thread.start()
                self._begun = True
            self._calls.put(asked)
        if not asked.begun.wait(self._seconds) and asked.future.cancel():
            if time.monotonic() < self._due:
                raise RootQueued(
                    f"root: the {self._name} is busy with this node's own commands",
                    "try again in a moment",
                )
            raise self._silent(self._seconds)
        future: Future[Result] = asked.future
        try:
            return future.result(asked.seconds)
        except WaitedInVain:
            if future.done():
                return future.result()  # the call itself raised it, or was quick after all
            raise self._silent(asked.seconds) from None

    def _silent(self, seconds: float) -> RootBusy:
        return RootBusy(
            f"root: the {self._name} did not answer for {seconds:g} s",
            "look at the device and at what else uses it, then try again",
        )

    def close(self, last: Callable[[], None]) -> None:
        """Serve what waits, then ``last``, then nothing more. Does not wait. Harmless twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._begun:
                self._calls.put(_Call(last, self._seconds))
                self._calls.put(None)

    def _serve(self) -> None:
        while (each := self._next()) is not None:
            if not each.future.set_running_or_notify_cancel():
                continue
            self._due = time.monotonic() + each.seconds
            each.begun.set()
            try:
                each.future.set_result(each.make())
            except BaseException as error:
                each.future.set_exception(error)
            self._due = math.inf
            del each  # nothing of the last call stays while waiting for the next

    def _next(self) -> _Call | None:
        """The next call; None at the end. `idle` raises nothing."""
        with contextlib.suppress(queue.Empty):
            found = self._calls.get(timeout=self._linger)
            if found is None:
                self._rest()
            return found
        self._rest()
        return self._calls.get()

    def _rest(self) -> None:
        self._due = time.monotonic() + self._seconds  # to let go of a device may hang, too
        self._idle()
        self._due = math.inf
