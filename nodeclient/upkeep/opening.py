"""How a Node's folder is opened to run: also with a root that was opened meanwhile, whose one use
is left, to leave the draw. A root that does not open at all leaves nobody who could sign: then the
operator is told whether the Node can still be drawn.
"""

from __future__ import annotations

from nodeclient.chain import deployment as deployments
from nodeclient.chain.reader import Reader
from nodeclient.chain.registration import FILE_NAME
from nodeclient.chain.registration import load as load_registration
from nodeclient.chain.rpc import Rpc
from nodeclient.config.node import Config
from nodeclient.core.types import NodeStatus
from nodeclient.errors import RootLost, SealrunError
from nodeclient.identity.folder import NodeFolder, open_folder
from nodeclient.identity.keys import KeysError, NodeKeys
from nodeclient.roots.base import RootError


async def open_to_run(config: Config) -> tuple[NodeFolder, NodeKeys, bytes]:
    """The Node's folder, keys, and key of its database, also of a root that was opened while the
    Node was off: its guard sees to that. Raises SealrunError."""
    folder: NodeFolder | None = None
    try:
        folder = open_folder(config.folder, leaving=True)
        return folder, folder.load_keys(), folder.load_store_key()
    except (RootError, KeysError) as error:
        if folder is not None:
            folder.root.close()
        raise await still_drawn(config, error) from error


async def still_drawn(config: Config, error: SealrunError) -> SealrunError:
    """What to tell the operator of a root that does not open at the start, and so seals the key of
    the only account that can pause the Node: ``error``, and whether tasks are still drawn for it.
    """
    try:
        account = load_registration(config.folder / FILE_NAME).account
        rpc = Rpc(config.chain.rpc)
        try:
            deployed = deployments.load(config.path(config.chain.deployment))
            record = await Reader(rpc, deployed).node(account)
        finally:
            await rpc.close()
    except SealrunError:
        return error  # the next start asks again; what is wrong with the root comes first
    if record is None or record.status is not NodeStatus.ACTIVE:
        return error
    return RootLost(
        f"{error.message}; the node is STILL IN THE DRAW: only its account can pause it, whose key"
        " this root seals",
        f"{error.next_step}, and start the node again; if the device is gone for good, let another"
        f" node of yours propose a bar of hardware id 0x{record.hardware_id.hex()}",
    )
