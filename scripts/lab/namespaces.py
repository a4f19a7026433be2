"""Network namespaces of one lab: a hub in the middle, and one for each node around it.

::

    hub  10.88.0.1 ── wan (bridge) ─┬─ wan0 10.88.0.2   first node's namespace
      chain                         ├─ wan0 10.88.0.3   second node's
                                    └─ …

    a Pi's besides:  cable (bridge) ── pc0 (tap) ── its PC

No address lies in the host's own namespace, nothing is forwarded, and there is no way out. Whatever
runs for the lab lives in one of these namespaces: by that, and not by lists of process ids that a
crash leaves incomplete, it is found again and ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from scripts.embedded.site import NAMESPACES, Site

PREFIX: Final = "sealrun-"
HUB_ADDRESS: Final = "10.88.0.1"
WAN: Final = "10.88.0.{}"
FIRST_HOST: Final = 2
CABLE: Final = "cable"  # the Pi's end; a bridge, so that somebody may plug in another machine
SOCKET: Final = "pc0"  # where the PC is plugged in
CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
END_SECONDS: Final = 30.0
# Inherited from the host (where Docker may have switched forwarding on), or on by default.
SETTINGS: Final = {
    "net/ipv4/ip_forward": "0",
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv6/conf/default/disable_ipv6": "1",
}
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class NamespaceError(RuntimeError):
    """A namespace cannot be made or removed. One line that ends with the next step."""


class Namespaces:
    """The namespaces of the lab ``label``. Construct, `make`, and in any case `remove`."""

    def __init__(self, label: str, nodes: Sequence[str]) -> None:
        self._label = label
        self._nodes = tuple(nodes)

    @property
    def hub(self) -> str:
        """The namespace of the chain and of the lab's own process."""
        return f"{PREFIX}{self._label}-hub"

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, known before the first one is made."""
        return (self.hub, *(self.site(node).namespace for node in self._nodes))

    def site(self, node: str) -> Site:
        """Where a node lives."""
        address = WAN.format(FIRST_HOST + self._nodes.index(node))
        return Site(address, f"{PREFIX}{self._label}-{node}")

    def make(self) -> None:
        """Add them all and connect them. Raises `NamespaceError`."""
        _add(self.hub)
        _ip("-n", self.hub, "link", "add", "wan", "type", "bridge")
        _ip("-n", self.hub, "address", "add", f"{HUB_ADDRESS}/24", "dev", "wan")
        _ip("-n", self.hub, "link", "set", "wan", "up")
        for node in self._nodes:
            self._attach(self.site(node))

    def _attach(self, site: Site) -> None:
        _add(site.namespace)
        port = f"port{site.address.rpartition('.')[2]}"
        pair = ("link", "add", port, "type", "veth", "peer", "name", "wan0", "netns")
        _ip("-n", self.hub, *pair, site.namespace)
        _ip("-n", self.hub, "link", "set", port, "master", "wan", "up")
        _ip("-n", site.namespace, "address", "add", f"{site.address}/24", "dev", "wan0")
        _ip("-n", site.namespace, "link", "set", "wan0", "up")

    def remove(self) -> None:
        """End what runs in them and delete them; those that are gone are no fault."""
        remove(self.names)


def plug_in(namespace: str, socket: str) -> None:
    """A socket for one machine on the cable of a Pi, which is laid with the first one."""
    if not _has(namespace, CABLE):
        _ip("-n", namespace, "link", "add", CABLE, "type", "bridge", "forward_delay", "0")
    _ip("-n", namespace, "tuntap", "add", "dev", socket, "mode", "tap")
    _ip("-n", namespace, "link", "set", socket, "master", CABLE, "up")


def remove(names: Iterable[str]) -> None:
    """End every process in the namespaces, then delete these. Raises `NamespaceError`."""
    there = [name for name in names if (NAMESPACES / name).exists()]
    end = time.monotonic() + END_SECONDS
    # Again and again: what is killed may just have started something.
    while any(_kill_all(name) for name in there):
        if time.monotonic() > end:
            raise NamespaceError(f"a process in {there} does not end; kill it: ip netns pids NAME")
        time.sleep(0.05)
    for name in there:
        _ip("netns", "delete", name)


@contextlib.contextmanager
def entered(name: str) -> Iterator[None]:
    """This thread, and what it starts (threads, processes), lives in the namespace meanwhile."""
    with open("/proc/thread-self/ns/net") as home, (NAMESPACES / name).open() as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def processes(name: str) -> list[int]:
    """The ids of all processes in a namespace that exists, but this one's."""
    wanted = _identity(NAMESPACES / name)
    ids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return [pid for pid in ids if pid != os.getpid() and _lives_in(pid, wanted)]


def _kill_all(name: str) -> bool:
    """SIGKILL whatever lives in a namespace; whether there was anything."""
    wanted, found = _identity(NAMESPACES / name), processes(name)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            try:
                if _lives_in(pid, wanted):  # asked again: the id may be another's by now
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)
    return bool(found)


def _lives_in(pid: int, wanted: tuple[int, int]) -> bool:
    try:
        return _identity(Path(f"/proc/{pid}/ns/net")) == wanted
    except OSError:  # it ended; a zombie is in no namespace either
        return False


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _add(name: str) -> None:
    _ip("netns", "add", name)
    _ip("-n", name, "link", "set", "lo", "up")
    with entered(name):
        for key, value in SETTINGS.items():
            Path("/proc/sys", key).write_text(value)


def _has(namespace: str, interface: str) -> bool:
    with entered(namespace):
        return Path("/proc/sys/net/ipv4/conf", interface).exists()


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise NamespaceError(f"setns: {os.strerror(number)}; run as root")


def _ip(*words: str) -> None:
    try:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30)
    except FileNotFoundError as error:
        raise NamespaceError("ip is missing; run: apt-get install iproute2") from error
    except subprocess.TimeoutExpired as error:
        raise NamespaceError(f"ip {' '.join(words)} hangs; look at dmesg") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip() or "no reason given"
        raise NamespaceError(f"ip {' '.join(words)}: {reason}; run as root") from error
