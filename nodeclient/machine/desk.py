"""One Machine for many askers: takes it up from a root-sealed record, then calls it.

The record finds a running Machine, so outside of memory it is only sealed. Taking a Machine up
again is needed once after a restart of the daemon and costs nothing later; the lock keeps two
askers from doing it at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from nodeclient.core.claims import Region
from nodeclient.errors import MachineErased, MachineError, SealrunError
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
        self._erasing: tuple[bytes, asyncio.Task[bytes]] | None = None
        self._given_up = False
        self._opened = (b"", b"")  # the latest record: sealed, and as it is

    async def boot(self, boot_count: int) -> Session:
        """A fresh boot; the Session's ``resume`` is sealed. A banned Machine is not booted."""
        if self._ban is not None:
            self._ban.check()
        async with self._lock:
            session = await self._machine.boot(boot_count)
        try:
            sealed = await asyncio.to_thread(self._root.seal, session.resume, LABEL)
        except BaseException as error:  # nobody could find this boot again: it must not run on
            async with self._lock:
                await self._machine.power_off()
            if isinstance(error, SealrunError):
                raise _of_root(error) from error
            raise
        self._opened = (sealed, session.resume)
        return replace(session, resume=sealed)

    async def call(self, resume: bytes, method: str, body: object) -> object:
        """Call the Agent of one boot. Raises MachineError when that boot is over."""
        record = await self._record(resume)
        async with self._lock:
            await self._machine.resume(record)
        return await self._machine.call(method, body)

    async def erase(self, resume: bytes, memory: tuple[Region, ...], quoted: bool) -> bytes:
        """Erase the RAM of one boot, and cut its power. Raises MachineError if another came after,
        or its power is cut meanwhile.

        The lock is held throughout: nobody boots or asks a Machine that is being erased.
        """
        record = await self._record(resume)
        async with self._lock:
            work = asyncio.create_task(self._machine.erase(record, memory, quoted))
            self._erasing = (record, work)
            try:
                return await work
            except asyncio.CancelledError:
                caller = asyncio.current_task()
                if not self._given_up or (caller is not None and caller.cancelling()):
                    raise
                raise MachineError("the erasure was given up", "look why its task ended") from None
            finally:
                self._erasing, self._given_up = None, False

    async def power_off(self, resume: bytes) -> None:
        """Cut the power of one boot; nothing happens when it is over already.

        An erasure of that boot is not waited for: its Task is over, or the Machine misbehaved.
        """
        try:
            record = await self._record(resume)
        except MachineError:
            return
        erased, work = self._erasing or (b"", None)
        if work is not None and erased == record and not work.cancelling():
            self._given_up = work.cancel()  # once: it closes the cable on its way out
        async with self._lock:  # over both steps: a boot in between would be the one that is cut
            try:
                await self._machine.resume(record)
            except MachineErased:
                pass  # it answers nobody, but has its power
            except MachineError:
                return
            await self._machine.power_off()

    async def cut(self) -> None:
        """Cut the Machine's power, whichever boot it is in: of a lost root no record opens."""
        _, work = self._erasing or (b"", None)
        if work is not None and not work.cancelling():
            self._given_up = work.cancel()
        async with self._lock:
            await self._machine.power_off()

    async def _record(self, resume: bytes) -> bytes:
        """Opened once per boot: a root is slow, and may be gone when the power has to be cut. There
        is no secret in it."""
        sealed, record = self._opened
        if sealed == resume:
            return record
        try:
            record = await asyncio.to_thread(self._root.unseal, resume, LABEL)
        except SealrunError as error:
            raise _of_root(error) from error
        self._opened = (resume, record)
        return record


def _of_root(error: SealrunError) -> MachineError:
    return MachineError(f"the machine's record: {error.message}", error.next_step)
