"""Images between real nodes: one publishes, another fetches; loads stand on chain."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound

from nodeclient.chain import images
from nodeclient.chain.images import ImageKind
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.rpc import Rpc
from nodeclient.chain.sender import Sender, SendSettings
from nodeclient.images.services import PROJECT, SERVICE
from nodeclient.machine.measure import measure_agent
from scripts.embedded.chain import DEPLOYER, ROOT
from scripts.embedded.job import order
from scripts.embedded.network import Network
from scripts.embedded.node import NodeProcess
from tests.e2e import quick
from tests.e2e.books import Books
from tests.e2e.conftest import Driver
from tests.e2e.stage import restart
from tests.images.small import small_image

FUNCTION = ROOT / "examples" / "common-names" / "function"
HOUR = 3600


async def approve(network: Network, image: bytes, kind: ImageKind) -> None:
    rpc = Rpc(network.chain.url)
    try:
        settings = SendSettings(poll_seconds=0.05)
        journal = SqliteJournal(":memory:")
        sender = Sender(rpc, network.deployment, journal, DEPLOYER, settings)
        now = int(time.time())
        await sender.execute(
            images.approve(image.hex(), image, kind, bytes(20), now - HOUR, now + HOUR)
        )
    finally:
        await rpc.close()


@pytest.fixture
def tar(tmp_path: Path) -> Iterator[tuple[bytes, Path]]:
    """An image of several blocks that nobody has; afterwards the engine has it no more."""
    image, path = small_image(tmp_path, os.urandom(3 << 20))
    yield image, path
    engine = docker.from_env()
    for name in [each.id for each in engine.images.list(all=True)]:
        if name == "sha256:" + image.hex():
            engine.images.remove(name)
    engine.close()


def test_image__published_by_one_node__fetched_by_another_only_once_it_is_approved(
    driver: Driver, tar: tuple[bytes, Path]
) -> None:
    image, path = tar
    giver, taker = driver.b, driver.requester
    name = "sha256:" + image.hex()
    engine = docker.from_env()
    made = giver.cli("image", "publish", str(path), "--node", str(giver.folder))
    assert made["image"] == "0x" + image.hex()
    words = ("image", "fetch", made["cid"], "--node", str(taker.folder))
    with pytest.raises(RuntimeError, match="nobody approved it"):
        taker.cli(*words)
    with pytest.raises(ImageNotFound):
        engine.images.get(name)
    asyncio.run(approve(driver.network, image, ImageKind.SERVICE))
    got = taker.cli(*words)
    assert got["kind"] == "SERVICE"
    assert got["loaded"] is True
    assert Path(got["path"]).read_bytes() == path.read_bytes()
    assert engine.images.get(name).tags == []
    engine.close()


def test_task__executor_booted_its_image__the_chain_says_so(
    driver: Driver, lists: tuple[Path, Path]
) -> None:
    task = order(driver.requester, quick.request(driver, FUNCTION, lists))
    driver.until(task, "SETTLED")
    books = Books(driver.network)
    (drawn,) = [e for e in books.logs("TaskMarket", "CommitteeDrawn") if e["task"] == task]
    end = time.monotonic() + 120
    while True:
        loads = books.logs("ImageRegistry", "ImageLoaded")
        found = [e for e in loads if e["node"] == drawn["executor"]]
        if found or time.monotonic() > end:
            break
        time.sleep(0.2)
    assert [each["image"] for each in found] == [measure_agent()], "once, whatever it booted"


@pytest.fixture
def guarded(driver: Driver) -> Iterator[tuple[NodeProcess, str]]:
    """A node whose daemon watches over the containers of a project; as before afterwards."""
    node, project = driver.requester, "e2e-" + secrets.token_hex(4)
    config = node.folder / "config.toml"
    before = config.read_text()
    config.write_text(f'{before}\n[services]\nguard = "daemon"\nproject = "{project}"\n')
    restart([node])
    yield node, project
    config.write_text(before)
    restart([node])


def journal(node: NodeProcess) -> list[str]:
    """What the node told its operator."""
    return [line["what"] for line in node.get("/v1/journal")["journal"]]


def test_container__of_an_image_that_is_for_functions_only__stopped_by_the_daemon(
    driver: Driver, guarded: tuple[NodeProcess, str]
) -> None:
    """Approved it is, but not as a service."""
    node, project = guarded
    engine = docker.from_env()
    container = engine.containers.run(
        "sha256:" + driver.network.image.image_id.hex(),
        ["python3", "-c", "import time; time.sleep(3600)"],
        detach=True,
        network_mode="none",
        labels={PROJECT: project, SERVICE: "web"},
        restart_policy={"Name": "always"},
    )
    try:
        end = time.monotonic() + 120
        while container.status != "exited":
            assert time.monotonic() < end, node.log()[-2000:]
            time.sleep(0.1)
            container.reload()
        while not any("service web stopped" in line for line in journal(node)):
            assert time.monotonic() < end, journal(node)
            time.sleep(0.1)
        assert any("not as SERVICE" in line for line in journal(node))
        incidents = (node.folder / "machine" / "incidents.jsonl").read_text()
        assert "service web stopped" in incidents
    finally:
        container.remove(force=True)
        engine.close()
