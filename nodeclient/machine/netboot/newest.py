"""Which boot of the Machine is the newest: an order for an older one must not touch it."""

from __future__ import annotations

from pathlib import Path

from agent.formats.hashes import sha256
from nodeclient.errors import MachineError
from nodeclient.files import replace_file

_NAME = "newest-boot"


class NewestBoot:
    """A file in `folder` with the digest of the newest boot's session keys; it is no secret."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / _NAME

    def forget(self) -> None:
        """A boot begins, or the Machine is off: no earlier one runs."""
        self._file.unlink(missing_ok=True)

    def note(self, session: bytes) -> None:
        """The Machine said hello with these session keys (hpke ‖ signing). Raises MachineError.

        Durable on return: a Pi that loses its power must still know the Machine that runs on.
        """
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(self._file, sha256(session).hex().encode())
        except OSError as error:
            raise MachineError(
                f"{self._file}: {error.strerror}", "make room on the disk"
            ) from error

    def is_it(self, session: bytes) -> bool:
        """Whether no other boot came after that one."""
        try:
            return self._file.read_text() == sha256(session).hex()
        except OSError:
            return False
