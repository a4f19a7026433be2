"""Wiring: from a configuration to a running Node, and down again in order.

A profile only picks adapters here; nothing below knows which. The order of starting matters twice:
peers are known before the peer server opens, and what was pending is resumed before new events are
applied.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from agent.formats.rpc import RpcError
from agent.formats.taskspec import TaskSpec
from nodeclient.capsules.policies import Policies
from nodeclient.chain import deployment as deployments
from nodeclient.chain.reader import Reader
from nodeclient.chain.rpc import Rpc
from nodeclient.chain.sender import Sender
from nodeclient.chain.watcher import Watcher, WatchSettings
from nodeclient.config.node import Config, MachineConfig, erases, responses
from nodeclient.control.motions import motion_routes
from nodeclient.control.server import Control
from nodeclient.core import actions
from nodeclient.core import events as ev
from nodeclient.core.actions import Action, Reply, WatchMachine
from nodeclient.core.case import Case, Me
from nodeclient.core.evidence_policy import AppraisalPolicy
from nodeclient.core.roles.execution import HOLDING
from nodeclient.core.roles.execution import State as ExecutorState
from nodeclient.core.types import Address
from nodeclient.duties import (
    broker,
    candidacy,
    committee,
    machine,
    monitoring,
    polling,
    receiver,
    requester,
    responding,
    transactions,
)
from nodeclient.duties.endorsing import Endorser
from nodeclient.duties.services import Services, Settings
from nodeclient.duties.vouching import Voucher
from nodeclient.errors import ConfigError
from nodeclient.health.tally import Tally
from nodeclient.health.wiring import run_health
from nodeclient.identity.enrolment import ENDORSEMENT
from nodeclient.identity.folder import NodeFolder
from nodeclient.images.boot.reference import open_boot_files, open_eraser
from nodeclient.inbox import Inbox, owners_and_requester
from nodeclient.machine.ban import Ban
from nodeclient.machine.choose import choose_machine
from nodeclient.machine.desk import MachineDesk
from nodeclient.machine.supply import Supply
from nodeclient.p2p.client import PeerClient
from nodeclient.p2p.directory import Directory
from nodeclient.p2p.errors import PeerError
from nodeclient.p2p.server import PeerServer
from nodeclient.p2p.tls import TlsIdentity, TrustFolder
from nodeclient.runner import Effect, Runner
from nodeclient.store.database import Store
from nodeclient.upkeep.bars import BarDuty
from nodeclient.upkeep.bootimages import BootImages
from nodeclient.upkeep.imageduty import choose_images, kept
from nodeclient.upkeep.incidents import IncidentLog, Incidents
from nodeclient.upkeep.leaving import Leavers
from nodeclient.upkeep.log import note, start_log
from nodeclient.upkeep.opening import open_to_run
from nodeclient.upkeep.peers import PeerBook
from nodeclient.upkeep.reference import Accepted, Reference
from nodeclient.upkeep.rootguard import root_guard
from nodeclient.upkeep.running import boot_of
from nodeclient.upkeep.seeking import build_admitter, build_proposer, build_seeker
from nodeclient.upkeep.workers import cancel

log = logging.getLogger(__name__)

OnCommit = Callable[[Case | None, Case, ev.Event], None]


async def run_daemon(config: Config, on_commit: OnCommit | None = None) -> None:
    """Run until SIGTERM or SIGINT. Raises ``SealrunError`` for what must be put right first."""
    os.umask(0o077)  # whatever this process writes is its operator's alone
    start_log(config.folder)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    with only_one(config.folder):
        async with node(config, on_commit) as failed:
            stop = asyncio.create_task(stopping.wait())
            done, _ = await asyncio.wait({stop, failed}, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            if failed in done:
                failed.result()


@asynccontextmanager
async def node(
    config: Config, on_commit: OnCommit | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """A running Node; the task it yields ends only if following the chain fails for good, or the
    root of trust is lost."""
    folder, keys, store_key = await open_to_run(config)
    deployed = deployments.load(config.path(config.chain.deployment))
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(folder.root.close)
        stack.callback(keys.wipe)
        rpc = Rpc(config.chain.rpc)
        stack.push_async_callback(rpc.close)
        await deployments.check_chain(deployed, rpc)
        chain = Reader(rpc, deployed)
        me = Me(
            address=Address(keys.address),
            roles=config.node.roles,
            parameters=await chain.parameters(),
            confirmations=config.chain.confirmations,
            responses=responses(config.machine),
        )
        store = Store(config.folder / "node.db", store_key)
        stack.callback(store.close)
        directory = Directory(deployed.chain_id, deployed["NodeRegistry"].address)
        tls_key = serialization.load_der_private_key(keys.tls_key, None)
        identity = TlsIdentity(tls_key, keys.tls_certificate)  # type: ignore[arg-type]
        peers = await stack.enter_async_context(PeerClient(identity))
        book = PeerBook(directory, chain)
        runner_box: list[Runner] = []
        tally = Tally(me.address)
        services = build_services(
            config, folder, me, chain, rpc, store, directory, peers, runner_box, tally
        )

        leavers = Leavers(
            *(me.address, chain.registry, services.sender, services.head),
            others=lambda: len(directory.admitted()),
        )
        bars = BarDuty(store, lambda event: runner_box[0].tell(event), leavers.take)

        def on_node_event(event: ev.ChainEvent | ev.BlockSeen | ev.ChainReorganised) -> None:
            book.on_event(event)
            services.images.on_event(event)
            bars.on_event(event)

        def on_history(event: ev.ChainEvent) -> None:
            services.images.book.on_event(event)
            bars.book.on_event(event)

        watched = both(tally.committed, both(bars.committed, on_commit))
        runner = Runner(store, me, build_effects(services), on_node_event, watched)
        # Until the first new block: a policy that ended while the Node was down stays ended.
        runner.head = (await chain.head()).number
        runner_box.append(runner)
        guard = root_guard(config, services, runner, keys)
        found = await guard.look()
        if found is not None and found.tampered:
            # While the Node was off. It ends before it talks to any peer; only its webhook tells.
            await guard.end_at_start(found, run_health(config, services, chain, tally))
        trust = TrustFolder(config.folder / "peers")
        await book.load(rpc, deployed, on_history)
        admitter = build_admitter(config, services, rpc, deployed)
        inbox = Inbox(services, runner, admitter)
        server = PeerServer(inbox.handle, identity=identity, directory=directory, trust=trust)
        host, _, port = config.node.endpoint.rpartition(":")
        await server.start((config.node.listen or host).strip("[]"), int(port))
        stack.push_async_callback(server.close)
        health = await stack.enter_async_context(run_health(config, services, chain, tally))
        proposer = build_proposer(config, services, admitter)
        control = Control(
            services, runner, health, config.folder / "control.sock", motion_routes(proposer)
        )
        await control.start()
        stack.push_async_callback(control.stop)
        stack.push_async_callback(runner.stop)
        warming = asyncio.create_task(services.reference.warm())
        stack.push_async_callback(cancel, warming)
        duty = asyncio.create_task(services.images.run())
        stack.push_async_callback(cancel, duty)
        leaving = asyncio.create_task(kept(lambda: leavers.run(config.chain.poll_seconds)))
        stack.push_async_callback(cancel, leaving)
        proposing = asyncio.create_task(kept(proposer.run))
        stack.push_async_callback(cancel, proposing)
        runner.resume()
        settings = WatchSettings(poll_seconds=config.chain.poll_seconds)
        watcher = Watcher(rpc, deployed, settings, store.blocks())
        follow = asyncio.create_task(runner.follow(watcher, deployed.deploy_block))
        stack.push_async_callback(cancel, follow)
        lives = asyncio.create_task(guard.beside(follow))
        stack.push_async_callback(cancel, lives)
        if config.node.seek_admission:
            seeking = asyncio.create_task(build_seeker(config, services, admitter).run())
            stack.push_async_callback(cancel, seeking)
        log.info("node 0x%s runs", keys.address.hex())
        yield lives


def appraisal_policy(config: Config) -> AppraisalPolicy:
    """What this Node accepts of others' Machines where no owner's policy decides."""
    machine = config.machine
    return AppraisalPolicy(
        frozenset(machine.accept_vouch),
        frozenset(machine.accept_simulated),
        uncovered=machine.accept_uncovered_mib << 20,
    )


def accepted(machine: MachineConfig) -> Accepted:
    """What this Node's operator accepts of others' PCs beside the boot image."""
    named = (machine.accept_drivers, machine.accept_firmware, machine.accept_files)
    return Accepted(*(frozenset(map(bytes.fromhex, digests)) for digests in named))


def build_services(
    config: Config,
    folder: NodeFolder,
    me: Me,
    chain: Reader,
    rpc: Rpc,
    store: Store,
    directory: Directory,
    peers: PeerClient,
    runner_box: list[Runner],
    tally: Tally,
) -> Services:
    """The adapters that the configuration names. ``runner_box`` holds the runner once it exists."""
    keys = folder.load_keys()
    deployed = deployments.load(config.path(config.chain.deployment))
    boot_images = BootImages(config.path(config.machine.boot_images), open_boot_files, open_eraser)
    reference = Reference(
        chain, config.path(config.machine.images), boot_images, accepted(config.machine)
    )

    async def get_block(cid: str) -> bytes:
        try:
            return await services.await_block(cid, providers())
        except PeerError:
            raise RpcError("missing", "no owner of the task's capsules gives this block") from None

    async def put_block(cid: str, block: bytes) -> None:
        await asyncio.to_thread(folder.store.put, cid, block)

    async def find_image(image: bytes) -> Path | None:
        return reference.image_path(image)

    def providers() -> tuple[Address, ...]:
        """Those whose Capsules the running Task uses: to anybody else its CIDs are no business."""
        return tuple(sorted({peer for spec in running() for peer in owners_and_requester(spec)}))

    def running() -> Iterator[TaskSpec]:
        for commitment in store.waiting_for(WatchMachine):
            case = store.case(commitment)
            if case is not None and case.executor is not None and case.executor.spec:
                yield TaskSpec.decode(case.executor.spec)

    def connections() -> tuple[str, ...]:
        """Of the Task that this Node's Machine runs now, from its TaskSpec."""
        return tuple(each for spec in running() for each in spec.connections)

    def devices() -> tuple[str, ...]:
        """Of the Task that holds this Node's Machine, on whichever of its boots."""
        holding = (case.executor for case in store.open_cases() if case.executor is not None)
        held = (TaskSpec.decode(each.spec) for each in holding if each.state in HOLDING)
        return tuple(each for spec in held for each in spec.devices)

    machine_folder = config.folder / "machine"
    lines, ban = IncidentLog(machine_folder), Ban(machine_folder)
    incidents = Incidents(
        lines,
        store,
        lambda event: runner_box[0].tell(event),
        lambda commitment, what, private: note(store, commitment, what, private),
        tally.incident,
    )
    supply = Supply(get_block, put_block, find_image, connections, incidents.report, devices)
    machine = choose_machine(
        config, supply, folder.root, chain.is_approved, report=incidents.report
    )
    desk = MachineDesk(machine, folder.root, ban)
    sender = Sender(rpc, deployed, store, keys.account)

    async def ask(peer: Address, method: str, message: object) -> bytes:
        return await services.ask(peer, method, message)

    def on_machine() -> bool:
        """Whether a Machine is on, for some Task."""
        roles = (case.executor for case in store.open_cases())
        return any(
            role.resume and role.state in HOLDING and role.state is not ExecutorState.BOOTING
            for role in roles
            if role is not None
        )

    images = choose_images(
        config,
        me=me,
        chain=chain,
        root=folder.root,
        registry=Address(deployed["NodeRegistry"].address),
        store=store,
        blocks=folder.store,
        sender=sender,
        ask=ask,
        peers=lambda: tuple(Address(each) for each in directory.admitted()),
        head=lambda: runner_box[0].head,
        boot=lambda: boot_of(store.newest_load, on_machine),
        lines=lines,
        report=incidents.report,
        note=lambda commitment, what, private: note(store, commitment, what, private),
    )
    policies = Policies(
        config.folder,
        me.address,
        store.uses,
        lambda: {peer: directory.contact(peer).hpke for peer in directory.peers()},
        lambda: runner_box[0].head,
    )
    services = Services(
        me=me,
        settings=Settings(
            results=str(config.path(config.store.results)),
            appraisal=appraisal_policy(config),
            question_rate=config.machine.question_rate,
            silence_seconds=config.machine.silence_seconds,
            monitor_rate=config.machine.monitor_rate,
            erases=erases(config.machine),
        ),
        root=folder.root,
        keys=keys,
        chain=chain,
        sender=sender,
        peers=peers,
        directory=directory,
        machine=desk,
        ban=ban,
        incidents=lines,
        report=incidents.report,
        store=store,
        blocks=folder.store,
        vault=folder.vault,
        policies=policies,
        reference=reference,
        endorser=Endorser(
            lambda peer, method, message: services.ask(peer, method, message),
            store,
            config.path(config.machine.ek_roots),
        ),
        voucher=Voucher(config.folder / ENDORSEMENT, desk),
        images=images,
        head=lambda: runner_box[0].head,
        note=lambda commitment, what, private="": note(store, commitment, what, private),
        answer=lambda request, body: runner_box[0].answer(request, body),
    )
    return services


def both(first: OnCommit, second: OnCommit | None) -> OnCommit:
    """Tell one after the other."""
    if second is None:
        return first

    def tell(before: Case | None, after: Case, event: ev.Event) -> None:
        first(before, after, event)
        second(before, after, event)

    return tell


def build_effects(services: Services) -> dict[type, Effect]:
    """Every action's effect: a missing one is found at start, not in the middle of a Task."""
    modules = (
        *(transactions, candidacy, machine, monitoring, responding),
        *(polling, committee, broker, requester, receiver),
    )
    table: dict[type, Effect] = {}
    for module in modules:
        table.update(module.effects(services))
    # Read from the module: a dataclass with slots leaves its first version among __subclasses__().
    kinds = {k for k in vars(actions).values() if isinstance(k, type) and issubclass(k, Action)}
    missing = kinds - {Action, Reply} - set(table)
    if missing:
        raise TypeError(f"no effect for {sorted(kind.__name__ for kind in missing)}")
    return table


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """One daemon per folder: two would send the same transactions under one account."""
    handle = os.open(folder / "node.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise ConfigError(f"a daemon runs already in {folder}", "stop it first") from None
    try:
        yield
    finally:
        os.close(handle)
