"""The power switch of the simulated Machine.

A real PC forgets everything when its power goes. The embedded Machine is a process beside a Docker
engine that lives on, so cutting its power means: kill the process, and take away what a PC's RAM
would have held: containers, RAM disks, the image that it had brought.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from nodeclient.errors import MachineError

LABEL = "sealrun.machine"
_KILL_SECONDS = 60.0
_UNMOUNT_TRIES = 20


def started_at(pid: int) -> int | None:
    """When a live process began, in clock ticks since boot; None if there is none (proc(5)).

    A pid comes back; pid and start together do not.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def kill_process(pid: int, started: int) -> None:
    """SIGKILL the process and its group if it is still that one. Raises MachineError."""
    deadline = time.monotonic() + _KILL_SECONDS
    while started_at(pid) == started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # its own session: the group is its own, too
        if time.monotonic() > deadline:
            raise MachineError(f"process {pid} of the Machine does not end", "kill it by hand")
        time.sleep(0.02)


def forget_machine(scratch: Path, socket: Path, machine: str) -> None:
    """Remove containers, RAM disks and brought image of one Machine. Raises MachineError."""
    brought = _brought(scratch)
    try:
        client = docker.DockerClient(base_url=f"unix://{socket}", timeout=60)
        try:
            label: dict[str, str | list[str] | bool] = {"label": f"{LABEL}={machine}"}
            for container in client.containers.list(all=True, filters=label, ignore_removed=True):
                with contextlib.suppress(NotFound):
                    container.remove(force=True, v=True)
            if brought:
                with contextlib.suppress(ImageNotFound, APIError):  # in use by another Machine
                    client.images.remove(brought, force=False)
        finally:
            client.close()
    except (DockerException, OSError) as error:
        raise MachineError(f"Docker does not answer ({error})", "start it: dockerd") from error
    _unmount_all(scratch)
    shutil.rmtree(scratch, ignore_errors=True)


def _brought(scratch: Path) -> str | None:
    """The ID of the image that the Agent brought, as it noted in its RAM disk."""
    with contextlib.suppress(OSError):
        text = (scratch / "brought").read_text()
        if len(text) == 64 and all(char in "0123456789abcdef" for char in text):
            return "sha256:" + text
    return None


def _unmount_all(scratch: Path) -> None:
    """Unmount everything at or below `scratch`; a dying container may hold it for a moment."""
    for attempt in range(_UNMOUNT_TRIES):
        points = _mounts(scratch)
        if not points:
            return
        for point in points:
            subprocess.run(["umount", point], capture_output=True, timeout=30, check=False)
        if attempt:
            time.sleep(0.1)
    raise MachineError(f"{scratch} stays mounted", "unmount it by hand: umount -R")


def _mounts(scratch: Path) -> list[str]:
    prefix = str(scratch.absolute())
    points = [
        line.split()[4].encode().decode("unicode_escape")
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    ]
    below = [each for each in points if each == prefix or each.startswith(prefix + "/")]
    return sorted(below, key=len, reverse=True)
