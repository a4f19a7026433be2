"""One thread for one device, and callers that wait so long and no longer.

A driver or a bus that hangs blocks the call inside a C library, where nothing can interrupt it. So
each device has a thread of its own: calls are served one by one, and whoever waited in vain gets
`RootBusy`. A call that was given up before it began is never made; the result of one that comes too
late is dropped. Once the device answers again, so does the root.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitedInVain
from typing import Any, TypeVar

from nodeclient.roots.base import RootBusy, RootError

Result = TypeVar("Result")
_Call = tuple["Future[Any]", Callable[[], Any]]


class Patience:
    """Serves calls to one device. ``seconds`` that a caller waits.

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

    def run(self, call: Callable[[], Result]) -> Result:
        """What ``call`` returns or raises. Raises RootBusy, and RootError after ``close``."""
        future: Future[Result] = Future()
        with self._lock:
            if self._closed:
                raise RootError(f"root: the {self._name} was closed", "start the node again")
            if not self._begun:
                self._thread.start()
                self._begun = True
            self._calls.put((future, call))
        try:
            return future.result(self._seconds)
        except WaitedInVain:
            if future.done():
                return future.result()  # the call itself raised it, or was quick after all
            future.cancel()
            raise RootBusy(
                f"root: the {self._name} did not answer for {self._seconds:g} s",
                "look at the device and at what else uses it, then try again",
            ) from None

    def close(self, last: Callable[[], None]) -> None:
        """Serve what waits, then ``last``, then nothing more. Does not wait. Harmless twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._begun:
                self._calls.put((Future(), last))
                self._calls.put(None)

    def _serve(self) -> None:
        while (each := self._next()) is not None:
            future, call = each
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
            del each, future, call  # nothing of the last call stays while waiting for the next

    def _next(self) -> _Call | None:
        """The next call; None at the end. `idle` raises nothing."""
        with contextlib.suppress(queue.Empty):
            found = self._calls.get(timeout=self._linger)
            if found is not None:
                return found
            self._idle()
            return None
        self._idle()
        return self._calls.get()
