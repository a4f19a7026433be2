"""Many tasks at once, as cheaply as whoever floods the market would post them."""

from __future__ import annotations

from typing import Any

from web3 import Web3
from web3.types import TxReceipt

from tests.contracts.network import POSTING_FEE, Network

_GAS = 200_000
_BLOCK = 100  # of them in a block of 30 million gas


def flood(network: Network, number: int) -> list[TxReceipt]:
    """Post tasks without any fee that nobody will want to lead; their receipts."""
    network.chain.rpc("evm_setAutomine", [False])
    sent: list[Any] = []
    options: Any = {"from": network.outsider, "value": POSTING_FEE, "gas": _GAS}
    try:
        for first in range(0, number, _BLOCK):
            for count in range(first, min(first + _BLOCK, number)):
                spec_hash = bytes(Web3.keccak(text=f"flood {count}"))
                call = network.market.functions.post(spec_hash, count, 3, 0, 0, 0)
                sent.append(call.transact(options))
            network.chain.mine(1)
    finally:
        network.chain.rpc("evm_setAutomine", [True])
    receipts = [network.chain.w3.eth.wait_for_transaction_receipt(one) for one in sent]
    assert all(receipt["status"] == 1 for receipt in receipts)
    return receipts
