"""A peer that says what no daemon would: requests of one's own under a node's identity."""

from __future__ import annotations

import asyncio

from cryptography.hazmat.primitives import serialization

from nodeclient.chain.reader import Reader
from nodeclient.chain.rpc import Rpc
from nodeclient.identity.folder import open_folder
from nodeclient.p2p.client import PeerClient
from nodeclient.p2p.contact import Contact
from nodeclient.p2p.directory import Directory
from nodeclient.p2p.errors import PeerError
from nodeclient.p2p.messages import BlockRequest, pack
from nodeclient.p2p.tls import TlsIdentity
from nodeclient.upkeep.peers import PeerBook
from scripts.embedded.network import Network
from scripts.embedded.node import NodeProcess
from tests.e2e.books import address

KNOCK = BlockRequest("b")


def ask(
    network: Network, who: NodeProcess, whom: NodeProcess, *questions: tuple[str, object]
) -> list[bytes | PeerError]:
    """Put (method, message) pairs to a node, all at once; its answers or refusals in order."""

    async def put() -> list[bytes | PeerError]:
        rpc, deployed = Rpc(network.chain.url), network.deployment
        keys = open_folder(who.folder).load_keys()
        tls_key = serialization.load_der_private_key(keys.tls_key, None)
        identity = TlsIdentity(tls_key, keys.tls_certificate)  # type: ignore[arg-type]
        directory = Directory(deployed.chain_id, deployed["NodeRegistry"].address)
        try:
            await PeerBook(directory, Reader(rpc, deployed)).load(rpc, deployed)
            contact = directory.contact(address(whom))
            async with PeerClient(identity) as client:
                # Connections first, so that the questions really arrive together.
                await asyncio.gather(*(one(client, contact, "hello", KNOCK) for _ in questions))
                return await asyncio.gather(
                    *(one(client, contact, method, message) for method, message in questions)
                )
        finally:
            await rpc.close()

    async def one(
        client: PeerClient, contact: Contact, method: str, message: object
    ) -> bytes | PeerError:
        try:
            return await client.request(contact, method, pack(message), 60.0)
        except PeerError as error:
            return error

    return asyncio.run(put())
