"""Why the EVM refused: revert data (Solidity ABI, `Error(string)` and `Panic(uint256)`) to text."""

from __future__ import annotations

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from nodeclient.chain.errors import RpcRefused

ERROR_SELECTOR = bytes.fromhex("08c379a0")
PANIC_SELECTOR = bytes.fromhex("4e487b71")
REASON_LIMIT = 200

_REVERT_WORDS = ("revert", "invalid opcode", "out of gas", "stack", "evmerror")


def is_revert(error: RpcRefused) -> bool:
    """Whether the RPC refused because the EVM reverted, and not for a reason of its own.

    Code 3 is the one of geth, anvil and EIP-1474's draft; others say it in words only.
    """
    words = error.reason.lower()
    return error.code == 3 or bool(error.data) or any(word in words for word in _REVERT_WORDS)


def reason_of(error: RpcRefused) -> str:
    """The reason string of a revert, at most `REASON_LIMIT` characters, one line."""
    decoded = _decode(error.data)
    if decoded is None:
        decoded = error.reason.removeprefix("execution reverted").lstrip(": ")
    text = " ".join(decoded.split())[:REASON_LIMIT]
    return text or "reverted without a reason"


def _decode(data: bytes) -> str | None:
    try:
        if data[:4] == ERROR_SELECTOR:
            return str(decode(["string"], data[4:])[0])
        if data[:4] == PANIC_SELECTOR:
            return f"panic 0x{decode(['uint256'], data[4:])[0]:02x}"
    except (DecodingError, UnicodeDecodeError, OverflowError):
        return None
    return None
