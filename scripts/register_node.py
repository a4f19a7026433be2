"""Register a Node with its Deposit, from the `registration.json` of its folder."""

from __future__ import annotations

from pathlib import Path

import click
from ape.api import AccountAPI, ProviderAPI
from ape.cli import ConnectedProviderCommand, account_option

from nodeclient.chain import registration as registrations
from nodeclient.chain import registry
from nodeclient.chain.deployment import Deployment
from nodeclient.core.registration import Registration
from nodeclient.errors import BadInput
from scripts._common import (
    Amount,
    address_of,
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
@click.option(
    "--node",
    "node_folder",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Node folder with registration.json.",
)
@click.option("--deposit", type=Amount(), required=True, help="For example 1 (ether).")
@click.option("--join/--no-join", default=True, help="Whether the Node may be drawn.")
@deployment_option
@json_option
@quiet_option
@reporting
def cli(
    account: AccountAPI,
    provider: ProviderAPI,
    node_folder: Path,
    deposit: int,
    join: bool,
    deployment_path: Path | None,
    as_json: bool,
) -> None:
    """Register the Node of a folder. If --account is not the Node's own account, it funds it."""
    deployment = load_deployment(provider, deployment_path)
    found = registrations.load(node_folder / registrations.FILE_NAME)
    _check(found, deployment)
    own = address_of(account) == found.account
    signer = signer_for(account, provider, deployment, None if own else node_folder)
    if signer.address != found.account:
        raise BadInput(
            "registration.json names another account than the folder's keys",
            "run `sealrun node init` again in a new folder",
        )
    order = registry.register("register", found, deposit, join=join)
    receipt = signer.execute(order)
    fields = node_fields(provider, deployment, found.account, as_json=as_json)
    show("Registered", {**fields, **receipt_fields(receipt)}, as_json=as_json)


def _check(found: Registration, deployment: Deployment) -> None:
    """A registration counts on one chain and one registry only. Raises `BadInput`."""
    expected = deployment.chain_id, deployment["NodeRegistry"].address
    if (found.chain_id, found.registry) != expected:
        raise BadInput(
            "registration.json was signed for another chain or registry",
            "run `sealrun node init` with this network's deployment file",
        )
