"""The embedded profile's Machine: the Agent as a process of its own beside Docker on this host.

It behaves as a PC on the Pi's cable does: it outlives the daemon (a session of its own), dials the
daemon again when that is back, and loses everything when its power is cut. What is not real about
it is named in its Evidence.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from agent.boot import BootParameters
from nodeclient.core.checks.task import SHARED_ENGINE
from nodeclient.core.claims import Region
from nodeclient.core.incidents import Report
from nodeclient.errors import MachineError
from nodeclient.images.engine import DEFAULT_SOCKET
from nodeclient.machine.channel_keys import KeySlot
from nodeclient.machine.incidents import log_only
from nodeclient.machine.link import Link, LinkKeys
from nodeclient.machine.linked import LinkedMachine
from nodeclient.machine.process import AgentProcess
from nodeclient.machine.proxy import ProxyRules
from nodeclient.machine.resume import ResumeRecord
from nodeclient.machine.supply import Supply
from nodeclient.ports import Session

SIMULATED = ("machine", "boot", "cable", "power", SHARED_ENGINE)
_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """`folder`: private to this Machine. Times in seconds, sizes in bytes.

    lease_seconds: how long the Agent waits for a daemon that is gone before it cleans and ends.
    rotate_seconds: how long the channel's keys are used.
    """

    folder: Path
    docker: Path = DEFAULT_SOCKET
    lease_seconds: int = 300
    boot_seconds: float = 120.0
    call_seconds: float = 180.0
    rotate_seconds: float = 600.0
    work_bytes: int = 4 << 30
    simulated: tuple[str, ...] = SIMULATED
    proxy: ProxyRules = field(default_factory=ProxyRules)


class LocalMachine(LinkedMachine):
    """One Machine. Construct, then `boot` or `resume`, `call`, and `power_off`.

    `slot` keeps the channel's keys. `report` hears of connections that the task does not define,
    and of devices nothing: the Machine shares its kernel with others.
    """

    def __init__(
        self,
        settings: LocalSettings,
        supply: Supply,
        slot: KeySlot,
        *,
        report: Report = log_only,
    ) -> None:
        super().__init__(settings, supply, slot, report)
        self._settings = settings
        self._process = AgentProcess(settings.folder, settings.docker)

    @property
    def alive(self) -> bool:
        """Whether the Machine's process runs."""
        return self._process.alive

    async def boot(self, boot_count: int) -> Session:
        """Cut the power, then start a fresh, measured Agent and wait for its hello."""
        await self.power_off()
        keys = LinkKeys.fresh(secrets.token_bytes(32))
        self._proxy.begin()
        link = self._link = Link(keys, self._serve, self._proxy.accept)
        try:
            port = link.listen_anywhere(_HOST)
            image = await asyncio.to_thread(self._process.install)
            boot = self._parameters(image, keys, port, boot_count)
            await asyncio.to_thread(self._process.start, boot)
            await self._connection(link)
            hpke, signing = await self._hold(link)
        except BaseException:
            await self.power_off()
            raise
        process = (self._process.pid, self._process.started)
        return ResumeRecord(process, port, image, hpke, signing).session()

    async def resume(self, resume: bytes) -> Session:
        """Take over the Agent of an earlier life of this daemon. Raises MachineError if gone.

        A PC that went off holds nothing any more; what this one left behind is removed then.
        """
        record = ResumeRecord.decode(resume)
        if record.process is None:
            raise MachineError("the record is of a PC that booted from the network", "boot again")
        known = self._link is not None and self._process.pid == record.process[0]
        try:
            self._process.adopt(*record.process)
        except MachineError:
            if self._process.is_newest(*record.process):
                await self.power_off()
            raise
        if not known:
            await self.let_go()
            session = (record.hpke, record.signing)
            try:
                keys = await asyncio.to_thread(self._slot.load, session)
            except MachineError:  # nobody can reach this Machine any more: it must not run on
                await self.power_off()
                raise
            link = self._link = Link(keys, self._serve, self._proxy.accept)
            link.session = session
            link.listen(_HOST, record.port)
            try:
                await self._take_up(link)
            except MachineError:  # silent, perhaps frozen: what nobody reaches must not run on
                await self.power_off()
                raise
        return record.session()

    async def erase(self, _resume: bytes, _memory: tuple[Region, ...], _quoted: bool) -> bytes:
        """No proof: its memory is this host's, which is in use. Its Evidence says `machine`."""
        return b""

    async def power_off(self) -> None:
        """Cut the power: afterwards nothing of the Machine is left, whatever state it was in."""
        await self.let_go()
        await asyncio.to_thread(self._process.cut)
        self._slot.drop()

    def _check_alive(self) -> None:
        if not self.alive:
            words = self._process.last_words()
            raise MachineError(f"the Machine went off ({words})", "boot it again")

    def _parameters(
        self, image: bytes, keys: LinkKeys, port: int, boot_count: int
    ) -> BootParameters:
        return BootParameters(
            image=image,
            boot_nonce=secrets.token_bytes(32),
            boot_secret=keys.boot_secret,
            host=_HOST,
            port=port,
            pi_certificate=keys.digest,
            boot_count=boot_count,
            scratch=self._process.scratch,
            docker=self._settings.docker,
            machine=self._process.label,
            lease_seconds=self._settings.lease_seconds,
            work_bytes=self._settings.work_bytes,
            simulated=self._settings.simulated,
        )
