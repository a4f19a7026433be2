"""How every command of the lab ends: in one line where it fails, and never with half a lab left."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Final

from nodeclient.errors import SealrunError

INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def carry_out(name: str, act: Callable[[], int]) -> int:
    """Exit code of ``act``; ``name`` stands before what it complains of."""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    try:
        return act()
    except KeyboardInterrupt:
        print(f"{name}: interrupted; everything was taken down", file=sys.stderr)
        return INTERRUPTED
    except (SealrunError, RuntimeError) as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def _interrupt(*_: object) -> None:
    """The first one ends the lab; while it is taken down, further ones would leave half of it."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
