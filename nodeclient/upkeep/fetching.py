"""An image fetched, checked and loaded by the command itself, without a daemon: ``sealrun image
fetch``.

The Verification module must stand outside of any container. Where the daemon is in one, it must
not be what lets images in; so this process asks the chain and the peers by itself, with the Node's
own keys, on the host. It needs the Node's root once, for the key of its TLS identity, and changes
nothing but the folder of images and the engine.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from nodeclient.chain import deployment as deployments
from nodeclient.chain.reader import Reader
from nodeclient.chain.rpc import Rpc
from nodeclient.core.types import Address
from nodeclient.identity.folder import open_folder
from nodeclient.images.verification import Brought
from nodeclient.p2p.client import PeerClient
from nodeclient.p2p.directory import Directory
from nodeclient.p2p.messages import pack
from nodeclient.p2p.tls import TlsIdentity
from nodeclient.upkeep.imageduty import make_door
from nodeclient.upkeep.peers import PeerBook

ASK_SECONDS = 30.0  # one block of 1 MiB, from one peer


async def fetch_here(folder: Path, cid: str) -> Brought:
    """Bring in the image that `cid` names. Raises what ``Verification.bring`` does, ConfigError,
    DeploymentInvalid, RootError, KeysError, ChainUnavailable."""
    node = open_folder(folder)
    deployed = deployments.load(node.config.path(node.config.chain.deployment))
    async with AsyncExitStack() as stack:
        stack.callback(node.root.close)
        keys = node.load_keys()
        stack.callback(keys.wipe)
        own = Address(keys.address)
        rpc = Rpc(node.config.chain.rpc)
        stack.push_async_callback(rpc.close)
        await deployments.check_chain(deployed, rpc)
        chain = Reader(rpc, deployed)
        directory = Directory(deployed.chain_id, deployed["NodeRegistry"].address)
        await PeerBook(directory, chain).load(rpc, deployed)
        identity = TlsIdentity.from_der(keys.tls_key, keys.tls_certificate)
        client = await stack.enter_async_context(PeerClient(identity))

        async def ask(peer: Address, method: str, message: object) -> bytes:
            contact = directory.contact(peer)
            return await client.request(contact, method, pack(message), ASK_SECONDS)

        def peers() -> tuple[Address, ...]:
            return tuple(Address(each) for each in directory.admitted())

        door = make_door(node.config, chain, node.store, ask, peers, own)
        return await door.bring(cid)
