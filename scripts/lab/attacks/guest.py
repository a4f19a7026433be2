"""What the attacker does in a breached Machine: sent through its back door, and run there as root.

Only Python's own modules, and those of the image. Frames are sent as they are, past every socket
option and route; containers are started by the Machine's own engine.
"""

from __future__ import annotations

import base64
import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

RAN: list[Any] = []  # processes and containers that this door started
SLOWING = threading.Event()
SCRATCH = "/run/intruder"
CLONE_NEWNET = 0x40000000


def cable() -> str:
    """The interface that leads to the Pi."""
    (name,) = {each for _, each in socket.if_nameindex()} - {"lo"}
    return name


def send(frames: list[str]) -> None:
    """Ethernet frames, in hex."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((cable(), 0))
        for frame in frames:
            raw.send(bytes.fromhex(frame))


def start_container(image: str, changes: dict[str, Any], *, owned: bool) -> None:
    """One container more: as hardened as the task's own but for `changes`, or bare."""
    from docker import DockerClient  # type: ignore[attr-defined]

    from agent.formats.netboot import ENGINE

    client = DockerClient(base_url=f"unix://{ENGINE}", timeout=60)
    (task,) = client.containers.list(filters={"label": "sealrun.machine"})
    if not owned:
        made = client.containers.create(task.image.id, ["/waits"], network_mode="none")
    else:
        from agent.formats.netboot import SCRATCH as FOLDER
        from agent.formats.taskspec import Limits
        from agent.hardening import container_settings
        from agent.scratch import make_scratch

        limits = Limits(**changes.pop("limits"))
        scratch = make_scratch(Path(FOLDER), sealed=True)
        settings = container_settings(limits, scratch, (), proxy=False)
        settings |= changes
        made = client.containers.create(
            image or task.image.id, ["/waits"], labels=task.labels, **settings
        )
    RAN.append(made)
    made.start()


def import_image(tar: str) -> str:
    """Give the engine an image that holds this tar (base64); its ID."""
    from docker import DockerClient  # type: ignore[attr-defined]

    from agent.formats.netboot import ENGINE

    client = DockerClient(base_url=f"unix://{ENGINE}", timeout=60)
    client.api.import_image_from_data(base64.b64decode(tar), repository="intruder")
    return str(client.images.get("intruder").id)


def remove_started() -> None:
    """Whatever this door started is gone; it will not be found any more."""
    while RAN:
        each = RAN.pop()
        if isinstance(each, subprocess.Popen):
            each.kill()
            each.wait()
        else:
            each.remove(force=True)


def start_program(content: str, *, from_memory: bool) -> None:
    """A program (base64) that lies in no file, or in one that is deleted at once."""
    if from_memory:
        handle = os.memfd_create("intruder")
        path = f"/proc/self/fd/{handle}"
    else:
        handle = os.open(SCRATCH, os.O_RDWR | os.O_CREAT, 0o755)
        path = SCRATCH
    os.write(handle, base64.b64decode(content))
    if from_memory:
        RAN.append(subprocess.Popen(["intruder"], executable=path, pass_fds=[handle]))
    os.close(handle)
    if not from_memory:
        RAN.append(subprocess.Popen([path]))
        os.unlink(path)


def agent() -> int:
    """The Agent's process."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if words[-3:-1] == [b"-m", b"agent"]:
                return int(entry.name)
    raise RuntimeError("no Agent runs")


def freeze() -> None:
    """Stop the Agent."""
    os.kill(agent(), signal.SIGSTOP)


def thaw() -> None:
    """Let it go on, at its own pace."""
    SLOWING.set()
    os.kill(agent(), signal.SIGCONT)


def slow(share: float) -> None:
    """Let the Agent run for this share of the time only, from now on."""
    SLOWING.clear()
    threading.Thread(target=_brake, args=(agent(), share), daemon=True).start()


def _brake(pid: int, share: float) -> None:
    while not SLOWING.is_set():
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.0 - share)
        os.kill(pid, signal.SIGCONT)
        time.sleep(share)


def kill() -> None:
    """End the Agent."""
    os.kill(agent(), signal.SIGKILL)


def set_clock(seconds: float) -> None:
    """Move the Machine's clock by so much."""
    time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)


def ways_out_of_container() -> list[str]:
    """Which ways lead out of the network namespace that the task's container has."""
    pid = next(
        int(each.name)
        for each in Path("/proc").iterdir()
        if each.name.isdecimal() and (each / "cmdline").read_bytes().startswith(b"/waits")
    )
    found: list[str] = []
    looker = threading.Thread(target=_look, args=(pid, found))  # a namespace is a thread's
    looker.start()
    looker.join()
    return found


def _look(pid: int, found: list[str]) -> None:
    with open(f"/proc/{pid}/ns/net") as there:
        if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    tries = {
        "DNS": (socket.AF_INET, socket.SOCK_DGRAM, 0, ("9.9.9.9", 53)),
        "TCP": (socket.AF_INET, socket.SOCK_STREAM, 0, ("10.77.0.1", 7700)),
        "UDP": (socket.AF_INET, socket.SOCK_DGRAM, 0, ("10.77.0.1", 4000)),
        "ICMP": (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP, ("10.77.0.1", 0)),
        "IPv6": (socket.AF_INET6, socket.SOCK_DGRAM, 0, ("2620:fe::fe", 53)),
    }
    for name, (family, kind, protocol, address) in tries.items():
        try:
            with socket.socket(family, kind, protocol) as one:
                one.settimeout(3)
                one.connect(address)
                one.send(bytes(8))
            found.append(name)
        except OSError:
            continue
    found += [name for _, name in socket.if_nameindex() if name != "lo"]
