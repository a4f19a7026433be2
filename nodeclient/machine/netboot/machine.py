"""A PC on the Pi's cable: booted from the network, heard over the Link, switched off for good.

The cable is open only as far as the phase needs: while it boots the Machine gets an address, its
image and, once, its parameters; from the Agent's hello on it reaches one TCP port and nothing else.
Whoever asks for the parameters a second time shows that two ask: that boot is given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.boot import BootParameters
from agent.formats.messages import ASK, MONITOR
from agent.formats.netboot import ENGINE, LINK_PORT, PI_ADDRESS, SCRATCH
from agent.formats.rpc import RpcError
from nodeclient.core.claims import Region
from nodeclient.core.erasure import plan_ranges
from nodeclient.core.evidence_policy import MOST_UNCOVERED
from nodeclient.core.images import ImageKind
from nodeclient.core.incidents import Report
from nodeclient.errors import MachineErased, MachineError
from nodeclient.machine.channel_keys import KeySlot
from nodeclient.machine.incidents import log_only
from nodeclient.machine.link import Link, LinkKeys
from nodeclient.machine.linked import LinkedMachine
from nodeclient.machine.netboot import firewall
from nodeclient.machine.netboot.cable import Cable
from nodeclient.machine.netboot.erasing import Erasing
from nodeclient.machine.netboot.firewall import Phase
from nodeclient.machine.netboot.image import check_image
from nodeclient.machine.netboot.newest import NewestBoot
from nodeclient.machine.netboot.order import BootOrder
from nodeclient.machine.netboot.power import Power
from nodeclient.machine.netboot.server import BootServer, default_command
from nodeclient.machine.netboot.watch import CableWatch
from nodeclient.machine.proxy import ProxyRules
from nodeclient.machine.resume import ResumeRecord
from nodeclient.machine.supply import Supply
from nodeclient.ports import Session

_log = logging.getLogger(__name__)
_HEARD_SECONDS, _REST_SECONDS = 0.5, 5.0  # before the power is cut: an Agent is there, or it is not
IsApproved = Callable[[bytes, ImageKind], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class NetbootSettings:
    """`folder`: private to this Machine. Times in seconds, sizes in bytes.

    image: ID of the boot image (32 bytes). images: where `<ID in hex>/` lies. lease_seconds: how
    long the Agent waits for a daemon that is gone before it cleans and ends. rotate_seconds: how
    long the channel's keys are used. scratch, docker: paths
    in the Machine. boot_server: the command that serves a boot. eraser: ID of the image that
    erases memory, in `images`, too; empty: none does. uncovered: bytes of RAM that it may leave out
    where its own map lacks them. simulated: parts of the Pi that are not real; the power switch
    names its own.
    """

    folder: Path
    cable: Cable
    image: bytes
    images: Path
    lease_seconds: int = 300
    boot_seconds: float = 300.0
    call_seconds: float = 180.0
    rotate_seconds: float = 600.0
    work_bytes: int = 512 << 20
    scratch: Path = Path(SCRATCH)
    docker: Path = Path(ENGINE)
    proxy: ProxyRules = field(default_factory=ProxyRules)
    boot_server: tuple[str, ...] = field(default_factory=default_command)
    eraser: bytes = b""
    uncovered: int = MOST_UNCOVERED
    simulated: tuple[str, ...] = ()


class NetbootMachine(LinkedMachine):
    """One Machine. Construct, then `boot` or `resume`, `call`, and `power_off`.

    `slot` keeps the channel's keys. `is_approved` asks the chain whether an image (ID, 32 bytes)
    may be used now as a kind: boot image and eraser both are BOOT. `report` hears of every device
    that comes or goes and is not the task's, of every frame that the Machine sends past its Pi, and
    of connections that no task defines.
    """

    def __init__(
        self,
        settings: NetbootSettings,
        supply: Supply,
        slot: KeySlot,
        power: Power,
        is_approved: IsApproved,
        *,
        report: Report = log_only,
    ) -> None:
        super().__init__(settings, supply, slot, report)
        self._settings = settings
        self._power, self._is_approved = power, is_approved
        self._newest = NewestBoot(settings.folder)
        self._watch = CableWatch(settings.cable, settings.folder, report)
        self._server: BootServer | None = None

    async def boot(self, boot_count: int) -> Session:
        """Cut the power, boot the approved image from the network and wait for its hello."""
        await self.power_off()
        image = self._settings.image
        if not await self._is_approved(image, ImageKind.BOOT):
            raise MachineError(
                f"boot image {image.hex()[:16]}… is not approved on chain",
                "name an approved one as machine.boot_image",
            )
        if self._settings.eraser:
            await self._check_eraser(self._settings.eraser)
        keys = LinkKeys.fresh(secrets.token_bytes(32))
        try:
            await self._watch.begin()
            self._proxy.begin()
            link = await self._listen(keys, Phase.BOOTING)
            server = self._server = BootServer(self._settings.boot_server)
            await server.start(self._order(keys, boot_count))
            await self._power.on()
            await self._connection(link)
            await self._close_boot(server)
            session = await self._hold(link)
            self._newest.note(b"".join(session))
        except BaseException:
            await self.power_off()
            raise
        return ResumeRecord(None, LINK_PORT, image, *session).session()

    async def _check_eraser(self, eraser: bytes) -> None:
        """What could not be erased shall not run: found out after the run, it costs the Deposit.

        Raises MachineError.
        """
        if not await self._is_approved(eraser, ImageKind.BOOT):
            raise MachineError(
                f"eraser image {eraser.hex()[:16]}… is not approved on chain",
                "name an approved one as machine.eraser",
            )
        await asyncio.to_thread(check_image, self._settings.images / eraser.hex(), eraser)

    async def resume(self, resume: bytes) -> Session:
        """Take over the Agent of an earlier life of this daemon. Raises MachineError if gone,
        MachineErased if it went for the eraser.

        One that is gone loses its power: what it had in RAM is of no boot that anybody can ask.
        """
        record = ResumeRecord.decode(resume)
        session = (record.hpke, record.signing)
        if record.process is not None:
            raise MachineError("the record is of a process, not of a PC", "boot it again")
        if self._newest.is_erased(b"".join(session)):
            raise MachineErased("that boot is over and being erased", "boot it again")
        if not self._newest.is_it(b"".join(session)):
            raise MachineError("that boot is over", "boot it again")
        if self._link is None:
            try:
                keys = await asyncio.to_thread(self._slot.load, session)
                # Before rules are made: where there are none, there were none for a while.
                await self._watch.go_on()
                await firewall.apply(self._settings.cable, Phase.RUNNING)
                link = await self._listen(keys, Phase.RUNNING, session)
                await self._take_up(link)
            except MachineError:
                await self.power_off()
                raise
        return record.session()

    async def call(self, method: str, body: object) -> object:
        """As `LinkedMachine.call`; every question also brings what this Pi says of its cable."""
        if method in (ASK, MONITOR) and isinstance(body, dict):
            body = body | {"cable": await self._watch.report()}
        return await super().call(method, body)

    async def let_go(self) -> None:
        """Close this daemon's end only; the rules stand and count on."""
        await super().let_go()
        self._watch.stop()

    async def erase(self, resume: bytes, memory: tuple[Region, ...], quoted: bool) -> bytes:
        """Have the memory of one boot overwritten, prove it, and cut the power: an encoded proof.

        Without an eraser nothing happens, and there is no proof. A daemon that died in between may
        come again, until the next boot. Tried twice: from the memory as it is, then from a cold
        start, which proves as much. Raises MachineError; the Machine is off then. Cancelled, it
        leaves the Machine on and the cable closed: whoever comes again finds it, or cuts its power.
        """
        settings = self._settings
        if not settings.eraser:
            return b""
        record = ResumeRecord.decode(resume)
        self._newest.note_erasure(record.hpke + record.signing)
        try:
            await self._let_rest()
            await self.let_go()
            if not plan_ranges(memory):
                raise MachineError("no memory is known that could be erased", "boot it again")
            try:
                proof = await self._erasing(quoted).run(memory, cold=False)
            except MachineError as error:
                _log.warning("the erasure failed and is tried again: %s", error)
                proof = await self._erasing(quoted).run(memory, cold=True)
        except MachineError:
            await self.power_off()
            raise
        # Not forgotten yet: who has not kept the proof must be able to ask again.
        await self._power.off()
        self._slot.drop()
        return proof.encode()

    def _erasing(self, quoted: bool) -> Erasing:
        return Erasing(
            cable=self._settings.cable,
            image=self._settings.eraser,
            images=self._settings.images,
            boot_seconds=self._settings.boot_seconds,
            boot_server=self._settings.boot_server,
            power=self._power,
            is_approved=self._is_approved,
            uncovered=self._settings.uncovered,
            quoted=quoted,
        )

    async def power_off(self) -> None:
        """Cut the power: afterwards the cable is dead, whatever state the Machine was in."""
        try:
            await self._let_rest()
            await self.let_go()
            if self._server is not None:
                server, self._server = self._server, None
                await server.stop()
            await firewall.apply(self._settings.cable, Phase.OFF)
        finally:  # a PC that nobody looks after must not run on, whatever of that fails
            await self._power.off()
        self._newest.forget()
        self._slot.drop()

    async def _let_rest(self) -> None:
        """Tell an Agent that listens what comes: cut without a word, the TPM's clock may go back,
        which verifiers refuse. One that does not answer loses its power all the same.
        """
        if self._link is None:
            return
        with contextlib.suppress(MachineError, RpcError):
            agent = await self._link.agent(_HEARD_SECONDS)
            await agent.call("rest", None, _REST_SECONDS)

    async def dropped(self) -> dict[str, int]:
        """Frames that the cable's rules dropped, by counter (`firewall.COUNTERS`)."""
        return await firewall.count(self._settings.cable)

    async def _listen(
        self, keys: LinkKeys, phase: Phase, session: tuple[bytes, bytes] | None = None
    ) -> Link:
        await firewall.apply(self._settings.cable, phase)
        await self._settings.cable.attach()
        link = self._link = Link(keys, self._serve, self._proxy.accept)
        link.session = session
        link.listen(PI_ADDRESS, LINK_PORT)
        return link

    async def _close_boot(self, server: BootServer) -> None:
        """The Agent is there: nothing serves a boot any more. Raises MachineError on a finding."""
        await server.stop()
        self._server = None
        await firewall.apply(self._settings.cable, Phase.RUNNING)
        if server.finding is not None:
            raise MachineError(server.finding, "look at what else is on the cable")
        strangers = (await self.dropped())["stranger"]
        if strangers:
            _log.warning("the cable: %d frames of another machine were dropped", strangers)

    def _check_alive(self) -> None:
        finding = self._server.finding if self._server is not None else None
        if finding is not None:
            raise MachineError(finding, "look at what else is on the cable")
        if self._power.is_on() is False:
            raise MachineError("the Machine went off", "look at its console, then boot it again")

    def _order(self, keys: LinkKeys, boot_count: int) -> BootOrder:
        settings = self._settings
        parameters = BootParameters(
            image=settings.image,
            boot_nonce=secrets.token_bytes(32),
            boot_secret=keys.boot_secret,
            host=PI_ADDRESS,
            port=LINK_PORT,
            pi_certificate=keys.digest,
            boot_count=boot_count,
            scratch=settings.scratch,
            docker=settings.docker,
            machine=settings.image.hex()[:24],
            lease_seconds=settings.lease_seconds,
            work_bytes=settings.work_bytes,
            simulated=(*self._power.simulated, *settings.simulated),
        )
        folder = settings.images.absolute() / settings.image.hex()
        return BootOrder(settings.cable, folder, settings.image, parameters.encode())
