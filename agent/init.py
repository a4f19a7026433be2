"""PID 1 of a Machine: sets the system up, starts Docker and the Agent, and ends with either.

There is nothing else: no shell, no login, no service manager, no log. The Machine exists for one
boot of the Agent; whatever ends, fails or is not understood here ends in power off.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import sys

from agent.capabilities import SYS_TIME, drop
from agent.daemons import start, start_engine
from agent.formats.faults import place_of
from agent.system import (
    DRIVERS_LOADED,
    StartFailed,
    libc,
    load_disk_modules,
    load_drivers,
    set_up,
)

_log = logging.getLogger("agent")
_POWER_OFF, _CAD_OFF = 0x4321FEDC, 0  # reboot(2)


def main() -> int:
    """Live as PID 1. Returns only to somebody who is not."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    if os.getpid() != 1:
        _log.error("this starts a Machine and is its first process; `python -m agent` is the Agent")
        return 2
    try:
        _live()
    except StartFailed as error:
        _log.error("%s", error)
    except Exception as error:  # PID 1 must not end: the kernel would start over, with no reason
        _log.error("the Machine could not start: %s", place_of(error))
    finally:
        power_off()
    return 1


def _live() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    libc().reboot(_CAD_OFF)
    os.umask(0o022)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    set_up()
    engine = start_engine()
    # Beside the drivers, which it waits for before it says hello: Python takes a while to start.
    agent = start((sys.executable, "-I", "-B", "-m", "agent.fetch"))
    load_disk_modules()
    load_drivers()
    DRIVERS_LOADED.touch()
    drop(SYS_TIME)  # the Agent to be has it still, and sets the clock once
    reap_until({process.pid: name for name, process in engine.items()} | {agent.pid: "the Agent"})


def reap_until(watched: dict[int, str]) -> None:
    """Collect every process that ends; return once one of `watched` (by process id) is it."""
    while True:
        pid, _ = os.wait()
        if pid in watched:
            _log.warning("%s ended; power off", watched[pid])
            return


def power_off() -> None:
    """End everything, and cut this Machine's own power. Does nothing where this is not PID 1."""
    if os.getpid() != 1:
        return
    with contextlib.suppress(OSError):
        os.kill(-1, signal.SIGKILL)
    libc().reboot(_POWER_OFF)


if __name__ == "__main__":
    sys.exit(main())
