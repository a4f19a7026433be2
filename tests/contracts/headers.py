"""Block headers as the protocol hashes them, rebuilt from what `eth_getBlockByNumber` answers."""

from __future__ import annotations

from typing import Any, Final

import rlp  # type: ignore[import-untyped]
from web3 import Web3

# Yellow paper order, then EIP-1559, 4895, 4844 (two), 4788 and 7685.
_FIELDS: Final = (
    "parentHash",
    "sha3Uncles",
    "miner",
    "stateRoot",
    "transactionsRoot",
    "receiptsRoot",
    "logsBloom",
    "difficulty",
    "number",
    "gasLimit",
    "gasUsed",
    "timestamp",
    "extraData",
    "mixHash",
    "nonce",
    "baseFeePerGas",
    "withdrawalsRoot",
    "blobGasUsed",
    "excessBlobGas",
    "parentBeaconBlockRoot",
    "requestsHash",
)
_NUMBERS: Final = frozenset(
    (
        "difficulty",
        "number",
        "gasLimit",
        "gasUsed",
        "timestamp",
        "baseFeePerGas",
        "blobGasUsed",
        "excessBlobGas",
    )
)


def encode_header(block: dict[str, Any]) -> bytes:
    """RLP of a block's header from the raw JSON of `eth_getBlockByNumber`.

    Raises:
        ValueError: the bytes do not hash to the block's hash (a field is missing or unknown).
    """
    present = [name for name in _FIELDS if name in block]
    encoded: bytes = rlp.encode([_field(name, block[name]) for name in present])
    if Web3.to_hex(Web3.keccak(encoded)) != block["hash"]:
        raise ValueError(f"header of block {block['number']} has fields this encoder does not know")
    return encoded


def _field(name: str, value: str) -> bytes:
    if name not in _NUMBERS:
        return bytes.fromhex(value[2:])
    number = int(value, 16)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
