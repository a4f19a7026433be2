"""The embedded profile's Machine: the Agent as a process of its own beside Docker on this host.

It behaves as a PC on the Pi's cable does: it outlives the daemon (a session of its own), dials the
daemon again when that is back, and loses everything when its power is cut. What is not real about
it is named in its Evidence.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from agent.boot import BootParameters
from agent.formats.cid import check_block
from agent.formats.messages import IMAGE_BLOCK
from agent.formats.rpc import RpcClosed, RpcConnection, RpcError, RpcTimeout
from agent.formats.shape import as_bytes, as_int, as_list, as_text
from nodeclient.errors import MachineError, MachineRefused
from nodeclient.images.engine import DEFAULT_SOCKET
from nodeclient.machine.channel_keys import KeySlot
from nodeclient.machine.link import Link, LinkKeys
from nodeclient.machine.process import AgentProcess
from nodeclient.machine.resume import ResumeRecord
from nodeclient.machine.rotation import every, rotate_keys
from nodeclient.ports import BlockGetter, BlockPutter, Session

ImageFinder = Callable[[bytes], Awaitable[Path | None]]

SIMULATED = ("machine", "boot", "cable", "power", "engine shared with the host")
_HOST = "127.0.0.1"
_TRIES = 3  # connections over which one call is repeated


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


class LocalMachine:
    """One Machine. Construct, then `boot` or `resume`, `call`, and `power_off`.

    `slot` keeps the channel's keys. `find_image` gives the verified tar of a runtime image ID, or
    None. A `get_block` that has not got the block raises `RpcError("missing", …)`.
    """

    def __init__(
        self,
        settings: LocalSettings,
        slot: KeySlot,
        get_block: BlockGetter,
        put_block: BlockPutter,
        find_image: ImageFinder,
    ) -> None:
        self._settings, self._slot = settings, slot
        self._get_block, self._put_block, self._find_image = get_block, put_block, find_image
        self._process = AgentProcess(settings.folder, settings.docker)
        self._link: Link | None = None
        self._rotating: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether the Machine's process runs."""
        return self._process.alive

    async def boot(self, boot_count: int) -> Session:
        """Cut the power, then start a fresh, measured Agent and wait for its hello."""
        await self.power_off()
        keys = LinkKeys.fresh(secrets.token_bytes(32))
        link = self._link = Link(keys, self._serve)
        try:
            port = link.listen_anywhere(_HOST)
            image = await asyncio.to_thread(self._process.install)
            boot = self._parameters(image, keys, port, boot_count)
            await asyncio.to_thread(self._process.start, boot)
            await self._connection(link)
            hpke, signing = self._hold(link)
        except BaseException:
            await self.power_off()
            raise
        pid, started = self._process.pid, self._process.started
        return ResumeRecord(pid, started, port, image, hpke, signing).session()

    async def resume(self, resume: bytes) -> Session:
        """Take over the Agent of an earlier life of this daemon. Raises MachineError if gone.

        A PC that went off holds nothing any more; what this one left behind is removed then.
        """
        record = ResumeRecord.decode(resume)
        known = self._link is not None and self._process.pid == record.pid
        try:
            self._process.adopt(record.pid, record.started)
        except MachineError:
            if self._process.is_newest(record.pid, record.started):
                await self.power_off()
            raise
        if not known:
            await self.let_go()
            session = (record.hpke, record.signing)
            try:
                keys = self._slot.load(session)
            except MachineError:  # nobody can reach this Machine any more: it must not run on
                await self.power_off()
                raise
            link = self._link = Link(keys, self._serve)
            link.session = session
            link.listen(_HOST, record.port)
            await self._connection(link)
            self._hold(link)
        return record.session()

    async def call(self, method: str, body: object) -> object:
        """Call the Agent. Raises MachineRefused for its no, MachineError if it is gone.

        Every method may be repeated: a call whose connection breaks goes over the next one.
        """
        link = self._link
        if link is None:
            raise MachineError("the Machine is off", "boot it")
        for _ in range(_TRIES):
            connection = await self._connection(link)
            try:
                return await connection.call(method, body, self._settings.call_seconds)
            except RpcClosed:
                continue
            except RpcTimeout as error:
                raise MachineError(f"no answer to {method}", "cut the Machine's power") from error
            except RpcError as error:
                raise MachineRefused(error.code, error.message) from error
        raise MachineError("the Machine's channel keeps breaking", "cut its power")

    async def power_off(self) -> None:
        """Cut the power: afterwards nothing of the Machine is left, whatever state it was in."""
        await self.let_go()
        await asyncio.to_thread(self._process.cut)
        self._slot.drop()

    async def let_go(self) -> None:
        """Close this daemon's end only: the Machine runs on, for a later `resume`."""
        rotating, self._rotating = self._rotating, None
        if rotating is not None:
            rotating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await rotating
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    def _hold(self, link: Link) -> tuple[bytes, bytes]:
        """Keep the channel's keys, now and whenever they change; the session keys."""
        session = link.session
        if session is None:
            raise MachineError("the Agent gave no session keys", "boot it again")

        def keep(keys: LinkKeys) -> None:
            self._slot.save(session, keys)

        keep(link.keys)
        pause = every(self._settings.rotate_seconds)
        self._rotating = asyncio.create_task(rotate_keys(link, keep, pause))
        return session

    async def _connection(self, link: Link) -> RpcConnection:
        """The Agent's connection, waited for while its process lives. Raises MachineError."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.boot_seconds
        while loop.time() < deadline:
            with contextlib.suppress(MachineError):
                return await link.agent(0.5)
            if not self.alive:
                words = self._process.last_words()
                raise MachineError(f"the Machine went off ({words})", "boot it again")
        raise MachineError("the Machine is not heard", "cut its power and boot it again")

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

    async def _serve(self, method: str, body: object) -> object:
        """What the Agent may ask of its Pi."""
        if method == "get_block":
            return await self._get_block(as_text(body, 1, 128, "cid"))
        if method == "put_block":
            cid, block = as_list(body, 2, 2, "put_block")
            name = as_text(cid, 1, 128, "cid")
            content = as_bytes(block, 0, "block", IMAGE_BLOCK)
            check_block(name, content)
            await self._put_block(name, content)
            return None
        if method == "image_block":
            image, index = as_list(body, 2, 2, "image_block")
            path = await self._find_image(as_bytes(image, 32, "image"))
            number = as_int(index, 0, 1 << 20, "index")
            return b"" if path is None else await asyncio.to_thread(_read_block, path, number)
        raise RpcError("unknown_method", f"the Pi has no {method}")


def _read_block(path: Path, index: int) -> bytes:
    with path.open("rb") as source:
        source.seek(index * IMAGE_BLOCK)
        return source.read(IMAGE_BLOCK)
