"""When the channel's keys are replaced: after every pause, at a moment when nothing is on its way.

A call that is cut off by the change is repeated, which every method permits; but a long one, such
as bringing an image, would do its work twice. It is waited for, though not for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from nodeclient.errors import MachineError
from nodeclient.machine.link import Link, LinkKeys

_log = logging.getLogger(__name__)
Pause = Callable[[], Awaitable[None]]
_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = 120.0  # longer than an image takes to the Machine


def every(seconds: float) -> Pause:
    """The schedule of a running Node."""

    async def pause() -> None:
        await asyncio.sleep(seconds)

    return pause


async def rotate_keys(
    link: Link, seal: Callable[[LinkKeys], bytes], put: Callable[[bytes], None], pause: Pause
) -> None:
    """Until cancelled. What fails is tried again after the next pause; the keys stay till then."""
    while True:
        await pause()
        await _quiet(link)
        try:
            await link.rotate(seal, put)
        except MachineError as error:
            _log.warning("machine link: keys not replaced: %s", error)


async def _quiet(link: Link) -> None:
    clock = asyncio.get_running_loop()
    end = clock.time() + _PATIENCE_SECONDS
    while not link.idle and clock.time() < end:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_SECONDS)
