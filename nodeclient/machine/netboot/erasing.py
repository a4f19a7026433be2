"""One try at an erasure: boots the eraser as any image is booted, and has its answer checked.

The cable is as narrow as the step permits: while the eraser boots it gets an address and its one
file; from its hello on, one connection and nothing else. Whatever happens, the cable ends closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from agent.formats.erasure import ErasureProof, Hello, Range
from agent.formats.netboot import ERASE_PORT, PI_ADDRESS
from nodeclient.core.claims import Region
from nodeclient.core.erasure import cut_ranges, plan_ranges, uncovered
from nodeclient.core.evidence_policy import MOST_UNCOVERED
from nodeclient.core.images import ImageKind
from nodeclient.errors import MachineError
from nodeclient.machine.netboot import firewall
from nodeclient.machine.netboot.cable import Cable
from nodeclient.machine.netboot.erase import Eraser, Patience
from nodeclient.machine.netboot.firewall import Phase
from nodeclient.machine.netboot.order import BootOrder
from nodeclient.machine.netboot.power import Power
from nodeclient.machine.netboot.server import BootServer

_log = logging.getLogger(__name__)
_LOOK = "erase again, and look at its console"
_LOOK_SECONDS = 0.5  # between two looks whether waiting is of any use


@dataclass(frozen=True, slots=True)
class Erasing:
    """What a try needs. image: ID of the eraser (32 bytes), in `images`; boot_seconds: until it
    dials; uncovered: bytes of RAM that may be left out where the eraser's map lacks some;
    quoted: a TPM vouched for the run, so that the eraser must bring its quote.
    `is_approved` asks the chain whether the image may be booted now (an eraser is a BOOT image)."""

    cable: Cable
    image: bytes
    images: Path
    boot_seconds: float
    boot_server: tuple[str, ...]
    power: Power
    is_approved: Callable[[bytes, ImageKind], Awaitable[bool]]
    patience: Patience = Patience()  # noqa: RUF009 - frozen
    uncovered: int = MOST_UNCOVERED
    quoted: bool = False

    async def run(self, memory: tuple[Region, ...], *, cold: bool) -> ErasureProof:
        """Boot the eraser, from the memory as it is or, `cold`, after the power was cut; have it
        fill the RAM of `memory`. The Machine stays on. Raises MachineError.
        """
        if not await self.is_approved(self.image, ImageKind.BOOT):
            raise MachineError(
                f"eraser image {self.image.hex()[:16]}… is not approved on chain",
                "name an approved one as machine.eraser",
            )
        server = BootServer(self.boot_server)
        try:
            await firewall.apply(self.cable, Phase.ERASER_BOOTING)
            await self.cable.attach()
            with contextlib.closing(_listen(self.cable)) as listener:
                folder = self.images.absolute() / self.image.hex()
                await server.start(BootOrder(self.cable, folder, self.image, b""))
                await self._switch(cold)
                peer = await self._accept(listener, server)
            with contextlib.closing(peer):
                eraser = Eraser(peer, self.patience)
                hello = await eraser.hello()
                await server.stop()
                await firewall.apply(self.cable, Phase.ERASING)
                ranges = self._ranges(memory, hello)
                size = sum(length for _, length in ranges)
                _log.info("the eraser keeps %d bytes and is to fill %d", hello.window, size)
                return await eraser.prove(self.image, ranges, hello.window, quoted=self.quoted)
        finally:
            await server.stop()
            await firewall.apply(self.cable, Phase.OFF)

    def _ranges(self, memory: tuple[Region, ...], hello: Hello) -> tuple[Range, ...]:
        """What to fill: all of the plan that is RAM in this boot, too. Raises MachineError where
        that leaves out more than members accept: who says so may want to keep it."""
        planned = plan_ranges(memory)
        ranges = cut_ranges(planned, hello.ram)
        left = uncovered(memory, ranges)
        if ranges != planned:
            _log.info("the eraser's map has less RAM: %d bytes in all are not covered", left)
            if not ranges or left > self.uncovered:
                raise MachineError("the eraser's map lacks too much of the RAM to erase", _LOOK)
        return ranges

    async def _switch(self, cold: bool) -> None:
        """A reset leaves in memory what the eraser is to overwrite, and cuts nothing of the proof:
        a Machine that is off, or whose reset did not help, is switched on afresh."""
        if cold:
            await self.power.off()
        if cold or self.power.is_on() is False:
            await self.power.on()
        else:
            await self.power.reset()

    async def _accept(self, listener: socket.socket, server: BootServer) -> socket.socket:
        """The eraser's connection. Raises MachineError once waiting for it is useless."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.boot_seconds
        while loop.time() < deadline:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    peer, _ = await loop.sock_accept(listener)
                    return peer
            if server.finding is not None:
                raise MachineError(server.finding, "look at what else is on the cable")
            if self.power.is_on() is False:
                raise MachineError("the Machine went off", "look at its console")
        raise MachineError("the eraser is not heard", "look at the Machine's console")


def _listen(cable: Cable) -> socket.socket:
    """The port for one connection, on the cable only."""
    listener = socket.socket()
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, cable.interface.encode())
        listener.bind((PI_ADDRESS, ERASE_PORT))
        listener.listen(1)
    except OSError as error:
        listener.close()
        raise MachineError(
            f"port {ERASE_PORT} of {cable.interface} cannot be served ({error.strerror})",
            "free it, and run the daemon as root",
        ) from error
    return listener
