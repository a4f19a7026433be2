"""Errors of the Machine adapters: one line each, ending with the next step."""


class MachineError(Exception):
    """The Machine did not boot, is gone, or does not answer."""


class MachineRefused(MachineError):
    """The Agent answered, and its answer is no. `code` is stable, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
