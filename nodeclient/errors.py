"""The error tree. Every error says what is wrong and ends with what to do next.

The CLI prints ``str(error)`` as its one line; ``BadInput`` exits with 2, the rest with 1.
"""

from __future__ import annotations


class SealrunError(Exception):
    """Base of all errors that a person may see."""

    exit_code = 1

    def __init__(self, message: str, next_step: str) -> None:
        super().__init__(f"{message}; {next_step}")
        self.message = message
        self.next_step = next_step


class BadInput(SealrunError):
    """What the person or a file of theirs said cannot be taken."""

    exit_code = 2


class ConfigError(BadInput):
    """A Node's configuration is wrong."""


class NodeFolderInvalid(BadInput):
    """A folder is no node's, or already is one where a new one was asked for."""


class TaskFileInvalid(BadInput):
    """A task file is malformed, incomplete or out of bounds."""


class DaemonUnreachable(SealrunError):
    """The node's daemon does not answer on its control socket."""


class DaemonSilent(DaemonUnreachable):
    """Nobody answers there: the daemon is stopped, or hangs."""


class DaemonAbsent(DaemonSilent):
    """Nobody listens there: no daemon runs, and none has been told anything."""


class DaemonRefused(SealrunError):
    """The daemon answered no: with exit code 2 when it found fault with what it was given."""

    def __init__(self, message: str, next_step: str, exit_code: int) -> None:
        super().__init__(message, next_step)
        self.exit_code = exit_code


class TaskNotSettled(SealrunError):
    """A watched task ended FAILED or EXPIRED, or not within the time given."""


class CheckoutMissing(SealrunError):
    """A command needs the project's own folder (contracts, examples) and is run without it."""


class ChainUnavailable(SealrunError):
    """The chain's RPC endpoint does not answer as it should."""


class Reverted(SealrunError):
    """A contract refused; ``reason`` is its string."""

    def __init__(self, reason: str, next_step: str = "read the reason") -> None:
        super().__init__(f"the contract refused: {reason}", next_step)
        self.reason = reason


class RootLost(SealrunError):
    """The root of trust went while the node ran: its daemon stopped, its keys are forgotten."""


class MachineError(SealrunError):
    """The Machine or its session failed."""


class MachineErased(MachineError):
    """That boot is over, but no other came after: its memory is or was being erased."""


class MachineRefused(MachineError):
    """The Agent answered, and its answer is no. ``code`` is stable, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, "read the reason")
        self.code = code
