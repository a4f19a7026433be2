"""What can go wrong between a Node and its chain. Every message ends with the next step.

Two kinds matter to the rules: `Reverted` (the contract said no: asking again changes nothing) and
`ChainUnavailable` (no trustworthy answer: ask again later).
"""

from __future__ import annotations

from nodeclient.errors import BadInput, ChainUnavailable, Reverted, SealrunError

__all__ = [
    "AbiMismatch",
    "CallReverted",
    "ChainUnavailable",
    "CompilationFailed",
    "DeploymentFailed",
    "DeploymentInvalid",
    "FeeTooHigh",
    "HeaderMismatch",
    "OrderReverted",
    "Reverted",
    "RpcRefused",
    "Unconfirmed",
]


class OrderReverted(Reverted):
    """An order was refused by the contract, in simulation (nothing sent) or when mined.

    `reason` is the contract's string, "module: what is wrong"; `tx_hash` is None when nothing was
    sent.
    """

    def __init__(self, function: str, reason: str, tx_hash: bytes | None = None) -> None:
        sent = "nothing was sent" if tx_hash is None else f"see transaction 0x{tx_hash.hex()}"
        super().__init__(reason, f"{sent}, check the arguments of {function}")
        self.function = function
        self.tx_hash = tx_hash


class RpcRefused(ChainUnavailable):
    """The RPC answered with a JSON-RPC error object.

    `code` is the JSON-RPC error code; `data` holds the EVM's return data of a revert, if any.
    """

    def __init__(self, method: str, code: int, reason: str, data: bytes) -> None:
        super().__init__(f"{method} was refused: {reason}", "check the account and the RPC node")
        self.code = code
        self.reason = reason
        self.data = data


class CallReverted(ChainUnavailable):
    """A view reverted with `reason`."""

    def __init__(self, function: str, reason: str) -> None:
        super().__init__(f"{function} reverted: {reason}", "check its arguments and the block")
        self.reason = reason


class AbiMismatch(ChainUnavailable):
    """A function, an event or a value does not fit the ABI of the deployment."""


class HeaderMismatch(ChainUnavailable):
    """The fields that the RPC gave for a block do not hash to the block's hash."""


class FeeTooHigh(ChainUnavailable):
    """The base fee is above the operator's cap; nothing was sent."""


class Unconfirmed(ChainUnavailable):
    """Sent and replaced, but not mined in the time allowed. The journal keeps it: ask again."""


class DeploymentInvalid(BadInput):
    """`deployments/<network>.json` is missing, malformed or of another chain."""


class CompilationFailed(SealrunError):
    """Vyper did not compile a contract; the message carries the compiler's own words."""


class DeploymentFailed(SealrunError):
    """A transaction of the deployment failed; nothing was written to `deployments/`."""
