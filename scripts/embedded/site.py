"""Where a node runs: the address that its peers dial, and the network namespace behind it."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NAMESPACES: Final = Path("/run/netns")
LOOPBACK: Final = "127.0.0.1"
# In a namespace of its own nobody else listens: a node has the same port in each.
PEER_PORT: Final = 7001


@dataclass(frozen=True, slots=True)
class Site:
    """``namespace`` is a name below /run/netns; empty: where this process is."""

    address: str = LOOPBACK
    namespace: str = ""

    def command(self, words: Sequence[str]) -> list[str]:
        """The command that runs ``words`` there; it becomes them, so its process id is theirs.

        Not by `ip netns exec`: that gives a mount namespace, too, and the Docker engine would not
        see the RAM disks that an Agent mounts in it.
        """
        if not self.namespace:
            return list(words)
        return ["nsenter", f"--net={NAMESPACES / self.namespace}", *words]

    def endpoint(self) -> str:
        """host:port for a new node."""
        port = PEER_PORT if self.namespace else free_port()
        return f"{self.address}:{port}"


HERE: Final = Site()


def free_port() -> int:
    """A loopback port that is free now, and stays so while a killed node is down.

    Not one that the kernel gives to outgoing connections, hence below ip_local_port_range.
    """
    while True:
        port = 10_000 + secrets.randbelow(10_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
