"""Ends of asyncio tasks."""

from __future__ import annotations

import asyncio
import contextlib


async def first_of(*workers: asyncio.Task[None]) -> None:
    """Until one of them ends: what it raised. Cancelled, it cancels all."""
    try:
        done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)
        for worker in done:
            worker.result()
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def cancel(task: asyncio.Task[None]) -> None:
    """End a task and wait until it has ended."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
