"""Take out what is free: refunds, a Node's fees, and the Deposit of a Node that has left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from ape.api import AccountAPI, ProviderAPI
from ape.cli import ConnectedProviderCommand, account_option

from nodeclient.chain import market, registry
from nodeclient.chain.market import TaskMarket
from nodeclient.chain.registry import NodeRegistry
from nodeclient.chain.rpc import Rpc
from nodeclient.core.types import Address, NodeStatus
from nodeclient.errors import BadInput
from nodeclient.ports import Order
from scripts._common import (
    deployment_option,
    ether,
    json_option,
    load_deployment,
    quiet_option,
    reporting,
    show,
    with_rpc,
)
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
    """Pay out everything that the contracts owe to the signing account now."""
    deployment = load_deployment(provider, deployment_path)
    signer = signer_for(account, provider, deployment, node_folder)

    async def look(rpc: Rpc) -> list[tuple[str, Order, int]]:
        return await _due(
            NodeRegistry(rpc, deployment), TaskMarket(rpc, deployment), signer.address
        )

    due = with_rpc(provider, look)
    if not due:
        raise BadInput(
            "nothing can be withdrawn now", "settle a task, or exit and wait for unbonding"
        )
    paid: dict[str, Any] = {}
    for what, order, amount in due:
        receipt = signer.execute(order)
        paid[what] = str(amount) if as_json else ether(amount)
        paid[f"{what}_tx"] = "0x" + receipt.tx_hash.hex()
    show("Withdrawn", paid, as_json=as_json)


async def _due(
    nodes: NodeRegistry, tasks: TaskMarket, who: Address
) -> list[tuple[str, Order, int]]:
    """(what, order, wei) for everything that can be taken out. The contracts decide in the end."""
    due = []
    owed = await tasks.owed(who)
    if owed:
        due.append(("owed", market.withdraw("withdraw"), owed))
    node = await nodes.node(who)
    leaving = node is not None and node.status in (NodeStatus.EXITING, NodeStatus.BARRED)
    if node is not None and leaving and node.deposit:
        due.append(("deposit", registry.withdraw_deposit("withdraw-deposit"), node.deposit))
    return due
