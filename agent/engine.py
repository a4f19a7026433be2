"""The Docker engine of this Machine, as far as the Agent needs it.

Images and containers are named by ID only. What the Agent made carries its Machine's label, so that
what it finds, counts and removes is its own.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container

LABEL = "sealrun.machine"
ENGINE_SECONDS = 120  # loading an image on a busy machine; a run's own limit is separate


class EngineFailed(Exception):
    """The engine refused or does not answer."""


class Engine:
    """A connection to the engine at one socket, for one Machine's label."""

    def __init__(self, socket: Path, machine: str) -> None:
        self._machine = machine
        try:
            self.client = docker.DockerClient(base_url=f"unix://{socket}", timeout=ENGINE_SECONDS)
        except DockerException as error:
            raise EngineFailed("no Docker engine answers on the Machine; start one") from error

    def has_image(self, image_id: bytes) -> bool:
        """Whether the engine holds exactly this image."""
        name = image_name(image_id)
        try:
            return bool(self.client.images.get(name).id == name)
        except ImageNotFound:
            return False
        except DockerException as error:
            raise EngineFailed(f"the engine cannot look up an image: {error}") from error

    def load(self, tar: Path) -> None:
        """Load an image tar that was checked before."""
        try:
            with tar.open("rb") as source:
                self.client.images.load(source)
        except (DockerException, OSError) as error:
            raise EngineFailed(f"the engine cannot load the image: {error}") from error

    def remove_image(self, image_id: bytes) -> bool:
        """Remove an image unless another Machine's container uses it; whether it is gone."""
        with contextlib.suppress(ImageNotFound, APIError):
            self.client.images.remove(image_name(image_id), force=False)
        return not self.has_image(image_id)

    def used_by_others(self, image_id: bytes) -> bool:
        """Whether a container that is not this Machine's was made from the image."""
        found = self.client.containers.list(
            all=True, filters={"ancestor": image_name(image_id)}, ignore_removed=True
        )
        return any(each.labels.get(LABEL) != self._machine for each in found)

    def own(self) -> list[Container]:
        """Every container with this Machine's label, running or not."""
        label = f"{LABEL}={self._machine}"
        found: list[Container] = self.client.containers.list(
            all=True, filters={"label": label}, ignore_removed=True
        )
        return found

    def count_foreign(self) -> int:
        """How many running containers are not this Machine's."""
        running = self.client.containers.list(ignore_removed=True)
        return sum(1 for each in running if each.labels.get(LABEL) != self._machine)

    def create(self, image_id: bytes, command: list[str], settings: dict[str, Any]) -> Container:
        """Create a container of this Machine. Raises EngineFailed."""
        try:
            return self.client.containers.create(
                image_name(image_id), command, labels={LABEL: self._machine}, **settings
            )
        except (DockerException, OSError) as error:
            raise EngineFailed(f"the engine refused the container: {error}") from error

    def remove_own(self) -> int:
        """Kill and remove every container of this Machine; how many there were."""
        containers = self.own()
        for container in containers:
            with contextlib.suppress(NotFound):
                container.remove(force=True, v=True)
        return len(containers)

    def close(self) -> None:
        """Drop the connection."""
        self.client.close()


def image_name(image_id: bytes) -> str:
    """The engine's name of an image ID (32 bytes)."""
    return "sha256:" + image_id.hex()
