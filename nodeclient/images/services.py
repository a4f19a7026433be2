"""The containers of this Pi's services, as its engine knows them: by label, named by image ID.

Only containers with the project's label are looked at and stopped: what else an operator runs on
the Pi is none of the Node's business.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound

from nodeclient.images.engine import DEFAULT_SOCKET, check_image_store
from nodeclient.images.errors import EngineError

PROJECT, SERVICE = "sealrun.project", "sealrun.service"  # labels
GRACE_SECONDS = 3  # until SIGKILL: two blocks of the quickest chain in use (2 s) must be enough
ENGINE_SECONDS = 30
MAX_NAME = 40
_OVER = ("exited", "dead", "created", "removing")  # states of a container in which nothing runs
_NEVER: Any = {"Name": "no"}
_ID = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class RunningService:
    """A container that runs: what its label calls it, the engine's ID of it, its image's ID."""

    name: str
    container: str
    image: bytes


class ServiceEngine:
    """`socket` of the engine, `project`: value of the label that our services carry."""

    def __init__(self, project: str, socket: Path = DEFAULT_SOCKET) -> None:
        self._project, self._socket = project, socket

    def running(self) -> tuple[RunningService, ...]:
        """All that run, also paused or restarting, by name. Raises EngineError."""
        with self._client() as client:
            check_image_store(client)
            found = client.containers.list(
                filters={"label": f"{PROJECT}={self._project}"}, ignore_removed=True
            )
            services = [
                RunningService(
                    _name(str(each.labels.get(SERVICE) or each.name)),
                    str(each.id),
                    _image(each.attrs.get("Image")),
                )
                for each in found
            ]
        return tuple(sorted(services, key=lambda each: (each.name, each.container)))

    def stop(self, container: str) -> None:
        """Stop a container and see to it that the engine does not start it again by itself.

        Raises EngineError if it runs on. Harmless twice.
        """
        with self._client() as client:
            try:
                found = client.containers.get(container)
                with contextlib.suppress(APIError):  # what refuses is removed below
                    # A restart policy would bring it back when the engine starts anew.
                    found.update(restart_policy=_NEVER)
                    found.stop(timeout=GRACE_SECONDS)
                found.reload()
                if found.status not in _OVER:
                    found.remove(force=True)
            except NotFound:
                return

    @contextlib.contextmanager
    def _client(self) -> Iterator[docker.DockerClient]:
        try:
            client = docker.DockerClient(base_url=f"unix://{self._socket}", timeout=ENGINE_SECONDS)
        except DockerException as error:
            raise EngineError(
                "no Docker engine answers; start it: systemctl start docker"
            ) from error
        try:
            yield client
        except (DockerException, OSError) as error:
            raise EngineError(f"the engine refuses ({error}); look at its log") from error
        finally:
            client.close()


def _name(text: str) -> str:
    """A label is whatever somebody wrote into it."""
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_NAME]) or "?"


def _image(text: object) -> bytes:
    """32 bytes; none where the engine names no image, which nothing approves."""
    if isinstance(text, str) and _ID.fullmatch(text):
        return bytes.fromhex(text.removeprefix("sha256:"))
    return bytes(32)
