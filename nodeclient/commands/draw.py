"""``sealrun node pause`` and ``resume``: leave the draw, and come back into it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from nodeclient.chain import deployment as deployments
from nodeclient.chain import registry
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.rpc import Rpc
from nodeclient.chain.sender import Sender
from nodeclient.commands.output import Json, NodeFolder, show
from nodeclient.identity.folder import open_folder
from nodeclient.ports import Order


def pause(node: NodeFolder = Path("node"), as_json: Json = False) -> None:
    """Leave the draw; a task that runs has to be finished all the same."""
    show({"node": str(node), "block": asyncio.run(_send(node, registry.pause))}, as_json)


def resume(node: NodeFolder = Path("node"), as_json: Json = False) -> None:
    """Come back into the draw, for tasks posted from now on."""
    show({"node": str(node), "block": asyncio.run(_send(node, registry.resume))}, as_json)


async def _send(node: Path, order: Callable[[str], Order]) -> int:
    """Send with the node's own account; the block in which it stands."""
    folder = open_folder(node)
    keys = folder.load_keys()
    rpc = Rpc(folder.config.chain.rpc)
    try:
        deployed = deployments.load(folder.config.path(folder.config.chain.deployment))
        await deployments.check_chain(deployed, rpc)
        sender = Sender(rpc, deployed, SqliteJournal(":memory:"), keys.account)
        receipt = await sender.execute(order(f"operator/{time.time_ns()}"))
        sender.forget()
        return receipt.block
    finally:
        keys.wipe()
        folder.root.close()
        await rpc.close()
