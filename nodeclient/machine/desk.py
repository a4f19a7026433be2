"""One Machine for many askers: takes it up from a root-sealed record, then calls it.

The record finds a running Machine, so it is kept only sealed. Taking a Machine up again is needed
once after a restart of the daemon and costs nothing later; the lock keeps two askers from doing it
at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from nodeclient.core.claims import Region
from nodeclient.errors import MachineError, SealrunError
from nodeclient.machine.ban import Ban
from nodeclient.ports import Machine, Root, Session

LABEL = "machine-session"


class MachineDesk:
    """Every method may raise ``MachineError``."""

    def __init__(self, machine: Machine, root: Root, ban: Ban | None = None) -> None:
        self._machine = machine
        self._root = root
        self._ban = ban
        self._lock = asyncio.Lock()

    async def boot(self, boot_count: int) -> Session:
        """A fresh boot; the Session's ``resume`` is sealed. A banned Machine is not booted."""
        if self._ban is not None:
            self._ban.check()
        async with self._lock:
            session = await self._machine.boot(boot_count)
        return replace(session, resume=self._root.seal(session.resume, LABEL))

    async def call(self, resume: bytes, method: str, body: object) -> object:
        """Call the Agent of one boot. Raises MachineError when that boot is over."""
        record = self._record(resume)
        async with self._lock:
            await self._machine.resume(record)
        return await self._machine.call(method, body)

    async def erase(self, resume: bytes, memory: tuple[Region, ...]) -> bytes:
        """Erase the RAM of one boot, and cut its power. Raises MachineError if another came after.

        The lock is held throughout: nobody boots or asks a Machine that is being erased.
        """
        record = self._record(resume)
        async with self._lock:
            return await self._machine.erase(record, memory)

    async def power_off(self, resume: bytes) -> None:
        """Cut the power of one boot; nothing happens when it is over already."""
        async with self._lock:  # over both steps: a boot in between would be the one that is cut
            try:
                await self._machine.resume(self._record(resume))
            except MachineError:
                return
            await self._machine.power_off()

    def _record(self, resume: bytes) -> bytes:
        try:
            return self._root.unseal(resume, LABEL)
        except SealrunError as error:
            raise MachineError("the machine's record is not this root's", "boot it") from error
