"""The image of the node's services: reproducible, closed, and a daemon in it gets healthy."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from nodeclient.chain import deployment as deployments
from nodeclient.chain.deploy import deploy
from nodeclient.chain.deployment import Deployment
from nodeclient.chain.presets import PRESETS
from nodeclient.chain.rpc import Rpc
from nodeclient.core.case import Role
from nodeclient.images.build import BuiltImage
from nodeclient.images.load import load_image
from nodeclient.images.service.build import PROGRAMS, build_into, build_service
from nodeclient.images.services import RunningService, ServiceEngine
from scripts.embedded.chain import ROOT
from scripts.embedded.node import NodeProcess
from tests.chain.anvil_node import KEYS, AnvilNode

pytestmark = [pytest.mark.chain, pytest.mark.machine]
PI = ROOT / "scripts" / "pi"
IMPORTS = """
import importlib, pkgutil
import agent, nodeclient
for package in (agent, nodeclient):
    for each in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        # No wheel of the TPM's binding can be in the image: docs/operating.md says so.
        if not each.name.endswith("__main__") and ".roots.tpm2" not in each.name:
            importlib.import_module(each.name)
print("all")
"""


@pytest.fixture(scope="module")
def service(engine: docker.DockerClient) -> Iterator[BuiltImage]:
    """The image of this checkout, loaded."""
    built = build_service(ROOT / ".build" / "images", lambda _: None)
    load_image(built.path)
    yield built
    engine.images.remove("sha256:" + built.image_id.hex())


def test_build__again_from_nothing__same_id_and_same_bytes(
    service: BuiltImage, tmp_path: Path
) -> None:
    again = build_into(tmp_path)
    assert again.image_id == service.image_id
    with again.path.open("rb") as one, service.path.open("rb") as other:
        while part := one.read(1 << 20):
            assert part == other.read(len(part))


def test_image__what_can_be_started__is_on_the_list_and_raises_no_rights(
    service: BuiltImage,
) -> None:
    with tarfile.open(service.path) as outer:
        layer = next(each for each in outer if each.size > 1 << 20)
        body = outer.extractfile(layer)
        assert body is not None
        with tarfile.open(fileobj=body) as root:
            found = list(root)
    folders = ("bin", "sbin", "usr/bin", "usr/sbin")
    started = {e.name for e in found if e.name.rpartition("/")[0] in folders}
    assert started == PROGRAMS
    assert not [e.name for e in found if e.mode & (stat.S_ISUID | stat.S_ISGID)]


def test_image__every_module_of_node_and_agent__can_be_imported_in_it(
    service: BuiltImage, engine: docker.DockerClient
) -> None:
    said = engine.containers.run(
        "sha256:" + service.image_id.hex(),
        ["-c", IMPORTS],
        entrypoint="/usr/bin/python3",
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        tmpfs={"/tmp": "size=64m"},
        remove=True,
    )
    assert said.decode().split() == ["all"]


# ------------------------------------------------------------------------------------ compose


@pytest.fixture
def anvil(tmp_path: Path) -> Iterator[AnvilNode]:
    node = AnvilNode(tmp_path)
    node.start()
    yield node
    node.stop()


@dataclass
class Composed:
    """The compose file of the repository, for one node's folder."""

    folder: Path
    image: bytes
    project: str = field(default_factory=lambda: "test" + secrets.token_hex(4))

    def run(self, *words: str) -> str:
        settings = {
            "SEALRUN_IMAGE": "sha256:" + self.image.hex(),
            "SEALRUN_NODE": str(self.folder),
            "SEALRUN_PROJECT": self.project,
        }
        done = subprocess.run(
            ["docker-compose", "-p", self.project, "-f", str(PI / "compose.yaml"), *words],
            env={**os.environ, "PYTHONPATH": "", **settings},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def composed(service: BuiltImage, anvil: AnvilNode, tmp_path: Path) -> Iterator[Composed]:
    """A registered node on a chain of its own, its daemon not started yet."""
    folder = tmp_path / "node"
    deployed = asyncio.run(deployment_on(anvil))
    file = tmp_path / "deployment.json"
    deployments.save(deployed, file)
    node = NodeProcess("node", folder)
    node.create(
        anvil.url, file, (Role.BROKER, Role.RECEIVER, Role.REQUESTER), {}, {"kind": "software"}
    )
    anvil.rpc("anvil_setBalance", node.account, hex(10**20))
    node.register(anvil.url, deployed, 0, False)
    # In the container the node's folder is all there is.
    config = folder / "config.toml"
    config.write_text(config.read_text().replace(str(file), "deployment.json"))
    file.rename(folder / "deployment.json")
    made = Composed(folder, service.image_id)
    yield made
    made.run("down", "--timeout", "30")


async def deployment_on(anvil: AnvilNode) -> Deployment:
    rpc = Rpc(anvil.url, timeout=60.0)
    try:
        return await deploy(rpc, KEYS[0], PRESETS["anvil"], "anvil")
    finally:
        await rpc.close()


def test_compose__daemon_in_its_container__gets_healthy_and_says_so(
    composed: Composed, engine: docker.DockerClient
) -> None:
    composed.run("up", "-d")
    [running] = ServiceEngine(composed.project).running()
    container = engine.containers.get(running.container)
    assert running == RunningService("node", str(container.id), composed.image)
    end = time.monotonic() + 300
    while container.attrs["State"]["Health"]["Status"] != "healthy":
        assert container.status == "running", container.logs().decode()
        assert time.monotonic() < end, container.attrs["State"]["Health"]
        time.sleep(0.5)
        container.reload()
    code, said = container.exec_run(
        ["/usr/bin/python3", "-m", "nodeclient.cli", "node", "status", "--node", "/node", "--json"]
    )
    assert code == 0, said
    status: dict[str, Any] = json.loads(said)
    assert status["registry"]["status"] == "PAUSED"
    assert status["chain"]["head"] > 0
    host = container.attrs["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], None)
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert container.attrs["Config"]["Image"] == "sha256:" + composed.image.hex()


def test_compose__daemon_is_gone__the_health_check_says_so(
    composed: Composed, engine: docker.DockerClient
) -> None:
    image = "sha256:" + composed.image.hex()
    words = ["-m", "nodeclient.control.healthcheck", "/node"]
    volumes = {str(composed.folder): {"bind": "/node", "mode": "ro"}}
    with pytest.raises(docker.errors.ContainerError, match="start it"):
        engine.containers.run(
            image, words, entrypoint="/usr/bin/python3", volumes=volumes,
            network_mode="none", remove=True, stderr=True,
        )  # fmt: skip


@pytest.mark.parametrize("file", sorted(PI.glob("*.yaml")), ids=lambda file: file.name)
def test_compose__no_file__names_a_tag_or_a_mode_that_undoes_the_rest(file: Path) -> None:
    for service in yaml.safe_load(file.read_text())["services"].values():
        assert service.get("image", "${SEALRUN_IMAGE:").startswith("${SEALRUN_IMAGE:")
        assert not {"privileged", "build", "pid", "ipc", "userns_mode"} & set(service)
        assert "docker.sock" not in str(service)
