"""The error tree. Every error says what is wrong and ends with what to do next.

The CLI prints ``str(error)`` as its one line; ``BadInput`` exits with 2, the rest with 1.
"""

from __future__ import annotations


class SealrunError(Exception):
    """Base of all errors that a person may see."""

    def __init__(self, message: str, next_step: str) -> None:
        super().__init__(f"{message}; {next_step}")
        self.message = message
        self.next_step = next_step


class BadInput(SealrunError):
    """What the person or a file of theirs said cannot be taken."""


class ConfigError(BadInput):
    """A Node's configuration is wrong."""


class ChainUnavailable(SealrunError):
    """The chain's RPC endpoint does not answer as it should."""


class Reverted(SealrunError):
    """A contract refused; ``reason`` is its string."""

    def __init__(self, reason: str, next_step: str = "read the reason") -> None:
        super().__init__(f"the contract refused: {reason}", next_step)
        self.reason = reason


class PeerError(SealrunError):
    """A peer did not do what was asked."""


class PeerSilent(PeerError):
    """A peer did not answer in time."""


class PeerRefused(PeerError):
    """A peer answered no."""


class MachineError(SealrunError):
    """The Machine or its session failed."""


class BootTimeout(MachineError):
    """The Agent did not report in time."""
