"""The daemon's end of the boot server: starts it, hears what it says, stops it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import nodeclient
from nodeclient.errors import MachineError
from nodeclient.machine.netboot.order import MAX_LINE, BootOrder, Event

START_SECONDS = 60.0  # reads and hashes 130 MB: 10 s on a Pi with a slow card
STOP_SECONDS = 10.0
_CAPABILITIES = "+net_admin,+net_raw,+net_bind_service,+setuid,+setgid,+setpcap"
# What is in front of the interpreter when the boot server runs on this host, not in a container.
CONFINED = (
    *("setpriv", "--no-new-privs", f"--bounding-set=-all,{_CAPABILITIES}"),
    *("--inh-caps=-all", "--ambient-caps=-all"),
)


def default_command() -> tuple[str, ...]:
    """The boot server with this interpreter, confined to what it needs."""
    return (*CONFINED, sys.executable, "-B", "-m", "nodeclient.machine.netboot.serve")


class BootServer:
    """One run of the boot server; `command` starts it and must pass on standard input and output.

    finding: why this boot must be given up, once there is a reason.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self.finding: str | None = None
        self.served: list[Event] = []

    async def start(self, order: BootOrder) -> None:
        """Start it and wait until it serves. Raises MachineError."""
        try:
            process = self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=MAX_LINE,
                cwd=Path(nodeclient.__file__).parents[1],
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            )
        except OSError as error:
            raise MachineError(
                f"{self._command[0]} cannot be started", "correct machine.boot_server"
            ) from error
        self._reader = asyncio.create_task(self._read(process))
        assert process.stdin is not None
        process.stdin.write(order.encode())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                await self._ready.wait()
        if Event.READY not in self.served:
            await self.stop()
            raise MachineError(self.finding or "the boot server does not start", "boot again")

    async def stop(self) -> None:
        """End it and all it started; afterwards nothing listens on the cable."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if self._reader is not None:
            await self._reader

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        try:
            while line := await process.stdout.readline():
                self._note(line.decode(errors="replace").strip())
        except ValueError:
            self._find("the boot server said more than it may")
            process.kill()
            while await process.stdout.read(MAX_LINE):  # unread, it would keep wait() from ending
                pass
        if self._process is process:  # nobody stopped it
            self._find("the boot server ended in the middle of a boot")
        self._ready.set()

    def _note(self, line: str) -> None:
        word, _, text = line.partition(" ")
        try:
            event = Event(word)
        except ValueError:
            self._find("the boot server said what is no event")
            return
        if len(self.served) < 64:
            self.served.append(event)
        if event is Event.READY:
            self._ready.set()
        elif event is Event.FAILED:
            self._find(text)
        elif event is Event.AGAIN:
            self._find("the boot parameters were asked for twice: two machines share the cable")

    def _find(self, reason: str) -> None:
        self.finding = self.finding or reason
