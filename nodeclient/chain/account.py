"""One account as the RPC sees it: simulation, nonces, receipts, and the way into the mempool."""

from __future__ import annotations

from typing import Any

from eth_utils.address import to_checksum_address

from nodeclient.chain.attempts import Attempts
from nodeclient.chain.calls import Call
from nodeclient.chain.errors import ChainUnavailable, OrderReverted, RpcRefused
from nodeclient.chain.reverts import is_revert, reason_of
from nodeclient.chain.rpc import Rpc, quantity

MAX_GAS = 1 << 24
"""EIP-7825: no transaction above 16,777,216 gas since osaka."""


class Account:
    """Questions about `address` (checksummed). Every method may raise `ChainUnavailable`."""

    def __init__(self, rpc: Rpc, address: str) -> None:
        self._rpc = rpc
        self.address = address

    async def gas_limit(self, call: Call) -> int:
        """The gas limit for a call on top of the pending block.

        Raises `Reverted` when the EVM says no.
        """
        try:
            answer = await self._rpc.request("eth_estimateGas", [self._request(call), "pending"])
        except RpcRefused as error:
            if is_revert(error):
                raise OrderReverted(call.label, reason_of(error)) from error
            raise
        # A fifth more: cold slots may differ between the simulated and the real block.
        estimate = quantity(answer)
        return min(estimate + estimate // 5 + 10_000, MAX_GAS)

    async def why_failed(self, call: Call, block: int) -> str:
        """The reason of a mined failure, by a replay on the state after its block."""
        try:
            await self._rpc.request("eth_call", [self._request(call), hex(block)])
        except RpcRefused as error:
            if is_revert(error):
                return reason_of(error)
        return "the mined transaction failed"

    async def broadcast(self, raw: bytes) -> bool:
        """Send; False when the nonce is used up. Sending the same bytes twice is harmless.

        Raises `RpcRefused` when the endpoint takes it for another reason not (funds, fees).
        """
        try:
            await self._rpc.request("eth_sendRawTransaction", ["0x" + raw.hex()])
        except RpcRefused as error:
            words = error.reason.lower()
            if "nonce too low" in words:
                return False
            if "already" in words or "known" in words or "replacement" in words:
                return True  # it, or a competitor with the same nonce, waits in the mempool
            raise
        return True

    async def receipt(self, made: Attempts) -> dict[str, Any] | None:
        """The receipt of whichever attempt was mined."""
        for tx_hash in made.hashes:
            answer = await self._rpc.request("eth_getTransactionReceipt", ["0x" + tx_hash.hex()])
            if isinstance(answer, dict):
                return answer
        return None

    async def is_known(self, made: Attempts) -> bool:
        """Whether the endpoint holds any of the attempts, mined or waiting."""
        for tx_hash in made.hashes:
            if await self._rpc.request("eth_getTransactionByHash", ["0x" + tx_hash.hex()]):
                return True
        return False

    async def is_used(self, nonce: int) -> bool:
        """Whether a transaction with this nonce was mined."""
        return await self.count("latest") > nonce

    async def count(self, tag: str) -> int:
        """The next nonce, "latest" or "pending" (which counts the mempool)."""
        return quantity(await self._rpc.request("eth_getTransactionCount", [self.address, tag]))

    async def base_fee(self) -> int:
        """Base fee of the latest block in wei per gas (EIP-1559)."""
        block = await self._rpc.block("latest")
        if block is None:
            raise ChainUnavailable("the RPC has no latest block", "check the node")
        return quantity(block.get("baseFeePerGas", "0x0"))

    def _request(self, call: Call) -> dict[str, str]:
        request = {
            "from": self.address,
            "data": "0x" + call.data.hex(),
            "value": hex(call.value),
        }
        if call.to:
            request["to"] = to_checksum_address(call.to)
        return request
