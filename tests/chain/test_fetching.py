"""`sealrun image fetch` without a daemon: chain and peers are asked by the command itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
import pytest_asyncio
from docker.errors import ImageNotFound

from nodeclient.capsules.stores.blockstore import FolderStore
from nodeclient.chain import deployment as deployments
from nodeclient.chain import images, registration, registry
from nodeclient.chain.images import ImageKind
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.reader import Reader
from nodeclient.chain.sender import Sender
from nodeclient.core.case import Role
from nodeclient.identity.folder import create_folder, open_folder
from nodeclient.identity.registration import REGISTRATION
from nodeclient.images.parts import publish
from nodeclient.p2p.directory import Directory
from nodeclient.p2p.errors import PeerRefused
from nodeclient.p2p.messages import BlockRequest, unpack
from nodeclient.p2p.server import PeerServer
from nodeclient.p2p.tls import TlsIdentity, TrustFolder
from nodeclient.upkeep.peers import PeerBook
from scripts.embedded.site import free_port
from tests.chain.conftest import FAST, World
from tests.images.small import small_image
from tests.machine.fixtures import engine

__all__ = ["engine"]

pytestmark = [pytest.mark.chain, pytest.mark.machine]
UNIT, YEAR = 10**18, 365 * 86_400


async def registered(world: World, folder: Path, port: int) -> Path:
    """A node with a folder of its own, as `sealrun node init` and `register_node` leave it."""
    deployments.save(world.deployment, folder.parent / "deployment.json")
    create_folder(
        folder,
        rpc=world.node.url,
        deployment_file=folder.parent / "deployment.json",
        endpoint=f"127.0.0.1:{port}",
        roles=frozenset(Role),
    )
    keys = open_folder(folder).load_keys()
    world.node.rpc("anvil_setBalance", "0x" + keys.address.hex(), hex(100 * UNIT))
    sender = Sender(world.rpc, world.deployment, SqliteJournal(":memory:"), keys.account, FAST)
    found = registration.load(folder / REGISTRATION)
    await sender.execute(registry.register("register", found, UNIT, join=True))
    return folder


@dataclass
class Giver:
    """A peer that gives blocks of one image, and counts how many it was asked for."""

    image: bytes
    cid: str
    blocks: FolderStore
    asked: int = 0

    async def handle(self, _sender: bytes, method: str, body: bytes) -> bytes:
        assert method == "block"
        self.asked += 1
        cid = unpack(BlockRequest, body).cid
        if not self.blocks.has(cid):
            raise PeerRefused("no such block here", "ask another peer")
        return self.blocks.get(cid)


@pytest_asyncio.fixture
async def giver(world: World, tmp_path: Path) -> AsyncIterator[Giver]:
    """Known to the chain, and listening."""
    image, tar = small_image(tmp_path, os.urandom(3 << 20))
    store = FolderStore(tmp_path / "given")
    with store.batch() as put:
        cid, _ = publish(tar, put)
    made = Giver(image, cid, store)
    port = free_port()
    folder = await registered(world, tmp_path / "giver", port)
    keys = open_folder(folder).load_keys()
    directory = Directory(world.deployment.chain_id, world.deployment["NodeRegistry"].address)
    book = PeerBook(directory, Reader(world.rpc, world.deployment))
    server = PeerServer(
        made.handle,
        identity=TlsIdentity.from_der(keys.tls_key, keys.tls_certificate),
        directory=directory,
        trust=TrustFolder(folder / "peers"),
    )
    await server.start("127.0.0.1", port)
    taker = await registered(world, tmp_path / "taker", 7001)
    (taker / "config.toml").open("a").write('\n[services]\nguard = "apart"\n')
    await book.load(world.rpc, world.deployment)
    yield made
    await server.close()


@pytest.fixture
def name(engine: docker.DockerClient, giver: Giver) -> Iterator[str]:
    """The image's name in the engine, which does not have it afterwards."""
    found = "sha256:" + giver.image.hex()
    yield found
    if any(each.id == found for each in engine.images.list(all=True)):
        engine.images.remove(found)


async def fetch(giver: Giver, folder: Path) -> subprocess.CompletedProcess[str]:
    words = ("image", "fetch", giver.cid, "--node", str(folder), "--json")
    command = [sys.executable, "-m", "nodeclient.cli", *words]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False
    )


async def test_fetch__no_daemon_runs__refused_until_approved_then_from_a_peer_into_the_engine(
    world: World, giver: Giver, tmp_path: Path, engine: docker.DockerClient, name: str
) -> None:
    refused = await fetch(giver, tmp_path / "taker")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "nobody approved it" in refused.stderr
    assert giver.asked == 1, "the list, and nothing of the image"
    with pytest.raises(ImageNotFound):
        engine.images.get(name)

    now = (await Reader(world.rpc, world.deployment).head()).timestamp
    approved = images.approve("ok", giver.image, ImageKind.SERVICE, bytes(20), now, now + YEAR)
    await world.sender(SqliteJournal(":memory:"), 0).execute(approved)
    done = await fetch(giver, tmp_path / "taker")
    assert done.returncode == 0, done.stderr
    assert f'"image": "0x{giver.image.hex()}"' in done.stdout
    assert engine.images.get(name).tags == []
    assert not (tmp_path / "taker" / "node.db").exists(), "no daemon ran"
