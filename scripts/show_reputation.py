"""Reputation, Deposit and earnings of all Nodes, or of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from ape.api import ProviderAPI
from ape.cli import ConnectedProviderCommand
from eth_utils.address import to_checksum_address
from rich.console import Console
from rich.table import Table

from nodeclient.chain.deployment import Deployment
from nodeclient.chain.registry import NodeRegistry
from nodeclient.chain.reputation import ReputationLedger
from nodeclient.chain.rpc import Rpc
from nodeclient.core.types import Address
from nodeclient.errors import BadInput
from scripts._common import (
    HexBytes,
    deployment_option,
    ether,
    json_option,
    load_deployment,
    quiet_option,
    reporting,
    with_rpc,
)


@click.command(cls=ConnectedProviderCommand)
@click.option("--account", "only", type=HexBytes(20), help="Only this Node's account.")
@deployment_option
@json_option
@quiet_option
@reporting
def cli(
    provider: ProviderAPI,
    only: bytes | None,
    deployment_path: Path | None,
    as_json: bool,
) -> None:
    """Show what the Nodes have earned. Reputation: 0 to 10,000 basis points."""
    deployment = load_deployment(provider, deployment_path)

    async def look(rpc: Rpc) -> list[dict[str, Any]]:
        return await _rows(rpc, deployment, None if only is None else Address(only))

    rows = with_rpc(provider, look)
    if as_json:
        click.echo(json.dumps({"nodes": rows}))
        return
    table = Table("id", "account", "status", "deposit", "reputation", "fees", title="Nodes")
    for row in rows:
        table.add_row(
            str(row["id"]),
            row["account"],
            row["status"],
            ether(int(row["deposit"])),
            f"{row['reputation'] / 100:.2f} %",
            ether(int(row["credit"])),
        )
    console = Console()
    # Piped into a file, rich assumes 80 columns and cuts the addresses.
    Console(width=console.width if console.is_terminal else 140).print(table)


async def _rows(rpc: Rpc, deployment: Deployment, only: Address | None) -> list[dict[str, Any]]:
    """One row per Node. Amounts in wei as text: JSON numbers are not exact beyond 2^53."""
    registry = NodeRegistry(rpc, deployment)
    ledger = ReputationLedger(rpc, deployment)
    rows = []
    for account in await registry.accounts() if only is None else [only]:
        node = await registry.node(account)
        if node is None:
            raise BadInput("this account is no Node", "check the address, or leave --account out")
        rows.append(
            {
                "id": node.id,
                "account": to_checksum_address(account),
                "status": node.status.name,
                "deposit": str(node.deposit),
                "reputation": await ledger.reputation(account),
                "credit": str(await ledger.credit(account)),
            }
        )
    return rows
