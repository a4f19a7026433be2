"""Starts the engine of a Machine that has nothing else: containerd, and dockerd before it.

dockerd would start containerd itself and give up after 15 seconds, which a slow PC, or one that is
emulated, does not always keep. Everything lies in RAM: `/run` is a tmpfs, and overlay2 could not
lie on the root, which is an overlay itself.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from agent.capabilities import SYS_TIME, drop
from agent.formats.netboot import ENGINE
from agent.system import ENVIRONMENT, StartFailed

SOCKET = Path(ENGINE)
_CONTAINERD = Path("/run/containerd")
_TRIES = 1800  # of 0.1 s each, and of _ANSWER_SECONDS where it listens and does not answer yet
_ANSWER_SECONDS = 5.0
_PING = b"GET /_ping HTTP/1.0\r\n\r\n"
# Plugins of clusters, of file systems that are not here, and of telemetry.
_CONFIG = f"""\
version = 2
root = "{_CONTAINERD}/root"
state = "{_CONTAINERD}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.opt",
  "io.containerd.internal.v1.restart",
  "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{_CONTAINERD}/containerd.sock"
"""
CONTAINERD = ("containerd", "--config", f"{_CONTAINERD}/config.toml", "--log-level", "fatal")
# No network of Docker's own: containers here have none. No proxy, no address, no packet filter.
DOCKERD = (
    *("dockerd", "--containerd", f"{_CONTAINERD}/containerd.sock"),
    *("--host", f"unix://{SOCKET}", "--group", "root", "--pidfile", "/run/docker.pid"),
    *("--data-root", "/run/docker-data", "--exec-root", "/run/docker"),
    *("--storage-driver", "overlay2", "--exec-opt", "native.cgroupdriver=cgroupfs"),
    *("--log-driver", "none", "--log-level", "fatal"),
    *("--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
    *("--ip-masq=false", "--userland-proxy=false", "--no-new-privileges"),
)

Process = subprocess.Popen[bytes]


def start_engine() -> dict[str, Process]:
    """Start both, and wait for neither; by name. Raises StartFailed."""
    _CONTAINERD.mkdir(mode=0o711, parents=True)
    (_CONTAINERD / "config.toml").write_text(_CONFIG)
    return {command[0]: _start_engine_part(command) for command in (CONTAINERD, DOCKERD)}


def _start_engine_part(command: tuple[str, ...]) -> Process:
    """Without the right to set the clock, which runs on with the task."""
    return start(command, quiet=True, before=lambda: drop(SYS_TIME))


def wait_for_engine(path: Path = SOCKET) -> None:
    """Wait until dockerd answers; whether it lives is for PID 1 to see. Raises StartFailed."""
    for _ in range(_TRIES):
        if _answers(path):
            return
        time.sleep(0.1)
    raise StartFailed("dockerd does not answer; give the Machine more RAM")


def _answers(path: Path) -> bool:
    """Whether `/_ping` is answered; dockerd listens some time before it does."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as engine:
        engine.settimeout(_ANSWER_SECONDS)
        engine.connect(str(path))
        engine.sendall(_PING)
        return b" 200 " in engine.recv(64)
    return False


def start(
    command: tuple[str, ...], *, quiet: bool = False, before: Callable[[], None] | None = None
) -> Process:
    """Start a process. `quiet`: its words name what the task runs, so nobody gets them.

    `before` is called in the new process.
    """
    words = subprocess.DEVNULL if quiet else None
    try:
        return subprocess.Popen(
            command,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            preexec_fn=before,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise StartFailed(f"{command[0]} cannot be started; build another image") from error
