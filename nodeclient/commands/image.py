"""``sealrun image``: build runtime images and check them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodeclient.commands.output import Json, say, show, working
from nodeclient.errors import BadInput
from nodeclient.images.build import build_runtime
from nodeclient.images.engine import ensure_engine
from nodeclient.images.errors import ImageError
from nodeclient.images.load import load_image
from nodeclient.images.verify import verify_image

app = typer.Typer(help="Build and verify runtime images.", no_args_is_help=True)
BUILD = Path(".build")


@app.command()
def build(
    folder: Annotated[
        Path, typer.Option(help="Where built images are kept.", file_okay=False)
    ] = BUILD / "images",
    load: Annotated[bool, typer.Option(help="Load it into the Docker engine here.")] = True,
    as_json: Json = False,
) -> None:
    """Build the runtime image from its lock; the same lock gives the same ID everywhere."""
    with working("building the runtime image"):
        built = build_runtime(folder, say)
    if load:
        ensure_engine(BUILD / "engine", say)
        load_image(built.path)
    result = {"image": f"0x{built.image_id.hex()}", "path": str(built.path), "loaded": load}
    show(result, as_json)


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An image tar.")],
    expect: Annotated[str | None, typer.Option(help="The image ID it must have.")] = None,
    as_json: Json = False,
) -> None:
    """Check every blob of an image tar and print the image ID it has."""
    try:
        with working("checking the image"):
            image_id = verify_image(path)
    except ImageError as error:
        raise BadInput(str(error), "build it again or refuse it") from error
    if expect is not None and image_id != image_bytes(expect):
        raise BadInput(
            f"{path.name} is image 0x{image_id.hex()}, not {expect}", "build it again or refuse it"
        )
    show({"image": f"0x{image_id.hex()}", "path": str(path), "verified": True}, as_json)


def image_bytes(text: str) -> bytes:
    """32 bytes of an image ID written as 0x… or sha256:…. Raises `BadInput`."""
    digits = text.removeprefix("sha256:").removeprefix("0x")
    try:
        value = bytes.fromhex(digits)
    except ValueError:
        value = b""
    if len(value) != 32 or len(digits) != 64:
        raise BadInput(
            f"{text[:80]!r} is no image ID", "give 64 hexadecimal digits behind 0x or sha256:"
        )
    return value
