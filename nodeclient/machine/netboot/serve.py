"""The boot server, a process of its own: DHCP and HTTP for one boot of one Machine.

``python -m nodeclient.machine.netboot.serve``, started by the daemon, also inside a container. It
reads one order on standard input, opens and binds what it needs as root, gives all privileges up,
and only then listens. It ends when standard input does: nobody has to find it to stop it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import socket
import sys

from aiohttp import web

from agent.formats.cbor import FormatError
from agent.formats.netboot import HTTP_PORT, PI_ADDRESS
from nodeclient.errors import MachineError
from nodeclient.machine.netboot.cable import Cable
from nodeclient.machine.netboot.dhcp import NOBODY, Dhcp
from nodeclient.machine.netboot.image import open_image
from nodeclient.machine.netboot.order import LENGTH, MAX_LINE, MAX_ORDER, BootOrder, Event
from nodeclient.machine.netboot.pages import Pages

_MAX_FILES = 64  # descriptors, and so connections: one Machine needs a handful
_BACKLOG = 8
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4  # mlockall(2)


def main() -> int:
    """Serve until standard input ends; the exit code says whether all went well."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_FILES, _MAX_FILES))
    # The parameters are secret: not into swap. An unlocked page is no reason not to boot.
    ctypes.CDLL(None).mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)
    try:
        order = BootOrder.decode(_read_order())
        asyncio.run(_serve(order))
    except (MachineError, FormatError, OSError) as error:
        _tell(Event.FAILED, str(error))
        return 1
    return 0


async def _serve(order: BootOrder) -> None:
    image = await asyncio.to_thread(open_image, order.folder, order.image)
    listener = _listen(order.cable)
    dhcp = Dhcp(order.cable)
    await dhcp.start()
    try:
        _drop_privileges()
        await _answer(Pages(image, order.parameters, _tell), listener, dhcp)
    finally:
        await dhcp.stop()


async def _answer(pages: Pages, listener: socket.socket, dhcp: Dhcp) -> None:
    runner = web.ServerRunner(web.Server(pages.handle, access_log=None))
    await runner.setup()
    try:
        await web.SockSite(runner, listener, backlog=_BACKLOG).start()
        _tell(Event.READY)
        stopping = asyncio.create_task(_standard_input_ended())
        ended = asyncio.create_task(dhcp.ended())
        await asyncio.wait({stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if ended.done():
            raise MachineError("dnsmasq ended in the middle of a boot", "boot again")
        ended.cancel()
    finally:
        await runner.cleanup()


def _read_order() -> bytes:
    """Exactly one order: what follows it is left to `_standard_input_ended`. Raises FormatError."""
    size = int.from_bytes(_read_exactly(LENGTH), "big")
    if size > MAX_ORDER:
        raise FormatError("boot order: too long")
    return _read_exactly(size)


def _read_exactly(size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            raise FormatError("boot order: cut off; the daemon starts this, not a person")
        data += part
    return data


async def _standard_input_ended() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(4096):
        pass


def _listen(cable: Cable) -> socket.socket:
    """The HTTP port on the cable's address and interface only, not yet listening."""
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Linux takes packets for an address on any interface: the cable's are for the cable alone.
        name = cable.interface.encode()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
        listener.bind((PI_ADDRESS, HTTP_PORT))
    except OSError as error:
        listener.close()
        raise MachineError(
            f"port {HTTP_PORT} of {cable.interface} cannot be served ({error.strerror})",
            "free it, and run the daemon as root",
        ) from error
    return listener


def _drop_privileges() -> None:
    """Become nobody: the last capability goes with the user, and so does being debugged."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _tell(event: Event, text: str = "") -> None:
    line = " ".join((event.value, *text.split()))[: MAX_LINE - 1]
    with contextlib.suppress(OSError):  # the daemon is gone: standard input says so, too
        os.write(1, line.encode(errors="replace") + b"\n")


if __name__ == "__main__":
    sys.exit(main())
