"""A place of its own for one party of a rig: a thread with an event loop in a network namespace.

Whatever the party starts (sockets, threads, processes) lives in that namespace too.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from scripts.lab.namespaces import entered

T = TypeVar("T")


class Station:
    """`start`, then `run` or `reach`; in any case `stop`."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._live, name=namespace, daemon=True)

    def start(self) -> None:
        """Wait until it runs."""
        self._thread.start()
        self._ready.wait()
        if self._loop is None:
            raise RuntimeError(f"{self._namespace} cannot be entered; run as root")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it there, and wait. For callers outside of every event loop."""
        future = asyncio.run_coroutine_threadsafe(work, self._running)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C reaches only this thread
            raise

    async def reach(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it there, for callers in another station."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._running))

    def stop(self) -> None:
        """End the thread; what it started must have been stopped before."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    @property
    def _running(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None, "start it first"
        return self._loop

    def _live(self) -> None:
        try:
            with entered(self._namespace), asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                self._loop.call_soon(self._ready.set)
                self._loop.run_forever()
        finally:
            self._ready.set()
