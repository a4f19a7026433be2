"""Make sure that a Docker engine answers on this host.

An engine that answers is used as it is. Otherwise, as root and where ``dockerd`` is installed, one
is started detached, so that it outlives the command that needed it. A lock and a look at the
process table keep it single: a second ``dockerd`` in one network namespace deletes the first one's
bridge.
"""

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
from docker.errors import DockerException

from nodeclient.images.errors import EngineError

Progress = Callable[[str], None]

DEFAULT_SOCKET = Path("/var/run/docker.sock")
START_SECONDS = 60.0  # the slowest cold start seen on two busy cores was 9 s
STOP_SECONDS = 20.0
_CONTAINERD = "io.containerd.snapshotter.v1"  # the driver type, where that store is in use
_LOCK = Path("/run/lock/sealrun-engine.lock")
# Every container of ours has network "none": an engine without a bridge serves them all and does
# not touch the host's firewall.
_DOCKERD_FLAGS = ("--bridge=none", "--iptables=false", "--ip6tables=false")


def engine_answers(socket: Path = DEFAULT_SOCKET, seconds: float = 5.0) -> bool:
    """Say whether an engine answers a ping on ``socket`` within ``seconds``."""
    try:
        client = docker.DockerClient(base_url=f"unix://{socket}", timeout=int(seconds) or 1)
    except DockerException:
        return False
    try:
        return bool(client.ping())
    except (DockerException, OSError):
        return False
    finally:
        client.close()


def check_image_store(client: docker.DockerClient) -> None:
    """Refuse an engine that names images otherwise than by the digest of their configuration.

    With containerd's image store (a fresh Docker 29 has it) an ID is the digest of a manifest
    (moby issue 45458): no ID that the chain approves would be found, and none that runs be known.
    Raises `EngineError`, DockerException.
    """
    status = client.info().get("DriverStatus") or ()
    if any(_CONTAINERD in map(str, row) for row in status):
        raise EngineError(
            "this engine keeps images in containerd's store, under other IDs than the chain's; put "
            '{"features": {"containerd-snapshotter": false}} into /etc/docker/daemon.json and '
            "restart it"
        )


def ensure_engine(folder: Path, progress: Progress, seconds: float = START_SECONDS) -> Path:
    """Return the socket of an engine that answers; start ``dockerd`` if none does.

    ``folder`` gets ``dockerd.pid`` and ``dockerd.log`` of an engine started here. Raises
    `EngineError` when there is no engine and none can be started within ``seconds``.
    """
    if engine_answers():
        return DEFAULT_SOCKET
    program = _program()
    folder.mkdir(parents=True, exist_ok=True)
    with _single_starter(seconds):
        if engine_answers():  # another process started it while this one waited for the lock
            return DEFAULT_SOCKET
        if _running_dockerd() is None:
            progress("starting a Docker engine")
            _start(program, folder)
        _wait_until_answering(folder, seconds)
    return DEFAULT_SOCKET


def stop_engine(folder: Path) -> bool:
    """Stop the engine that `ensure_engine` started with ``folder``; False if there is none."""
    pid_file = folder / "dockerd.pid"
    try:
        pid = int(pid_file.read_text())
    except (OSError, ValueError):
        return False
    if _running_dockerd() != pid:
        return False
    os.kill(pid, 15)
    deadline = time.monotonic() + STOP_SECONDS
    while _running_dockerd() == pid:
        if time.monotonic() > deadline:
            raise EngineError(f"dockerd {pid} does not stop; see {folder / 'dockerd.log'}")
        time.sleep(0.1)
    return True


def _program() -> str:
    program = shutil.which("dockerd", path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin")
    if program is None:
        raise EngineError("no Docker engine answers; install one: apt-get install docker.io")
    if os.geteuid() != 0:
        raise EngineError("no Docker engine answers; start one as root, or run this as root")
    return program


@contextmanager
def _single_starter(seconds: float) -> Iterator[None]:
    """Hold the host-wide starter's lock; bounded, so that a stuck starter hangs nobody."""
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    with _LOCK.open("w") as lock:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EngineError(
                        "another command is still starting Docker; try again when it is done"
                    ) from None
                time.sleep(0.2)
        yield


def _running_dockerd() -> int | None:
    """Return the pid of a running ``dockerd`` of this host, from /proc."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if (entry / "comm").read_text().strip() == "dockerd" and state != "Z":
                return int(entry.name)
        except (OSError, IndexError):
            continue  # the process ended while we looked
    return None


def _start(program: str, folder: Path) -> None:
    pid_file = folder / "dockerd.pid"
    pid_file.unlink(missing_ok=True)  # no dockerd runs: a pid file left here is from a dead one
    with (folder / "dockerd.log").open("ab") as log:
        subprocess.Popen(
            [program, *_DOCKERD_FLAGS, f"--pidfile={pid_file}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )


def _wait_until_answering(folder: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not engine_answers():
        gone = _running_dockerd() is None
        if gone or time.monotonic() > deadline:
            what = "ended at once" if gone else f"does not answer within {seconds:.0f} s"
            raise EngineError(f"dockerd {what}; read {folder / 'dockerd.log'}")
        time.sleep(0.2)
