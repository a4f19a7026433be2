"""Admit a PENDING Node by the bootstrap admitter's word, or give that power up for good.

Whoever calls this has checked the hardware: the ledger does not. After `--renounce` only votes do.
"""

from __future__ import annotations

from pathlib import Path

import click
from ape.api import AccountAPI, ProviderAPI
from ape.cli import ConnectedProviderCommand, account_option

from nodeclient.chain import admission
from nodeclient.chain.rpc import blob
from nodeclient.core.types import Address
from nodeclient.errors import BadInput, ChainUnavailable
from scripts._common import (
    deployment_option,
    json_option,
    load_deployment,
    quiet_option,
    receipt_fields,
    reporting,
    show,
)
from scripts._node import node_fields
from scripts._signer import signer_for


@click.command(cls=ConnectedProviderCommand)
@account_option()
@click.option("--candidate", help="Account of the PENDING node: 0x….")
@click.option("--maker", help="Digest of who made its root, 32 bytes: 0x….")
@click.option("--renounce", is_flag=True, help="Give the power up, for good.")
@deployment_option
@json_option
@quiet_option
@reporting
def cli(
    account: AccountAPI,
    provider: ProviderAPI,
    candidate: str | None,
    maker: str | None,
    renounce: bool,
    deployment_path: Path | None,
    as_json: bool,
) -> None:
    """Admit a node with a TPM or a Zymkey; only until the bootstrap admitter renounces."""
    deployment = load_deployment(provider, deployment_path)
    signer = signer_for(account, provider, deployment, None)
    if renounce:
        receipt = signer.execute(admission.renounce("renounce"))
        show("Nobody admits without a vote any more", receipt_fields(receipt), as_json=as_json)
        return
    if candidate is None or maker is None:
        raise BadInput("nobody to admit", "give --candidate and --maker, or --renounce")
    try:
        who, made_by = Address(blob(candidate, 20)), blob(maker, 32)
    except ChainUnavailable as error:
        raise BadInput("not an account or not a digest", "write both as 0x…") from error
    receipt = signer.execute(admission.admit_bootstrap("admit", who, made_by))
    fields = node_fields(provider, deployment, who, as_json=as_json)
    show("Node admitted", {**fields, **receipt_fields(receipt)}, as_json=as_json)
