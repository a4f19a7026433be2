"""Check an image tar before any engine sees it."""

from pathlib import Path

from agent.formats.image import ImageTarError, check_image_tar
from nodeclient.images.errors import ImageError


def verify_image(path: Path) -> bytes:
    """Return the image ID (32 bytes) of the tar at ``path``, every blob of it checked.

    Raises `ImageError` if the tar is not exactly one untagged image whose blobs match its ID.
    """
    try:
        return check_image_tar(path)
    except ImageTarError as error:
        raise ImageError(f"{path.name}: {error}") from error
