"""The base of the contract wrappers: one typed question to one contract."""

from __future__ import annotations

from typing import Any

from eth_utils.address import to_checksum_address

from nodeclient.chain.calls import plain
from nodeclient.chain.deployment import Deployed, Deployment
from nodeclient.chain.errors import CallReverted, RpcRefused
from nodeclient.chain.reverts import is_revert, reason_of
from nodeclient.chain.rpc import Rpc, blob
from nodeclient.core.types import Address


class Contract:
    """A deployed contract seen through an RPC. Every view may raise `ChainUnavailable`."""

    NAME = ""

    def __init__(self, rpc: Rpc, deployment: Deployment, *, at: int | None = None) -> None:
        """`at` fixes the block whose state is asked for; None is the latest.

        Raises `DeploymentInvalid` when the deployment has no such contract.
        """
        self._rpc = rpc
        self._deployed: Deployed = deployment[self.NAME]
        self._block = "latest" if at is None else hex(at)

    @property
    def address(self) -> Address:
        """Where it stands."""
        return self._deployed.address

    async def view(self, name: str, *args: object) -> Any:
        """Call a view; a single return value is unwrapped.

        Raises `CallReverted`, `AbiMismatch`, `ChainUnavailable`.
        """
        function = self._deployed.interface.function(name, len(args))
        request = {
            "to": to_checksum_address(self.address),
            "data": "0x" + function.encode([plain(arg) for arg in args]).hex(),
        }
        try:
            answer = await self._rpc.request("eth_call", [request, self._block])
        except RpcRefused as error:
            if is_revert(error):
                raise CallReverted(f"{self.NAME}.{name}", reason_of(error)) from error
            raise
        values = function.decode(blob(answer))
        return values[0] if len(values) == 1 else values
