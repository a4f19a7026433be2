"""The one Ethernet link between this Pi and its Machine."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from agent.formats.netboot import PI_ADDRESS, PREFIX
from nodeclient.errors import BadInput
from nodeclient.machine.commands import run
from nodeclient.names import INTERFACE, MAC

_IPV6 = Path("/proc/sys/net/ipv6/conf")


@dataclass(frozen=True, slots=True)
class Cable:
    """interface: the Pi's end. mac: the Machine's end, lower case; nobody else is heard.

    Raises BadInput for names that are none.
    """

    interface: str
    mac: str

    def __post_init__(self) -> None:
        if not re.fullmatch(INTERFACE, self.interface):
            raise BadInput(f"{self.interface!r} is no interface", "see: ip link")
        if not re.fullmatch(MAC, self.mac):
            raise BadInput(f"{self.mac!r} is no MAC of one machine", "write aa:bb:cc:dd:ee:ff")

    async def attach(self) -> None:
        """Bring the Pi's end up with its address. Raises MachineError.

        To be called once the firewall stands: before it, the interface would answer anybody.
        """
        # The cable speaks IPv4 alone; what the rules drop on the way out is then nobody's habit.
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            (_IPV6 / self.interface / "disable_ipv6").write_text("1")
        await run("ip", "link", "set", "dev", self.interface, "up")
        address = f"{PI_ADDRESS}/{PREFIX}"
        await run("ip", "address", "replace", address, "dev", self.interface)
