"""A whole network on this host: chain, contracts, approved images, owners and workers."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

from nodeclient.chain import deployment as deployments
from nodeclient.chain import images
from nodeclient.chain.deploy import deploy
from nodeclient.chain.deployment import Deployment
from nodeclient.chain.images import ImageKind
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.presets import PRESETS, Preset
from nodeclient.chain.reputation import ReputationLedger
from nodeclient.chain.rpc import Rpc
from nodeclient.chain.sender import Sender, SendSettings
from nodeclient.core.case import Role
from nodeclient.core.types import Address
from nodeclient.images.build import BuiltImage, build_runtime
from nodeclient.images.engine import DEFAULT_SOCKET, ensure_engine
from nodeclient.machine.local import SIMULATED
from nodeclient.machine.measure import measure_agent
from nodeclient.machine.process import AgentProcess
from scripts.embedded.chain import DEPLOYER, ROOT, AnvilChain
from scripts.embedded.node import START_SECONDS, NodeProcess

ETHER = 10**18
YEAR = 365 * 86_400
OWNER_ROLES = (Role.BROKER, Role.RECEIVER, Role.REQUESTER)
WORKER_ROLES = (Role.EXECUTOR, Role.MEMBER)
Say = Callable[[str], None]


class Network:
    """Made by ``start``, ended by ``stop`` whatever happened in between.

    ``people`` never run tasks: requesters, owners, receivers. ``workers`` stake and are drawn.
    ``machine``: further keys of every node's configuration of that name.
    """

    def __init__(
        self,
        folder: Path,
        people: Sequence[str],
        workers: Sequence[str],
        *,
        say: Say = lambda _: None,
        block_seconds: float = 1.0,
        preset: Preset = PRESETS["anvil"],
        machine: Mapping[str, float] = MappingProxyType({"question_rate": 1.0}),
    ) -> None:
        self.folder = folder
        self.chain = AnvilChain(folder / "chain.json", block_seconds, self._kept_up)
        self.people = {name: NodeProcess(name, folder / "nodes" / name) for name in people}
        self.workers = {name: NodeProcess(name, folder / "nodes" / name) for name in workers}
        self.deployment_file = folder / "deployment.json"
        self._say = say
        self._preset = preset
        self._machine = machine
        self.deployment: Deployment
        self.image: BuiltImage

    @property
    def nodes(self) -> dict[str, NodeProcess]:
        """Everybody."""
        return {**self.people, **self.workers}

    def __enter__(self) -> Network:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---------------------------------------------------------------------------- up and down

    def start(self) -> None:
        """Everything, until every node answers."""
        self.prepare()
        self.run_nodes()

    def prepare(self) -> None:
        """Engine, image, chain, contracts, folders, registrations; no daemon yet."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        ensure_engine(ROOT / ".build" / "engine", self._say)
        self.image = build_runtime(ROOT / ".build" / "images", self._say)
        self.chain.start()
        self._say(f"chain at {self.chain.url}")
        asyncio.run(self._deploy())
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self._join, self.nodes.values()))
        self._say(f"{len(self.nodes)} nodes registered, {len(self.workers)} of them drawable")

    def run_nodes(self) -> None:
        """Start every daemon and wait until all answer and know their peers."""
        for node in self.nodes.values():
            node.start()
        for node in self.nodes.values():
            node.wait()
        end = time.monotonic() + START_SECONDS
        for node in self.nodes.values():
            while node.get("/v1/status")["peers"] < len(self.nodes):
                if time.monotonic() > end:
                    raise RuntimeError(f"{node.name} does not see its peers")
                time.sleep(0.1)

    def stop(self) -> None:
        """Daemons first, the chain last, so that its state is whole."""
        with contextlib.suppress(Exception), ThreadPoolExecutor(8) as pool:
            list(pool.map(NodeProcess.stop, self.nodes.values()))
        for node in self.workers.values():
            cut_power(node)
        self.chain.stop()

    def _kept_up(self, height: int) -> bool:
        """Whether every node that runs has seen a block, and sent what it had to send.

        Who hangs or is down is not waited for.
        """
        found = [node.progress() for node in self.nodes.values() if node.awake]
        if any(each.block < height or each.looking for each in found):
            return False
        return sum(each.sending for each in found) <= self.chain.waiting()

    def credits(self) -> dict[str, int]:
        """What each worker has earned and not yet withdrawn, in wei."""
        return asyncio.run(self._credits())

    async def _credits(self) -> dict[str, int]:
        rpc = Rpc(self.chain.url)
        try:
            ledger = ReputationLedger(rpc, self.deployment)
            return {
                node.name: await ledger.credit(Address(bytes.fromhex(node.account[2:])))
                for node in self.workers.values()
            }
        finally:
            await rpc.close()

    # ------------------------------------------------------------------------------- details

    async def _deploy(self) -> None:
        """The contracts, and the two images that this network may run."""
        rpc = Rpc(self.chain.url)
        try:
            self.deployment = await deploy(rpc, DEPLOYER, self._preset, "anvil")
            deployments.save(self.deployment, self.deployment_file)
            journal = SqliteJournal(":memory:")
            sender = Sender(
                rpc, self.deployment, journal, DEPLOYER, SendSettings(poll_seconds=0.05)
            )
            now, commit = int(time.time()), bytes(20)
            for image, kind in (
                (measure_agent(), ImageKind.BOOT),
                (self.image.image_id, ImageKind.RUNTIME),
            ):
                order = images.approve(image.hex(), image, kind, commit, now - 3600, now + YEAR)
                await sender.execute(order)
        finally:
            await rpc.close()

    def _join(self, node: NodeProcess) -> None:
        works = node.name in self.workers
        node.create(
            self.chain.url,
            self.deployment_file,
            WORKER_ROLES if works else OWNER_ROLES,
            {"accept_simulated": list(SIMULATED_PARTS), **self._machine},
        )
        self.chain.fund(node.account, 100 * ETHER)
        folder = node.folder / "images"
        folder.mkdir()
        # A copy for everybody: nodes share no files.
        shutil.copyfile(self.image.path, folder / f"{self.image.image_id.hex()}.tar")
        deposit = 4 * self._preset.unit if works else 0
        node.register(self.chain.url, self.deployment, deposit, works)


def cut_power(node: NodeProcess) -> None:
    """End a Machine that a stopped daemon left running, as its operator would."""
    AgentProcess(node.folder / "machine", DEFAULT_SOCKET).cut()


# What an embedded Machine is not, as its Evidence says; this network accepts that openly.
SIMULATED_PARTS = ("root", *SIMULATED)
