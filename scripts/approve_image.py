"""Approve or revoke an image in the `ImageRegistry` (its owner only)."""

from __future__ import annotations

from pathlib import Path

import click
from ape.api import AccountAPI, ProviderAPI
from ape.cli import ConnectedProviderCommand, account_option

from nodeclient.chain import images
from nodeclient.chain.images import ImageKind, ImageRecord, ImageRegistry
from nodeclient.chain.reader import Reader
from nodeclient.chain.rpc import Rpc
from nodeclient.errors import ChainUnavailable
from scripts._common import (
    HexBytes,
    deployment_option,
    execute,
    json_option,
    load_deployment,
    quiet_option,
    receipt_fields,
    reporting,
    show,
    with_rpc,
)

DAY = 24 * 3600
KINDS = {kind.name.lower(): kind for kind in ImageKind}


@click.command(cls=ConnectedProviderCommand)
@account_option()
@click.argument("image", type=HexBytes(32))
@click.option("--kind", type=click.Choice(list(KINDS)), default="runtime", show_default=True)
@click.option(
    "--commit", type=HexBytes(20), default=bytes(20), help="Source commit it was built from."
)
@click.option(
    "--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="Valid so long."
)
@click.option("--revoke", is_flag=True, help="Revoke at once instead.")
@deployment_option
@json_option
@quiet_option
@reporting
def cli(
    account: AccountAPI,
    provider: ProviderAPI,
    image: bytes,
    kind: str,
    commit: bytes,
    days: int,
    revoke: bool,
    deployment_path: Path | None,
    as_json: bool,
) -> None:
    """Approve IMAGE, 32 bytes in hex: for a runtime image Docker's image ID (sha256:…)."""
    deployment = load_deployment(provider, deployment_path)

    async def now(rpc: Rpc) -> int:
        return (await Reader(rpc, deployment).head()).timestamp

    if revoke:
        order = images.revoke("revoke", image)
    else:
        # The chain's clock, not this machine's: the contract compares with the block's.
        start = with_rpc(provider, now)
        order = images.approve("approve", image, KINDS[kind], commit, start, start + days * DAY)
    receipt = execute(account, deployment, order)

    async def look(rpc: Rpc) -> tuple[ImageRecord | None, bool]:
        contract = ImageRegistry(rpc, deployment)
        found = await contract.image(image)
        return found, found is not None and await contract.is_approved(image, found.kind)

    record, approved = with_rpc(provider, look)
    if record is None:
        raise ChainUnavailable("the registry does not show the image", "look again in a block")
    fields = {
        "image": "0x" + image.hex(),
        "kind": record.kind.name,
        "approved_now": approved,
        "effective_at": record.effective_at,
        "not_after": record.not_after,
        "revoked": record.revoked,
    }
    show("Image", {**fields, **receipt_fields(receipt)}, as_json=as_json)
