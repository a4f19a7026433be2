"""Load a verified image into the engine, by ID and never by tag."""

from pathlib import Path

import docker
from docker.errors import DockerException, ImageNotFound

from nodeclient.images.engine import DEFAULT_SOCKET, check_image_store
from nodeclient.images.errors import EngineError, ImageError
from nodeclient.images.verify import verify_image

LOAD_SECONDS = 120


def load_image(path: Path, socket: Path = DEFAULT_SOCKET) -> bytes:
    """Load the image tar at ``path`` unless the engine has it; return its ID (32 bytes).

    Raises `ImageError` if the tar does not verify or the engine ends up with something else, and
    `EngineError` if no engine answers, or one whose IDs are others.
    """
    image_id = verify_image(path)
    try:
        client = docker.DockerClient(base_url=f"unix://{socket}", timeout=LOAD_SECONDS)
    except DockerException as error:
        raise EngineError("no Docker engine answers; start it: systemctl start docker") from error
    try:
        check_image_store(client)
        if not has_image(client, image_id):
            with path.open("rb") as tar:
                client.images.load(tar)
        if not has_image(client, image_id):
            raise ImageError(f"the engine did not take {path.name}; build it again")
    except (DockerException, OSError) as error:
        raise ImageError(f"the engine cannot load {path.name} ({error}); read its log") from error
    finally:
        client.close()
    return image_id


def has_image(client: docker.DockerClient, image_id: bytes) -> bool:
    """Say whether the engine holds exactly this image."""
    name = "sha256:" + image_id.hex()
    try:
        return bool(client.images.get(name).id == name)
    except ImageNotFound:
        return False
