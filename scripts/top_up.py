"""Add to a Node's Deposit."""

from __future__ import annotations

from pathlib import Path

import click
from ape.api import AccountAPI, ProviderAPI
from ape.cli import ConnectedProviderCommand, account_option

from nodeclient.chain import registry
from scripts._common import (
    Amount,
    deployment_option,
    json_option,
    load_deployment,
    quiet_option,
    receipt_fields,
    reporting,
    show,
)
from scripts._node import node_fields
from scripts._signer import node_option, signer_for


@click.command(cls=ConnectedProviderCommand)
@account_option()
@node_option
@click.option("--amount", type=Amount(), required=True, help="For example 1 (ether).")
@deployment_option
@json_option
@quiet_option
@reporting
def cli(
    account: AccountAPI,
    provider: ProviderAPI,
    node_folder: Path | None,
    amount: int,
    deployment_path: Path | None,
    as_json: bool,
) -> None:
    """Add to the Deposit of the signing account's Node."""
    deployment = load_deployment(provider, deployment_path)
    signer = signer_for(account, provider, deployment, node_folder)
    receipt = signer.execute(registry.top_up("top-up", amount))
    fields = node_fields(provider, deployment, signer.address, as_json=as_json)
    show("Deposit raised", {**fields, **receipt_fields(receipt)}, as_json=as_json)
