"""The Agent's life: boot parameters in, one channel to its Pi, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import resource
import signal
import sys
from typing import BinaryIO

from agent.boot import MAX_BOOT, BootParameters
from agent.channel import Channel
from agent.daemons import wait_for_engine
from agent.disks import OWN_DEVICES
from agent.engine import Engine, EngineFailed
from agent.erase import erase_task
from agent.events import EventLog, tell
from agent.evidence import Witness
from agent.formats.cbor import FormatError
from agent.kernel import KernelUnreadable
from agent.lockdown import refuse_new_hardware
from agent.measured import Unmeasured, find_measured, runs_boot_image
from agent.proxy import Ends
from agent.scratch import ScratchError, make_scratch
from agent.serve import Service
from agent.session import Session
from agent.system import StartFailed, load_drivers, wait_for_drivers
from agent.tpm_wire import TpmError
from agent.work import Work

_log = logging.getLogger("agent")
_FAILURES = EngineFailed, ScratchError, StartFailed, TpmError, KernelUnreadable, Unmeasured
_PR_SET_DUMPABLE = 4  # prctl(2)
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4  # mlockall(2)


def main() -> int:
    """Run until the Pi is lost or the power goes; exit code for the one who started it."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    if os.geteuid() != 0:
        _log.error("the Agent mounts and runs containers; start it as root")
        return 2
    try:
        boot = BootParameters.decode(_read_all(sys.stdin.buffer))
        if runs_boot_image():
            boot.check_places()
    except FormatError as error:
        _log.error("%s; the Agent is started by its Pi, not by hand", error)
        return 2
    _confine()
    try:
        asyncio.run(_live(boot))
    except _FAILURES as error:
        _log.error("%s", error)
        return 1
    return 0


def _read_all(source: BinaryIO) -> bytes:
    """Standard input to its end, which is then no longer readable to anybody."""
    data = source.read(MAX_BOOT + 1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return data


def _confine() -> None:
    """Keep memory out of core dumps, debuggers and swap; files readable inside containers."""
    os.umask(0o022)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        _log.warning("memory cannot be locked; switch swap off on the Machine")


async def _live(boot: BootParameters) -> None:
    loop = asyncio.get_running_loop()
    events = EventLog(OWN_DEVICES) if runs_boot_image() else None
    measured = await asyncio.to_thread(find_measured)
    if events is not None:  # a PC: its engine is still starting, beside this process
        await asyncio.to_thread(wait_for_engine, boot.docker)
        await asyncio.to_thread(wait_for_drivers)
        await asyncio.to_thread(close_to_hardware, events)
    session, engine = Session(), await asyncio.to_thread(Engine, boot.docker, boot.machine)
    # An earlier life of this Machine that was cut off leaves nothing for this one.
    scratch = make_scratch(boot.scratch, sealed=measured is not None)
    await asyncio.to_thread(erase_task, engine, scratch, None)

    def call_pi(method: str, body: object) -> object:
        return asyncio.run_coroutine_threadsafe(channel.call(method, body), loop).result()

    async def dial() -> Ends:
        return await channel.dial_stream()

    work = Work(boot, session, engine, scratch, call_pi, dial, own_machine=events is not None)
    witness = Witness(boot, session, engine, scratch, measured, events)
    service = Service(session, witness, work, measured.tpm if measured else None)
    channel = Channel(boot, session, service.handle)
    living = asyncio.create_task(channel.run())
    telling = asyncio.create_task(tell(events, channel.call)) if events is not None else None
    warming = asyncio.create_task(asyncio.to_thread(witness.warm))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, living.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await living
    await work.halt()
    await work.erase()
    await warming
    if telling is not None:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)  # PiLost: `living` has seen it, too
    session.drop()
    engine.close()


def close_to_hardware(events: EventLog) -> None:
    """From here on whatever comes is an event, and is not used.

    A slow device of the boot itself may have come after its drivers were loaded: it gets its own.
    """
    if events.begin():
        load_drivers()
    refuse_new_hardware()
    events.begin()


if __name__ == "__main__":
    sys.exit(main())
