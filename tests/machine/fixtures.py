"""Fixtures for every test that needs the real engine, image or Machine; they leave nothing."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import APIError

from nodeclient.images.build import BuiltImage, build_runtime
from nodeclient.images.engine import ensure_engine
from nodeclient.images.load import has_image, load_image
from nodeclient.machine.power import LABEL
from tests.machine.support import Pi
from tests.machine.wire import Wire

_BUILD = Path(__file__).parents[2] / ".build"


@pytest.fixture(scope="session")
def engine() -> docker.DockerClient:
    """The host's engine, started if none answers."""
    socket = ensure_engine(_BUILD / "engine", lambda _: None)
    return docker.DockerClient(base_url=f"unix://{socket}")


@pytest.fixture(scope="session")
def runtime(engine: docker.DockerClient) -> Iterator[BuiltImage]:
    """The runtime image, built once and loaded, so that most tests need not bring it."""
    image = build_runtime(_BUILD / "images", lambda _: None)
    before = has_image(engine, image.image_id)
    load_image(image.path)
    yield image
    if not before:
        with contextlib.suppress(APIError):  # somebody else uses it by now
            engine.images.remove("sha256:" + image.image_id.hex())


@pytest.fixture
async def pi(tmp_path: Path, runtime: BuiltImage, engine: docker.DockerClient) -> AsyncIterator[Pi]:
    """A Pi with its Machine off; afterwards nothing of it may be left."""
    pi = Pi(tmp_path / "machine", runtime.image_id, runtime.path)
    yield pi
    await pi.machine.power_off()
    assert traces(engine, pi) == []


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A cable between two namespaces; the test runs on the Pi."""
    wire = Wire()
    try:
        wire.make()
        with wire.at_pi():
            yield wire
    finally:
        wire.remove()


def traces(engine: docker.DockerClient, pi: Pi) -> list[str]:
    """Everything of a Machine that is still on this host: containers, mounts, files, process."""
    label = {"label": f"{LABEL}={pi.label}"}
    found = [f"container {each.id}" for each in engine.containers.list(all=True, filters=label)]
    found += [
        f"mount {line.split()[4]}"
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if str(pi.folder) in line
    ]
    scratch = pi.folder / "scratch"
    found += [str(scratch)] if scratch.exists() else []
    found += [f"process {pid}" for pid in pi.processes()]
    return found
