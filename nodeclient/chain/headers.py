"""A block's RLP header, rebuilt from `eth_getBlockByNumber`.

The contracts' `entropy` module takes the header as calldata and compares its keccak with the
EIP-2935 history hash, so the bytes must be exact. They are checked here first: a header whose hash
differs would only burn gas.

Field order: Yellow Paper §4.4, then EIP-1559 (baseFeePerGas), EIP-4895 (withdrawalsRoot), EIP-4844
(blobGasUsed, excessBlobGas), EIP-4788 (parentBeaconBlockRoot), EIP-7685 (requestsHash). Osaka adds
no field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import rlp  # type: ignore[import-untyped]
from eth_hash.auto import keccak

from nodeclient.chain.errors import ChainUnavailable, HeaderMismatch
from nodeclient.chain.rpc import Rpc, blob, quantity

MAX_HEADER = 1024
"""Bytes that `entropy.prevrandao_of` accepts."""

# name, size in bytes; size 0 = bytes of any length, None = a quantity without leading zeros
_FIELDS: tuple[tuple[str, int | None], ...] = (
    ("parentHash", 32),
    ("sha3Uncles", 32),
    ("miner", 20),
    ("stateRoot", 32),
    ("transactionsRoot", 32),
    ("receiptsRoot", 32),
    ("logsBloom", 256),
    ("difficulty", None),
    ("number", None),
    ("gasLimit", None),
    ("gasUsed", None),
    ("timestamp", None),
    ("extraData", 0),
    ("mixHash", 32),
    ("nonce", 8),
)
_LATER_FIELDS: tuple[tuple[str, int | None], ...] = (
    ("baseFeePerGas", None),
    ("withdrawalsRoot", 32),
    ("blobGasUsed", None),
    ("excessBlobGas", None),
    ("parentBeaconBlockRoot", 32),
    ("requestsHash", 32),
)


def build_header(block: Mapping[str, Any]) -> bytes:
    """The RLP header of a block in the RPC's words (hex strings).

    Raises `HeaderMismatch` when a field is missing or malformed, or when the keccak of the result
    is not the block's own hash: the RPC is wrong, or the chain knows a fork that this does not.
    """
    try:
        values = [_value(block[name], size) for name, size in _FIELDS]
        present = [(name, size) for name, size in _LATER_FIELDS if block.get(name) is not None]
        values += [_value(block[name], size) for name, size in present]
        header = bytes(rlp.encode(values))
        expected = blob(block["hash"], 32)
    except (KeyError, ChainUnavailable) as error:
        raise HeaderMismatch(
            "the RPC's block lacks a header field", "ask another RPC endpoint"
        ) from error
    if keccak(header) != expected:
        raise HeaderMismatch(
            "the RPC's block fields do not hash to its block hash", "ask another RPC endpoint"
        )
    if len(header) > MAX_HEADER:
        raise HeaderMismatch(
            f"the header has {len(header)} bytes, the contract takes {MAX_HEADER}",
            "this chain is not supported",
        )
    return header


def prevrandao_of(block: Mapping[str, Any]) -> bytes:
    """mixHash of a block, 32 bytes, after its header was checked. Raises `HeaderMismatch`."""
    build_header(block)
    return blob(block["mixHash"], 32)


async def fetch_header(rpc: Rpc, number: int) -> tuple[bytes, bytes]:
    """(RLP header, prevrandao) of exactly block `number`.

    Raises `HeaderMismatch`, also when there is no such block yet, `ChainUnavailable`, `RpcRefused`.
    """
    block = await rpc.block(number)
    if block is None or block.get("number") != hex(number):
        raise HeaderMismatch(f"the RPC has no block {number}", "wait until it is mined")
    return build_header(block), blob(block["mixHash"], 32)


def _value(raw: object, size: int | None) -> bytes:
    if size is None:
        number = quantity(raw)
        return number.to_bytes((number.bit_length() + 7) // 8, "big")
    return blob(raw, size or None)
