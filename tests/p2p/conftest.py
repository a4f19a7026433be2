"""A small network of Nodes on loopback: real keys, real records, real TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from agent.formats.p256 import SigningKey
from nodeclient.core.types import Address, NodeRecord, NodeStatus, RootClass
from nodeclient.p2p.contact import Contact, build_record, contact_digest
from nodeclient.p2p.directory import Directory
from nodeclient.p2p.tls import TlsIdentity, TrustFolder
from nodeclient.p2p.transport import Handler, Limits, PeerClient, PeerServer

CHAIN_ID = 31337
REGISTRY = bytes.fromhex("11" * 20)


@dataclass
class Node:
    """One Node as the tests need it: an account, its root and TLS keys, what it published."""

    address: Address
    root: SigningKey = field(default_factory=SigningKey.generate)
    identity: TlsIdentity = field(init=False)
    seq: int = 0
    endpoint: str = "127.0.0.1:1"

    def __post_init__(self) -> None:
        self.renew_key()

    def renew_key(self) -> None:
        self.identity = TlsIdentity.create(ed25519.Ed25519PrivateKey.generate(), self.address)

    def contact(self) -> Contact:
        return Contact(
            CHAIN_ID,
            REGISTRY,
            self.address,
            self.endpoint,
            self.identity.certificate,
            b"\x07" * 32,
            self.seq,
        )

    def record(self) -> bytes:
        return build_record(self.contact(), self.root.sign)

    def entry(self, record: bytes, status: NodeStatus = NodeStatus.ACTIVE) -> NodeRecord:
        """What the registry's view says after ``record`` was published."""
        return NodeRecord(
            id=1,
            address=self.address,
            status=status,
            root_class=RootClass.SOFTWARE,
            root_public=self.root.public,
            vrf_public=bytes(33),
            hardware_id=bytes(32),
            attestation_key=bytes(32),
            contact_digest=contact_digest(record),
            deposit=0,
            tier=0,
            engaged=False,
            fixed_at=0,
        )

    def publish(self, directory: Directory, status: NodeStatus = NodeStatus.ACTIVE) -> Contact:
        self.seq += 1
        record = self.record()
        return directory.publish(record, self.entry(record, status))


async def echo(peer: bytes, method: str, body: bytes) -> bytes:
    """Answers who asked what."""
    return peer + method.encode() + b"|" + body


@dataclass
class Network:
    """Starts servers and clients that end with the test."""

    folder: Path
    stack: AsyncExitStack
    directory: Directory = field(default_factory=lambda: Directory(CHAIN_ID, REGISTRY))

    async def serve(
        self,
        node: Node,
        handler: Handler = echo,
        limits: Limits | None = None,
        directory: Directory | None = None,
    ) -> PeerServer:
        """Start ``node``'s server; its endpoint is the port it got. Does not publish."""
        server = PeerServer(
            handler,
            identity=node.identity,
            directory=directory or self.directory,
            trust=TrustFolder(self.folder / node.address.hex()),
            limits=limits,
        )
        port = await server.start("127.0.0.1", 0)
        self.stack.push_async_callback(server.close)
        node.endpoint = f"127.0.0.1:{port}"
        return server

    async def client(self, node: Node, **options: int) -> PeerClient:
        client = PeerClient(node.identity, **options)
        return await self.stack.enter_async_context(client)


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[Network]:
    async with AsyncExitStack() as stack:
        yield Network(tmp_path, stack)


def make_node(number: int) -> Node:
    return Node(Address(number.to_bytes(20)))


@pytest.fixture
def requester() -> Node:
    return make_node(1)


@pytest.fixture
def executor() -> Node:
    return make_node(2)


@pytest.fixture
def member() -> Node:
    return make_node(3)


@pytest.fixture
def outsider() -> Node:
    return make_node(4)
