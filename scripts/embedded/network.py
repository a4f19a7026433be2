"""A whole network on this host: chain, contracts, approved images, owners and workers."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from agent.formats.evidence import PI_ONLY
from nodeclient.chain import deployment as deployments
from nodeclient.chain import images
from nodeclient.chain.admission import admit_bootstrap
from nodeclient.chain.deploy import deploy
from nodeclient.chain.deployment import Deployment
from nodeclient.chain.images import ImageKind
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.presets import PRESETS, Preset
from nodeclient.chain.reputation import ReputationLedger
from nodeclient.chain.rpc import Rpc
from nodeclient.chain.sender import Sender, SendSettings
from nodeclient.core.case import Role
from nodeclient.core.types import Address, RootClass
from nodeclient.images.build import BuiltImage, build_runtime
from nodeclient.images.engine import DEFAULT_SOCKET, ensure_engine
from nodeclient.machine.local import SIMULATED
from nodeclient.machine.measure import measure_agent
from nodeclient.machine.process import AgentProcess
from scripts.embedded.chain import DEPLOYER, ROOT, AnvilChain
from scripts.embedded.node import START_SECONDS, NodeProcess
from scripts.embedded.roots import KINDS
from scripts.embedded.site import HERE, LOOPBACK, Site

ETHER = 10**18
YEAR = 365 * 86_400
OWNER_ROLES = (Role.BROKER, Role.RECEIVER, Role.REQUESTER)
WORKER_ROLES = (Role.EXECUTOR, Role.MEMBER)
# What an embedded Machine is not, as its Evidence says; this network accepts that openly.
SIMULATED_PARTS = ("root", *SIMULATED)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """Where one node runs and what it does; no roles: the usual ones of people or workers."""

    site: Site = HERE
    roles: tuple[Role, ...] = ()


class Network:
    """Made by ``start``, ended by ``stop`` whatever happened in between.

    ``people`` never run tasks: requesters, owners, receivers. ``workers`` stake and are drawn.
    ``machine``: further keys of every node's configuration of that name. ``places``: by a node's
    name what is particular about it. ``host``: the address of the chain. ``root``: what holds the
    nodes' root keys, a kind of `scripts.embedded.roots`.
    """

    vouch: str = PI_ONLY
    simulated: tuple[str, ...] = SIMULATED_PARTS

    def __init__(
        self,
        folder: Path,
        people: Sequence[str],
        workers: Sequence[str],
        *,
        say: Say = lambda _: None,
        block_seconds: float = 1.0,
        preset: Preset = PRESETS["anvil"],
        machine: Mapping[str, object] = MappingProxyType({"question_rate": 1.0}),
        places: Mapping[str, Place] = MappingProxyType({}),
        host: str = LOOPBACK,
        root: str = "software",
    ) -> None:
        self.folder = folder
        self.roots = KINDS[root](folder / "roots")
        self.root_class = self.roots.root_class
        self.chain = AnvilChain(folder / "chain.json", block_seconds, self._kept_up, host)
        self._places = {name: places.get(name, Place()) for name in (*people, *workers)}
        self.people = {name: self._node(name) for name in people}
        self.workers = {name: self._node(name) for name in workers}
        self.deployment_file = folder / "deployment.json"
        self.say = say
        self._preset = preset
        self._machine = machine
        # By a node's name: what is particular about its Machine's configuration.
        self.machines: dict[str, Mapping[str, object]] = {}
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
        self.build()
        self.prepare()
        self.run_nodes()

    def build(self) -> None:
        """What is on this host already or lasts beyond the network: engine and image."""
        ensure_engine(ROOT / ".build" / "engine", self.say)
        self.image = build_runtime(ROOT / ".build" / "images", self.say)

    def boot_images(self) -> tuple[bytes, ...]:
        """What a Machine of this network may boot, 32 bytes each."""
        return (measure_agent(),)

    def prepare(self) -> None:
        """Chain, contracts, folders, registrations; no daemon yet."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.roots.start(self.say)
        self.chain.start()
        self.say(f"chain at {self.chain.url}")
        asyncio.run(self._deploy())
        pool = ThreadPoolExecutor(4)
        try:
            list(pool.map(self._join, self.nodes.values()))
        finally:
            # Interrupted, we wait for nobody: one may be booting a Machine, which `stop` ends.
            pool.shutdown(wait=False, cancel_futures=True)
        if self.root_class is not RootClass.SOFTWARE:
            asyncio.run(self._admit())
        self.say(f"{len(self.nodes)} nodes registered, {len(self.workers)} of them drawable")

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

    def join(self, url: str) -> None:
        """Take part in what another process started in this folder, its chain at ``url``."""
        self.chain.url = url
        self.deployment = deployments.load(self.deployment_file)
        for node in self.nodes.values():
            node.join()

    def stop(self) -> None:
        """Daemons first, the chain last, so that its state is whole."""
        with contextlib.suppress(Exception), ThreadPoolExecutor(8) as pool:
            list(pool.map(NodeProcess.stop, self.nodes.values()))
        for node in self.workers.values():
            cut_power(node)
        self.chain.stop()
        self.roots.stop()

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
        """The contracts, and the images that this network may run."""
        rpc = Rpc(self.chain.url)
        try:
            self.deployment = await deploy(rpc, DEPLOYER, self._preset, "anvil")
            deployments.save(self.deployment, self.deployment_file)
            sender = self._deployer(rpc)
            now, commit = int(time.time()), bytes(20)
            kinds = dict.fromkeys(self.boot_images(), ImageKind.BOOT)
            for image, kind in {**kinds, self.image.image_id: ImageKind.RUNTIME}.items():
                order = images.approve(image.hex(), image, kind, commit, now - 3600, now + YEAR)
                await sender.execute(order)
        finally:
            await rpc.close()

    async def _admit(self) -> None:
        """The bootstrap admitter lets all in: nobody is there yet who could vote."""
        rpc = Rpc(self.chain.url)
        try:
            sender = self._deployer(rpc)
            for node in self.nodes.values():
                who = Address(bytes.fromhex(node.account[2:]))
                await sender.execute(admit_bootstrap(node.account, who, self.roots.maker))
        finally:
            await rpc.close()
        self.say(f"the bootstrap admitter admitted {len(self.nodes)} {self.root_class.name} roots")

    def _deployer(self, rpc: Rpc) -> Sender:
        journal = SqliteJournal(":memory:")
        return Sender(rpc, self.deployment, journal, DEPLOYER, SendSettings(poll_seconds=0.05))

    def _node(self, name: str) -> NodeProcess:
        return NodeProcess(name, self.folder / "nodes" / name, self._places[name].site)

    def _join(self, node: NodeProcess) -> None:
        works, place = node.name in self.workers, self._places[node.name]
        node.create(
            self.chain.url,
            self.deployment_file,
            place.roles or (WORKER_ROLES if works else OWNER_ROLES),
            {
                "accept_vouch": [self.vouch],
                "accept_simulated": list(self.simulated),
                **self._machine,
                **self.machines.get(node.name, {}),
            },
            self.roots.table(node.name),
        )
        self.chain.fund(node.account, 100 * ETHER)
        self.equip(node)
        deposit = 4 * self._preset.unit if works else 0
        node.register(self.chain.url, self.deployment, deposit, works)

    def equip(self, node: NodeProcess) -> None:
        """What a node needs besides its folder, before it registers."""
        folder = node.folder / "images"
        folder.mkdir()
        # A copy for everybody: nodes share no files.
        shutil.copyfile(self.image.path, folder / f"{self.image.image_id.hex()}.tar")


def cut_power(node: NodeProcess) -> None:
    """End a Machine that a stopped daemon left running, as its operator would."""
    AgentProcess(node.folder / "machine", DEFAULT_SOCKET).cut()
