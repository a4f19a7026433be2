"""Makes a bare kernel into a system that Docker and the Agent can run on, and nobody else."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
HOSTNAME = "machine"
_NOSUID, _NODEV, _NOEXEC = 2, 4, 8  # mount(2)
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1  # netdevice(7)
_SETTLE_TRIES = 50
_MODULE_SECONDS = 60
_DRIVER_TRIES = 1800  # of 0.1 s
# What the task's disks take, before anybody can need it; and what a CPU may lack that does without.
_DISK_MODULES = ("loop", "dm_crypt", "ext4", "xts", "crc32c_generic")
_FASTER = ("aesni_intel", "crc32c_intel")


DRIVERS_LOADED = Path("/run/sealrun/drivers")  # is there once they are


class StartFailed(Exception):
    """The system cannot be set up."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount(2): target, file system, flags, options."""

    target: str
    kind: str
    flags: int
    options: str = ""


# Some come from the initramfs, which needed them first; those are left as they are.
MOUNTS = (
    Mount("/proc", "proc", _NOSUID | _NODEV | _NOEXEC),
    Mount("/sys", "sysfs", _NOSUID | _NODEV | _NOEXEC),
    Mount("/dev", "devtmpfs", _NOSUID | _NOEXEC, "mode=0755"),
    Mount("/dev/pts", "devpts", _NOSUID | _NOEXEC, "mode=0620,ptmxmode=0666"),
    Mount("/run", "tmpfs", _NOSUID | _NODEV, "mode=0755"),
    Mount("/tmp", "tmpfs", _NOSUID | _NODEV, "mode=1777"),  # noqa: S108
    Mount("/sys/fs/cgroup", "cgroup2", _NOSUID | _NODEV | _NOEXEC),
    Mount("/sys/kernel/security", "securityfs", _NOSUID | _NODEV | _NOEXEC),
)
# Keys at the Machine's keyboard, a second kernel and other users' looks into the first: all off.
SETTINGS = {
    "kernel/sysrq": "0",
    "kernel/kexec_load_disabled": "1",
    "kernel/dmesg_restrict": "1",
    "kernel/unprivileged_bpf_disabled": "1",
    "kernel/core_pattern": "|/bin/false",
    "fs/suid_dumpable": "0",
}


CONTROLLERS = "+cpu +memory +pids"  # of what containers are limited in


def set_up() -> None:
    """Mounts, control group, settings, name, loopback. Raises StartFailed."""
    for each in MOUNTS:
        mount(each)
    enter_group()
    apply_settings(SETTINGS)
    socket.sethostname(HOSTNAME)
    loopback_up()


def mount(what: Mount) -> None:
    """Mount unless something is mounted there. Raises StartFailed."""
    target = Path(what.target)
    target.mkdir(parents=True, exist_ok=True)
    if target.is_mount():
        return
    names = [text.encode() for text in (what.kind, what.target, what.kind)]
    if libc().mount(*names, what.flags, what.options.encode()):
        raise StartFailed(f"{what.target}: {os.strerror(ctypes.get_errno())}; use another kernel")


def enter_group(groups: Path = Path("/sys/fs/cgroup")) -> None:
    """Live, with all that this process starts, beside the containers' control groups.

    dockerd looks for the swap limit in its own group, which the topmost one has not got: from there
    it would start containers without that limit, and say nothing. Raises StartFailed.
    """
    own = groups / "machine"
    try:
        (groups / "cgroup.subtree_control").write_text(CONTROLLERS)
        own.mkdir(exist_ok=True)
        (own / "cgroup.procs").write_text("0")  # who writes
    except OSError as error:
        raise StartFailed(f"{error.filename}: {error.strerror}; use another kernel") from error
    if not (own / "memory.swap.max").exists():
        raise StartFailed("this kernel limits no swap; use another kernel")


def apply_settings(settings: Mapping[str, str], folder: Path = Path("/proc/sys")) -> None:
    """Write kernel settings. One that this kernel has not got has nothing to switch off."""
    for name, value in settings.items():
        with contextlib.suppress(FileNotFoundError):
            (folder / name).write_text(value)


def loopback_up() -> None:
    """Set `lo` up: the Agent's and Docker's own parts may speak to each other over it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
        (flags,) = struct.unpack_from("H", answer, 16)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def load_disk_modules() -> None:
    """Load what encrypted disks take. Raises StartFailed."""
    modprobe(*_FASTER)
    if modprobe(*_DISK_MODULES):
        raise StartFailed("the kernel has no encrypted disks; build another image")


def modprobe(*names: str) -> int:
    """Load modules by name or alias; what modprobe returns, 0 if all are there.

    -q: an alias without a module in the image is a device that nobody here uses.
    """
    run = ["modprobe", "-a", "-b", "-q", "--", *names]
    done = subprocess.run(
        run, env=ENVIRONMENT, stdin=subprocess.DEVNULL, check=False, timeout=_MODULE_SECONDS
    )
    return done.returncode


def load_drivers(sys_folder: Path = Path("/sys")) -> None:
    """Load what the image has for the devices found, until no more of them appear.

    The same devices give the same inventory after every boot, which the AFTER record compares.
    """
    seen: set[str] = set()
    for _ in range(_SETTLE_TRIES):
        new = set(aliases(sys_folder)) - seen
        if not new and seen:
            return
        seen |= new
        if new:
            modprobe(*sorted(new))
        settle(sys_folder)


def wait_for_drivers(sign: Path = DRIVERS_LOADED) -> None:
    """Wait until PID 1 has loaded them: the inventory is complete then. Raises StartFailed.

    Whether PID 1 still works on it needs no look: if it fails it cuts the power.
    """
    for _ in range(_DRIVER_TRIES):
        if sign.exists():
            return
        time.sleep(0.1)
    raise StartFailed("the drivers are not loaded; boot again")


def aliases(sys_folder: Path) -> Iterator[str]:
    """Module aliases of every device that the kernel knows."""
    for folder, _, files in os.walk(sys_folder / "devices"):
        if "modalias" in files:
            with contextlib.suppress(OSError):
                if text := Path(folder, "modalias").read_text(errors="replace").strip():
                    yield text


def settle(sys_folder: Path) -> None:
    """Wait until the kernel has not announced a device for 0.3 s, some 5 s at most."""
    number, quiet = "", 0
    for _ in range(_SETTLE_TRIES):
        before, number = number, (sys_folder / "kernel/uevent_seqnum").read_text()
        quiet = quiet + 1 if number == before else 0
        if quiet == 3:
            return
        time.sleep(0.1)


def libc() -> ctypes.CDLL:
    """The C library, for the calls that Python has not got; errno is kept."""
    return ctypes.CDLL(None, use_errno=True)
