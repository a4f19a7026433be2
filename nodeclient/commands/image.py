"""``sealrun image``: build images, check them, publish and fetch them by CID."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from nodeclient.commands.output import Json, NodeFolder, say, show, working
from nodeclient.config.node import load_config
from nodeclient.control.client import ControlClient
from nodeclient.errors import BadInput, DaemonAbsent
from nodeclient.identity.folder import open_store
from nodeclient.images.boot.keep import build_boot, check_files
from nodeclient.images.build import build_runtime
from nodeclient.images.engine import ensure_engine
from nodeclient.images.eraser.build import build_eraser
from nodeclient.images.errors import ImageError
from nodeclient.images.load import load_image
from nodeclient.images.parts import publish as publish_image
from nodeclient.images.service.build import build_service
from nodeclient.images.verify import verify_image

app = typer.Typer(
    help="Build, verify, publish and fetch images.", no_args_is_help=True, add_completion=False
)
BUILD = Path(".build")
FETCH_SECONDS = 3600.0  # 40 MB take seconds, 8 GiB over a slow line an hour


class Kind(StrEnum):
    """What an image is for: a function's surroundings, the node's own services, what a Machine
    boots, what erases it."""

    RUNTIME = "runtime"
    SERVICE = "service"
    BOOT = "boot"
    ERASER = "eraser"


@app.command()
def build(
    kind: Annotated[Kind, typer.Argument(help="Which image.")] = Kind.RUNTIME,
    folder: Annotated[
        Path, typer.Option(help="Where built images are kept.", file_okay=False)
    ] = BUILD / "images",
    load: Annotated[
        bool, typer.Option(help="Load a runtime or service image into Docker here.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Build an image from its lock; the same lock gives the same ID everywhere."""
    if kind in (Kind.BOOT, Kind.ERASER):
        builder = build_boot if kind is Kind.BOOT else build_eraser
        with working(f"building the {kind} image"):
            boot = builder(folder / "boot", say)
        show({"image": f"0x{boot.image_id.hex()}", "path": str(boot.path)}, as_json)
        return
    with working(f"building the {kind} image"):
        built = (build_runtime if kind is Kind.RUNTIME else build_service)(folder, say)
    if load:
        ensure_engine(BUILD / "engine", say)
        load_image(built.path)
    result = {"image": f"0x{built.image_id.hex()}", "path": str(built.path), "loaded": load}
    show(result, as_json)


@app.command()
def publish(
    path: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An image tar.")],
    node: NodeFolder = Path("node"),
    as_json: Json = False,
) -> None:
    """Put a verified image into the node's block store; its peers can fetch it by the CID."""
    store = open_store(node)
    with working("checking and storing the image"), store.batch() as put:
        cid, image_id = publish_image(path, put)
    show({"cid": cid, "image": f"0x{image_id.hex()}"}, as_json)


@app.command()
def fetch(
    cid: Annotated[str, typer.Argument(help="CID that its publisher got.")],
    node: NodeFolder = Path("node"),
    as_json: Json = False,
) -> None:
    """Fetch an image by CID, check it against the chain, and load it.

    The node's daemon does it. Where none runs, and where it may be in a container (services.guard
    is "apart"), this command does.
    """
    apart = load_config(node).services.guard == "apart"
    with working("fetching and checking the image"):
        show(_fetch_here(node, cid) if apart else _fetch(node, cid), as_json)


def _fetch(node: Path, cid: str) -> Mapping[str, Any]:
    try:
        brought: Mapping[str, Any] = ControlClient(node, FETCH_SECONDS).post(
            "/v1/images", {"cid": cid}
        )
    except DaemonAbsent:
        return _fetch_here(node, cid)
    return brought


def _fetch_here(node: Path, cid: str) -> Mapping[str, Any]:
    import asyncio  # these imports cost a second: only where needed

    from nodeclient.upkeep.fetching import fetch_here

    return asyncio.run(fetch_here(node, cid)).shown()


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(exists=True, help="An image tar or folder.")],
    expect: Annotated[str | None, typer.Option(help="The image ID it must have.")] = None,
    as_json: Json = False,
) -> None:
    """Check every part of an image and print the image ID it has."""
    try:
        with working("checking the image"):
            image_id = check_files(path).image_id if path.is_dir() else verify_image(path)
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
