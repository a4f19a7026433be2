"""The embedded profile's Machine: the Agent as a process of its own beside Docker on this host.

It behaves as a PC on the Pi's cable does: it outlives the daemon (a session of its own), dials the
daemon again when that is back, and loses everything when its power is cut. What is not real about
it is named in its Evidence.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from agent.boot import BootParameters
from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.messages import IMAGE_BLOCK
from agent.formats.rpc import RpcClosed, RpcConnection, RpcError, RpcTimeout
from agent.formats.shape import as_bytes, as_int, as_list, as_map, as_text
from nodeclient.errors import MachineError, MachineRefused
from nodeclient.images.engine import DEFAULT_SOCKET
from nodeclient.machine.link import Link, LinkKeys
from nodeclient.machine.measure import agent_folder, measure_agent
from nodeclient.machine.power import forget_machine, kill_process, started_at
from nodeclient.ports import BlockGetter, BlockPutter, Session

ImageFinder = Callable[[bytes], Awaitable[Path | None]]

SIMULATED = ("machine", "boot", "cable", "power", "engine shared with the host")
_HOST = "127.0.0.1"
_RESUME = ("pid", "started", "port", "secret", "certificate", "key", "image", "hpke", "signing")
_MAX_RESUME = 16 * 1024


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """`folder`: private to this Machine. Times in seconds, sizes in bytes.

    lease_seconds: how long the Agent waits for a daemon that is gone before it cleans and ends.
    """

    folder: Path
    docker: Path = DEFAULT_SOCKET
    lease_seconds: int = 300
    boot_seconds: float = 30.0
    call_seconds: float = 180.0
    work_bytes: int = 4 << 30
    simulated: tuple[str, ...] = SIMULATED


class LocalMachine:
    """One Machine. Construct, then `boot` or `resume`, `call`, and `power_off`.

    `resume` bytes hold the boot's secrets: the caller seals them with the root before keeping them.
    """

    def __init__(
        self,
        settings: LocalSettings,
        get_block: BlockGetter,
        put_block: BlockPutter,
        find_image: ImageFinder,
    ) -> None:
        self._settings = settings
        self._get_block, self._put_block, self._find_image = get_block, put_block, find_image
        self._link: Link | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pid, self._started = 0, 0

    @property
    def alive(self) -> bool:
        """Whether the Machine's process runs."""
        if self._process is not None:
            self._process.poll()  # collects it, if it ended
        return self._pid > 0 and started_at(self._pid) == self._started

    async def boot(self, boot_count: int) -> Session:
        """Cut the power, then start a fresh, measured Agent and wait for its hello."""
        await self.power_off()
        keys = LinkKeys.fresh(secrets.token_bytes(32))
        link = Link(keys, self._serve)
        self._link = link
        port = link.listen(_HOST, 0)
        image = await asyncio.to_thread(self._install)
        boot = BootParameters(
            boot_nonce=secrets.token_bytes(32),
            boot_secret=keys.boot_secret,
            host=_HOST,
            port=port,
            pi_certificate=keys.digest,
            boot_count=boot_count,
            scratch=self._scratch,
            docker=self._settings.docker,
            machine=self._label,
            lease_seconds=self._settings.lease_seconds,
            work_bytes=self._settings.work_bytes,
            simulated=self._settings.simulated,
        )
        try:
            await asyncio.to_thread(self._start, boot)
            await self._wait_for_hello(link)
        except BaseException:
            await self.power_off()
            raise
        hpke, signing = self._session_keys(link)
        resume = self._encode_resume(keys, port, image, hpke, signing)
        return Session(hpke, signing, image, resume)

    async def resume(self, resume: bytes) -> Session:
        """Take over the Agent of an earlier life of this daemon. Raises MachineError if gone."""
        body = _decode_resume(resume)
        pid, started = (
            as_int(body["pid"], 1, 1 << 31, "pid"),
            as_int(body["started"], 0, 1 << 62, ""),
        )
        if self._link is not None and (self._pid, self._started) == (pid, started) and self.alive:
            return _session(body, resume)
        if started_at(pid) != started:
            raise MachineError("the Machine went off meanwhile", "boot it again")
        if self._link is not None:
            await self._link.close()
        self._process, self._pid, self._started = None, pid, started
        link = Link(
            LinkKeys(
                as_bytes(body["secret"], 32, "secret"),
                as_bytes(body["certificate"], 1, "certificate", 4096),
                as_bytes(body["key"], 1, "key", 4096),
            ),
            self._serve,
        )
        link.session = (as_bytes(body["hpke"], 32, "hpke"), as_bytes(body["signing"], 64, "key"))
        self._link = link
        link.listen(_HOST, as_int(body["port"], 1, 65535, "port"))
        await self._wait_for_hello(link)
        return _session(body, resume)

    async def call(self, method: str, body: object) -> object:
        """Call the Agent. Raises MachineRefused for its no, MachineError if it is gone.

        Every method may be repeated; a connection that breaks meanwhile is waited for once more.
        """
        link = self._link
        if link is None:
            raise MachineError("the Machine is off", "boot it")
        for _ in range(3):
            connection = await self._connection(link)
            try:
                return await connection.call(method, body, self._settings.call_seconds)
            except RpcClosed:
                continue
            except RpcTimeout as error:
                raise MachineError(
                    f"the Machine does not answer {method}", "cut its power"
                ) from error
            except RpcError as error:
                raise MachineRefused(error.code, error.message) from error
        raise MachineError("the Machine's channel keeps breaking", "cut its power")

    async def power_off(self) -> None:
        """Cut the power: afterwards nothing of the Machine is left, whatever state it was in."""
        if self._link is not None:
            await self._link.close()
            self._link = None
        await asyncio.to_thread(self._cut)

    async def release_daemon(self) -> None:
        """Close this daemon's end only: the Machine runs on, for a later `resume`."""
        if self._link is not None:
            await self._link.close()
            self._link = None

    async def _wait_for_hello(self, link: Link) -> None:
        deadline = asyncio.get_running_loop().time() + self._settings.boot_seconds
        while asyncio.get_running_loop().time() < deadline:
            if not self.alive:
                raise MachineError(f"the Agent ended at once ({self._last_words()})", "see its log")
            with contextlib.suppress(MachineError):
                await link.agent(0.5)
                return
        raise MachineError(
            f"the Agent said no hello within {self._settings.boot_seconds:.0f} s", "see its log"
        )

    async def _connection(self, link: Link) -> RpcConnection:
        deadline = asyncio.get_running_loop().time() + self._settings.boot_seconds
        while asyncio.get_running_loop().time() < deadline:
            if not self.alive:
                raise MachineError("the Machine went off", "boot it again")
            with contextlib.suppress(MachineError):
                return await link.agent(0.5)
        raise MachineError("the Machine is not heard", "cut its power and boot it again")

    def _session_keys(self, link: Link) -> tuple[bytes, bytes]:
        if link.session is None:
            raise MachineError("the Agent gave no session keys", "boot it again")
        return link.session

    async def _serve(self, method: str, body: object) -> object:
        """What the Agent may ask of its Pi."""
        if method == "get_block":
            return await self._get_block(as_text(body, 1, 128, "cid"))
        if method == "put_block":
            cid, block = as_list(body, 2, 2, "put_block")
            await self._put_block(
                as_text(cid, 1, 128, "cid"), as_bytes(block, 0, "block", IMAGE_BLOCK)
            )
            return None
        if method == "image_block":
            image, index = as_list(body, 2, 2, "image_block")
            return await self._image_block(
                as_bytes(image, 32, "image"), as_int(index, 0, 1 << 20, "index")
            )
        raise RpcError("unknown_method", f"the Pi has no {method}")

    async def _image_block(self, image: bytes, index: int) -> bytes:
        path = await self._find_image(image)
        return b"" if path is None else await asyncio.to_thread(_read_block, path, index)

    @property
    def _scratch(self) -> Path:
        return self._settings.folder.absolute() / "scratch"

    @property
    def _label(self) -> str:
        return hashlib.sha256(str(self._settings.folder.absolute()).encode()).hexdigest()[:24]

    def _install(self) -> bytes:
        """Copy the Agent, measure the copy, and boot exactly that: as a network image would be."""
        boot = self._settings.folder / "boot"
        shutil.rmtree(boot, ignore_errors=True)
        boot.mkdir(parents=True, mode=0o700)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(agent_folder(), boot / "agent", ignore=ignored)
        return measure_agent(boot / "agent")

    def _start(self, boot: BootParameters) -> None:
        """Start the Agent with nothing of ours but a pipe; the parameters go through it."""
        folder = self._settings.folder
        with (folder / "agent.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-B", "-E", "-s", "-m", "agent"],
                cwd=folder / "boot",
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._pid = self._process.pid
        self._started = started_at(self._pid) or 0
        pipe = self._process.stdin
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError), pipe:
            pipe.write(boot.encode())

    def _cut(self) -> None:
        if self._pid:
            kill_process(self._pid, self._started)
        if self._process is not None:
            self._process.wait(timeout=10)
        self._process, self._pid, self._started = None, 0, 0
        if os.geteuid() == 0 and self._settings.folder.exists():
            forget_machine(self._scratch, self._settings.docker, self._label)

    def _last_words(self) -> str:
        try:
            lines = (self._settings.folder / "agent.log").read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return lines[-1][:160] if lines else "no log"

    def _encode_resume(
        self, keys: LinkKeys, port: int, image: bytes, hpke: bytes, signing: bytes
    ) -> bytes:
        values: dict[str, object] = {
            "pid": self._pid,
            "started": self._started,
            "port": port,
            "secret": keys.boot_secret,
            "certificate": keys.certificate,
            "key": keys.key,
            "image": image,
            "hpke": hpke,
            "signing": signing,
        }
        return cbor.encode(values)


def _decode_resume(resume: bytes) -> dict[str, object]:
    try:
        return as_map(cbor.decode(resume, _MAX_RESUME), _RESUME, "resume record")
    except FormatError as error:
        raise MachineError("the Machine's resume record is damaged", "boot it again") from error


def _session(body: dict[str, object], resume: bytes) -> Session:
    return Session(
        as_bytes(body["hpke"], 32, "hpke"),
        as_bytes(body["signing"], 64, "signing"),
        as_bytes(body["image"], 32, "image"),
        resume,
    )


def _read_block(path: Path, index: int) -> bytes:
    with path.open("rb") as source:
        source.seek(index * IMAGE_BLOCK)
        return source.read(IMAGE_BLOCK)
