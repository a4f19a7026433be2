"""A cable in miniature: the Pi's namespace and the PC's, joined by a veth pair."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

MAC, STRANGER = "52:54:00:77:00:01", "52:54:00:77:00:99"
_NETNS = Path("/run/netns")
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_LIBC = ctypes.CDLL(None, use_errno=True)


class Wire:
    """`pi` and `pc`: names of the two namespaces. The Pi's end is `cable`, the PC's `eth0`."""

    def __init__(self) -> None:
        label = secrets.token_hex(4)
        self.pi, self.pc = f"net-{label}-pi", f"net-{label}-pc"

    def make(self) -> None:
        for name in (self.pi, self.pc):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        pair = ("link", "add", "cable", "type", "veth", "peer", "name", "eth0", "netns", self.pc)
        ip("-n", self.pi, *pair)
        self.become(MAC)

    def become(self, mac: str) -> None:
        """The PC's network card has this address."""
        ip("-n", self.pc, "link", "set", "eth0", "down")
        ip("-n", self.pc, "link", "set", "eth0", "address", mac)
        ip("-n", self.pc, "link", "set", "eth0", "up")

    def kill_pc(self) -> None:
        """Whatever runs on the PC is gone."""
        _kill_all(self.pc)

    def remove(self) -> None:
        """End what runs in both and delete them."""
        for name in (self.pi, self.pc):
            _kill_all(name)
            ip("netns", "delete", name)

    def at_pi(self) -> contextlib.AbstractContextManager[None]:
        """This thread, and what it starts, is on the Pi meanwhile."""
        return _inside(self.pi)

    def at_pc(self) -> contextlib.AbstractContextManager[None]:
        """The same on the PC."""
        return _inside(self.pc)

    def on_pc(self, *argv: str) -> list[str]:
        """The command that runs `argv` on the PC."""
        # Not `ip netns exec`: it hides the Agent's mounts, and Docker would find none of them.
        return ["nsenter", f"--net={_NETNS / self.pc}", "--", *argv]

    def address(self, *addresses: str) -> None:
        """The PC takes addresses without asking anybody."""
        for address in addresses:
            ip("-n", self.pc, "address", "replace", address, "dev", "eth0")

    def frames(self, ether_type: int, interface: str = "eth0") -> socket.socket:
        """What arrives at the PC with an EtherType from now on."""
        with self.at_pc():
            plain = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        plain.bind((interface, ether_type))
        plain.settimeout(2.0)
        return plain

    def hush(self) -> None:
        """The PC's kernel has no IPv6, as the boot image's: its card says nothing by itself."""
        subprocess.run(self.on_pc("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1"), check=True)

    def reaches(self, address: str, port: int) -> bool:
        """Whether the PC gets a TCP connection."""
        with self.at_pc():
            plain = socket.socket()
        with plain:
            plain.settimeout(1.0)
            return plain.connect_ex((address, port)) == 0

    def listening(self) -> set[tuple[str, int]]:
        """(protocol, port) of everything that is bound on the Pi."""
        shown = ["ip", "netns", "exec", self.pi, "ss", "-Hlntu"]
        lines = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in lines.splitlines()]
        return {(row[0], int(row[4].rpartition(":")[2])) for row in rows}


def ip(*argv: str) -> str:
    return subprocess.run(["ip", *argv], capture_output=True, text=True, check=True).stdout


def _kill_all(namespace: str) -> None:
    while pids := set(ip("netns", "pids", namespace).split()) - {str(os.getpid())}:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


@contextlib.contextmanager
def _inside(namespace: str) -> Iterator[None]:
    with open("/proc/thread-self/ns/net") as home, (_NETNS / namespace).open() as there:
        assert _LIBC.setns(there.fileno(), _CLONE_NEWNET) == 0
        try:
            yield
        finally:
            assert _LIBC.setns(home.fileno(), _CLONE_NEWNET) == 0
