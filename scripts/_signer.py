"""Whose transaction is it? The contracts take the sender for the Node.

Either the Ape account *is* the Node's account, or `--node FOLDER` names a Node whose own sealed
account signs, and the Ape account only pays what is missing there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import click
from ape.api import AccountAPI, ProviderAPI
from eth_utils.address import to_checksum_address

from nodeclient.chain.calls import Call
from nodeclient.chain.deployment import Deployment
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.rpc import Rpc
from nodeclient.chain.sender import Sender
from nodeclient.core.types import Address
from nodeclient.ports import Order, Receipt
from scripts._common import address_of, execute, send, unattended, with_rpc

GAS_MONEY = 10**17
"""Wei for gas that a Node's account gets on top: about a hundred tasks at 10 gwei."""

node_option = click.option(
    "--node",
    "node_folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Node folder whose own account signs; --account then only funds it.",
)


class Signer(Protocol):
    """Sends orders as one account."""

    address: Address

    def execute(self, order: Order) -> Receipt:
        """Send and wait. Raises `Reverted`, `ChainUnavailable` or an `ApeException`."""


class ApeSigner:
    """The Ape account itself."""

    def __init__(self, account: AccountAPI, deployment: Deployment) -> None:
        self._account = account
        self._deployment = deployment
        self.address = address_of(account)

    def execute(self, order: Order) -> Receipt:
        """See `Signer`."""
        return execute(self._account, self._deployment, order)


class NodeSigner:
    """A Node's sealed account, funded by an Ape account when it holds too little."""

    def __init__(
        self, folder: Path, funder: AccountAPI, provider: ProviderAPI, deployment: Deployment
    ) -> None:
        """Raises `ConfigError`, `RootError` or `KeysError` when the folder cannot be opened."""
        from nodeclient.identity.folder import open_folder  # costs a second: only where needed

        keys = open_folder(folder).load_keys()
        self._key = keys.account
        self._funder = funder
        self._provider = provider
        self._deployment = deployment
        self.address = Address(keys.address)

    def execute(self, order: Order) -> Receipt:
        """See `Signer`."""
        balance = int(self._provider.get_balance(to_checksum_address(self.address)))
        missing = order.value + GAS_MONEY - balance
        if missing > GAS_MONEY // 2:
            send(unattended(self._funder), Call("funding", self.address, b"", missing))

        async def work(rpc: Rpc) -> Receipt:
            journal = SqliteJournal(":memory:")
            return await Sender(rpc, self._deployment, journal, self._key).execute(order)

        return with_rpc(self._provider, work)


def signer_for(
    account: AccountAPI, provider: ProviderAPI, deployment: Deployment, node_folder: Path | None
) -> Signer:
    """The Node's own account when a folder is given, else the Ape account."""
    if node_folder is None:
        return ApeSigner(account, deployment)
    return NodeSigner(node_folder, account, provider, deployment)
