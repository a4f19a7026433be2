"""The Machine's power switch: of a real PC, whatever its operator has to switch it with."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import Protocol

from nodeclient.errors import MachineError
from nodeclient.machine.commands import run
from nodeclient.machine.netboot.cable import Cable
from nodeclient.machine.netboot.firewall import WAKE_ON_LAN


class Power(Protocol):
    """Every method may raise MachineError, and is harmless twice."""

    @property
    def simulated(self) -> tuple[str, ...]:
        """Parts of this Machine that are not real, as its Evidence names them."""

    async def on(self) -> None:
        """Switch on."""

    async def off(self) -> None:
        """Cut the power; returns when the Machine's RAM has forgotten everything."""

    async def reset(self) -> None:
        """Start again from the firmware without cutting the power."""

    def is_on(self) -> bool | None:
        """Whether it has power; None where nobody can tell."""


@dataclass(frozen=True, slots=True)
class HookPower:
    """A PC behind a relay, a smart plug or a management controller.

    on, off, reset: the operator's commands (argument lists, no shell); without `on` a magic packet
    wakes the PC, without `reset` the power is cut. settle_seconds: how long a PC without power must
    stay so: DRAM at room temperature keeps bits for seconds (Halderman et al., "Lest We Remember",
    2008).
    """

    cable: Cable
    off_command: tuple[str, ...]
    on_command: tuple[str, ...] = ()
    reset_command: tuple[str, ...] = ()
    settle_seconds: float = 10.0
    hook_seconds: float = 60.0

    @property
    def simulated(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    async def on(self) -> None:
        """Run the hook, or wake the PC."""
        if self.on_command:
            await run(*self.on_command, seconds=self.hook_seconds)
        else:
            await asyncio.to_thread(send_magic_packet, self.cable)

    async def off(self) -> None:
        """Run the hook, then wait for the RAM to forget."""
        await run(*self.off_command, seconds=self.hook_seconds)
        await asyncio.sleep(self.settle_seconds)

    async def reset(self) -> None:
        """Run the hook; without one, off and on."""
        if self.reset_command:
            await run(*self.reset_command, seconds=self.hook_seconds)
        else:
            await self.off()
            await self.on()

    def is_on(self) -> bool | None:
        """A hook does not tell."""
        return None


def magic_packet(mac: str, source: bytes) -> bytes:
    """An Ethernet frame that wakes `mac` (AMD, "Magic Packet Technology", 1995).

    source: the sender's address, 6 bytes.
    """
    target = bytes.fromhex(mac.replace(":", ""))
    return target + source + WAKE_ON_LAN.to_bytes(2, "big") + b"\xff" * 6 + target * 16


def send_magic_packet(cable: Cable) -> None:
    """Wake the Machine. Raises MachineError."""
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((cable.interface, 0))
            source: bytes = raw.getsockname()[4]
            raw.send(magic_packet(cable.mac, source))
    except OSError as error:
        raise MachineError(
            f"{cable.interface} cannot send a magic packet ({error.strerror})",
            "run the daemon as root, and see: ip link",
        ) from error
