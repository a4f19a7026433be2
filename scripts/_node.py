"""The part of a result that describes a Node."""

from __future__ import annotations

from typing import Any

from ape.api import ProviderAPI
from eth_utils.address import to_checksum_address

from nodeclient.chain.deployment import Deployment
from nodeclient.chain.registry import NodeRegistry
from nodeclient.chain.rpc import Rpc
from nodeclient.core.types import Address, NodeRecord
from nodeclient.errors import ChainUnavailable
from scripts._common import ether, with_rpc


def fetch_node(provider: ProviderAPI, deployment: Deployment, account: Address) -> NodeRecord:
    """The Node of an account. Raises `ChainUnavailable`."""

    async def look(rpc: Rpc) -> NodeRecord | None:
        return await NodeRegistry(rpc, deployment).node(account)

    record = with_rpc(provider, look)
    if record is None:
        raise ChainUnavailable("the registry does not show the Node", "look again in a block")
    return record


def node_fields(
    provider: ProviderAPI, deployment: Deployment, account: Address, *, as_json: bool
) -> dict[str, Any]:
    """Id, account, status and Deposit; wei as text in JSON, ether for people."""
    record = fetch_node(provider, deployment, account)
    return {
        "id": record.id,
        "account": to_checksum_address(account),
        "status": record.status.name,
        "deposit": str(record.deposit) if as_json else ether(record.deposit),
    }
