"""``sealrun capsule``: seal a file or function, look at a Capsule, open one's own."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from agent.formats.capsule import CapsuleHeader, Kind, SealedCapsule
from agent.formats.capsule import inspect as inspect_capsule
from agent.formats.cid import digest_of
from nodeclient.capsules.keys import load_key
from nodeclient.capsules.open import open_file
from nodeclient.capsules.open import open_folder as unpack_folder
from nodeclient.capsules.seal import seal_path
from nodeclient.commands.output import Json, counted, show
from nodeclient.commands.output import NodeFolder as NodeOption
from nodeclient.commands.permit import permit
from nodeclient.errors import BadInput
from nodeclient.identity.folder import NodeFolder, open_folder

app = typer.Typer(
    help="Seal, permit, inspect and open capsules.", no_args_is_help=True, add_completion=False
)
app.command("permit")(permit)
CID = typer.Argument(help="CID of the capsule: bafkrei….")
NODE = Path("node")


class SealKind(StrEnum):
    """What a person seals; results are sealed inside the Machine."""

    DATA = "data"
    FUNCTION = "function"


@app.command()
def seal(
    path: Annotated[Path, typer.Argument(exists=True, help="A file, or a function's folder.")],
    kind: Annotated[SealKind, typer.Option(help="What it is.")] = SealKind.DATA,
    node: NodeOption = NODE,
    as_json: Json = False,
) -> None:
    """Seal a file or function into the node's store; its key never leaves the node unsealed."""
    opened = open_folder(node)
    sealed = seal_with_progress(opened, path, Kind[kind.name])
    show(
        {
            "cid": sealed.cid,
            "kind": kind.value,
            "digest": f"0x{sealed.digest.hex()}",
            "bytes": sealed.size,
            "owner_key": f"0x{opened.root.public_key().hex()}",
        },
        as_json,
    )


def seal_with_progress(opened: NodeFolder, path: Path, kind: Kind) -> SealedCapsule:
    """Seal ``path`` with a progress bar on stderr. Raises CapsuleFileError, StoreError."""
    total = path.stat().st_size if kind is Kind.DATA else None
    with counted(f"sealing {path.name}", total) as advance:
        return seal_path(
            path, kind, root=opened.root, store=opened.store, vault=opened.vault, progress=advance
        )


@app.command()
def inspect(cid: Annotated[str, CID], node: NodeOption = NODE, as_json: Json = False) -> None:
    """Show what a capsule's header says; nothing is opened and no key is needed."""
    opened = open_folder(node)
    header = _header(opened, cid)
    here = sum(opened.store.has(chunk) for chunk in header.chunks)
    show(
        {
            "cid": cid,
            "kind": header.kind.name.lower(),
            "bytes": header.size,
            "chunks": len(header.chunks),
            "chunks_here": here,
            "owner_key": f"0x{header.owner.hex()}",
            "own": header.owner == opened.root.public_key(),
        },
        as_json,
    )


@app.command("open")
def open_(
    cid: Annotated[str, CID],
    target: Annotated[Path, typer.Argument(help="New file, or new folder of a function.")],
    node: NodeOption = NODE,
    as_json: Json = False,
) -> None:
    """Open a capsule that this node sealed. The target appears only when all of it is checked."""
    opened = open_folder(node)
    header = _header(opened, cid)
    if header.kind is Kind.RESULT:
        raise BadInput(
            f"{cid} is a result, which its task opens", "run: sealrun task results ID --out FOLDER"
        )
    _open(opened, cid, header, target)
    show({"cid": cid, "path": str(target), "bytes": header.size}, as_json)


def _header(opened: NodeFolder, cid: str) -> CapsuleHeader:
    digest_of(cid)  # a mistyped CID is the person's, a missing block may be the store's
    return inspect_capsule(cid, opened.store.get)


def _open(opened: NodeFolder, cid: str, header: CapsuleHeader, target: Path) -> None:
    key = load_key(opened.root, opened.vault, cid)
    owner = opened.root.public_key()
    get = opened.store.get
    with counted(f"opening {target.name}", header.size) as advance:
        if header.kind is Kind.DATA:
            open_file(cid, target, get=get, content_key=key, expect_owner=owner, progress=advance)
        else:
            unpack_folder(
                cid,
                target,
                get=get,
                content_key=key,
                kind=header.kind,
                expect_owner=owner,
                progress=advance,
            )
