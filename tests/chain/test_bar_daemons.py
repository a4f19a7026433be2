"""Four whole daemons, their operators' commands, real requests over TLS: a chip is barred.

Nothing is left out but tasks: those stand in ``test_bar_drill``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path

import pytest

from nodeclient.chain import deployment as deployments
from nodeclient.chain import registration, registry
from nodeclient.chain.admission import AdmissionLedger
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.reader import Reader
from nodeclient.chain.sender import Sender
from nodeclient.chain.watcher import Watcher, WatchSettings
from nodeclient.commands import motion as commands
from nodeclient.config.node import load_config
from nodeclient.core import events as ev
from nodeclient.core.admission import MotionState
from nodeclient.core.case import Role
from nodeclient.core.types import Address, NodeStatus
from nodeclient.daemon import node as daemon
from nodeclient.identity.folder import create_folder, open_folder
from tests.chain.conftest import FAST, World
from tests.chain.people import UNIT, member
from tests.chain.test_bar_drill import passing

pytestmark = pytest.mark.chain  # starts anvil


async def settled_in(world: World, folder: Path, deployment: Path) -> Address:
    """A node's folder as `sealrun node init` makes it, registered."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    create_folder(
        folder,
        rpc=world.rpc.url,
        deployment_file=deployment,
        endpoint=f"127.0.0.1:{port}",
        roles=frozenset({Role.MEMBER}),
    )
    opened = open_folder(folder)
    keys = opened.load_keys()
    world.node.rpc("anvil_setBalance", "0x" + keys.address.hex(), hex(100 * UNIT))
    sender = Sender(world.rpc, world.deployment, SqliteJournal(":memory:"), keys.account, FAST)
    found = registration.load(folder / "registration.json")
    await sender.execute(registry.register("register", found, UNIT, join=True))
    opened.root.close()
    return Address(keys.address)


async def told(world: World, wanted: Address) -> None:
    """Until the registry says that the node is barred."""
    watcher = Watcher(world.rpc, world.deployment, WatchSettings(poll_seconds=0.05))
    async for item in watcher.events(0):
        if isinstance(item, ev.StatusChanged) and item.status is NodeStatus.BARRED:
            assert item.node == wanted
            return


async def test_daemons__operators_decide__chip_barred_over_the_network(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "deployment.json"
    deployments.save(world.deployment, file)
    folders = [tmp_path / f"n{number}" for number in range(4)]
    for folder in folders:
        await settled_in(world, folder, file)
    broken = await member(world, tmp_path / "broken")  # its daemon is off
    chip = "0x" + broken.root.hardware_id().hex()
    async with contextlib.AsyncExitStack() as stack:
        for folder in folders:
            await stack.enter_async_context(daemon(load_config(folder)))
        for folder in folders[1:]:
            commands.decide(yes=True, chip=chip, node=folder)
        capsys.readouterr()
        await asyncio.to_thread(commands.open_, chip=chip, node=folders[0], as_json=True)
        number = json.loads(capsys.readouterr().out)["motion"]
        blocks = asyncio.create_task(passing(world))
        await asyncio.wait_for(told(world, broken.address), 240)
        blocks.cancel()
    ledger, reader = (
        AdmissionLedger(world.rpc, world.deployment),
        Reader(world.rpc, world.deployment),
    )
    assert await ledger.state(number) is MotionState.CARRIED
    assert not await reader.registry.is_drawable(broken.address)
    opened = open_folder(folders[1])
    shown = await commands.with_chain(opened, lambda chain: commands.motions_of(opened, chain))
    opened.root.close()
    (line,) = shown["motions"]
    assert (line["motion"], line["kind"], line["subject"]) == (number, "BAR", chip)
    assert (line["state"], line["its_vote"]) == ("CARRIED", "yes")
