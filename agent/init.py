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
import socket
import subprocess
import sys
import time
from pathlib import Path

from agent.formats.faults import place_of
from agent.system import ENVIRONMENT, StartFailed, libc, load_drivers, set_up

_log = logging.getLogger("agent")
SOCKET = Path("/run/docker.sock")
_POWER_OFF, _CAD_OFF = 0x4321FEDC, 0  # reboot(2)
_DOCKER_TRIES = 1200  # of 0.1 s each: without acceleration it takes some ten seconds

# No network of Docker's own: containers here have none. No proxy, no address, no packet filter.
# Everything in RAM: /run is a tmpfs, and overlay2 cannot lie on the root, an overlay itself.
DOCKER = (
    *("dockerd", "--host", f"unix://{SOCKET}", "--group", "root", "--pidfile", "/run/docker.pid"),
    *("--data-root", "/run/docker-data", "--exec-root", "/run/docker"),
    *("--storage-driver", "overlay2", "--bridge", "none", "--iptables=false", "--ip6tables=false"),
    *("--ip-forward=false", "--ip-masq=false", "--userland-proxy=false"),
    *("--log-driver", "none", "--log-level", "fatal", "--no-new-privileges"),
    *("--exec-opt", "native.cgroupdriver=cgroupfs"),
)


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
    docker = _start(list(DOCKER), quiet=True)
    load_drivers()
    wait_for_docker(docker)
    agent = _start([sys.executable, "-I", "-B", "-m", "agent.fetch"])
    reap_until({docker.pid: "dockerd", agent.pid: "the Agent"})


def wait_for_docker(process: subprocess.Popen[bytes], path: Path = SOCKET) -> None:
    """Wait until the engine takes connections. Raises StartFailed if it ends, or never does."""
    for _ in range(_DOCKER_TRIES):
        if process.poll() is not None:
            raise StartFailed("dockerd ended while starting; build another image")
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as engine:
            engine.connect(str(path))
            return
        time.sleep(0.1)
    raise StartFailed("dockerd does not start; give the Machine more RAM")


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


def _start(command: list[str], *, quiet: bool = False) -> subprocess.Popen[bytes]:
    """Start a process. `quiet`: its words name what the task runs, so nobody gets them."""
    words = subprocess.DEVNULL if quiet else None
    try:
        return subprocess.Popen(
            command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=words, stderr=words
        )
    except OSError as error:
        raise StartFailed(f"{command[0]}: {error.strerror}; build another image") from error


if __name__ == "__main__":
    sys.exit(main())
