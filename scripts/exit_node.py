"""Take a Node out of the network; its Deposit can leave after unbonding (`withdraw`)."""

from __future__ import annotations

from pathlib import Path

import click
from ape.api import AccountAPI, ProviderAPI
from ape.cli import ConnectedProviderCommand, account_option

from nodeclient.chain import registry
from nodeclient.chain.registry import NodeRegistry
from nodeclient.chain.rpc import Rpc
from scripts._common import (
    deployment_option,
    json_option,
    load_deployment,
    quiet_option,
    receipt_fields,
    reporting,
    show,
    with_rpc,
)
from scripts._node import node_fields
from scripts._signer import node_option, signer_for


@click.command(cls=ConnectedProviderCommand)
@account_option()
@node_option
@deployment_option
@json_option
@quiet_option
@reporting
def cli(
    account: AccountAPI,
    provider: ProviderAPI,
    node_folder: Path | None,
    deployment_path: Path | None,
    as_json: bool,
) -> None:
    """Start unbonding of the signing account's Node."""
    deployment = load_deployment(provider, deployment_path)
    signer = signer_for(account, provider, deployment, node_folder)
    receipt = signer.execute(registry.leave("exit"))

    async def free_at(rpc: Rpc) -> int:
        return await NodeRegistry(rpc, deployment).exit_at(signer.address)

    fields = node_fields(provider, deployment, signer.address, as_json=as_json)
    fields["deposit_free_at_block"] = with_rpc(provider, free_at)
    show("Leaving", {**fields, **receipt_fields(receipt)}, as_json=as_json)
