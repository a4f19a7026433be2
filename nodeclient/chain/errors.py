"""What can go wrong between a Node and its chain. Every message ends with the next step."""

from __future__ import annotations


class ChainError(Exception):
    """Base of all errors of the chain adapter."""


class DeploymentInvalid(ChainError):
    """`deployments/<network>.json` is missing, malformed or of another chain."""


class RpcUnavailable(ChainError):
    """No usable answer: connection, timeout, HTTP status or malformed JSON. Worth a retry."""


class RpcRefused(ChainError):
    """The RPC answered with a JSON-RPC error object.

    `code` is the JSON-RPC error code; `data` holds the EVM's return data of a revert, if any.
    """

    def __init__(self, method: str, code: int, message: str, data: bytes) -> None:
        super().__init__(f"{method} was refused: {message}; check the RPC endpoint and the request")
        self.code = code
        self.reason = message
        self.data = data


class CallReverted(ChainError):
    """A view reverted with `reason`."""

    def __init__(self, function: str, reason: str) -> None:
        super().__init__(f"{function} reverted: {reason}; check its arguments and the block")
        self.reason = reason


class AbiMismatch(ChainError):
    """A function, an event or a value does not fit the ABI of the deployment."""


class HeaderMismatch(ChainError):
    """The fields that the RPC gave for a block do not hash to the block's hash."""


class CompilationFailed(ChainError):
    """Vyper did not compile a contract; the message carries the compiler's own words."""


class DeploymentFailed(ChainError):
    """A transaction of the deployment failed; nothing was written to `deployments/`."""
