"""Which boot of the Machine is the newest: an order for an older one must not touch it."""

from __future__ import annotations

from pathlib import Path

from agent.formats.hashes import sha256
from nodeclient.errors import MachineError
from nodeclient.files import replace_file

_NAME = "newest-boot"
_ERASING = "erasing "  # before the digest, once the boot is over and its memory is not


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
            replace_file(self._file, _named(session).encode())
        except OSError as error:
            raise MachineError(
                f"{self._file}: {error.strerror}", "make room on the disk"
            ) from error

    def note_erasure(self, session: bytes) -> None:
        """The memory of that boot is being erased: it answers no more, but may be erased again.

        Raises MachineError if another boot came after it, or none is known.
        """
        if self._said() not in (_named(session), _ERASING + _named(session)):
            raise MachineError("that boot is over", "boot it again")
        try:
            replace_file(self._file, (_ERASING + _named(session)).encode())
        except OSError as error:
            raise MachineError(
                f"{self._file}: {error.strerror}", "make room on the disk"
            ) from error

    def is_it(self, session: bytes) -> bool:
        """Whether no other boot came after that one."""
        return self._said() == _named(session)

    def _said(self) -> str:
        try:
            return self._file.read_text()
        except OSError:
            return ""


def _named(session: bytes) -> str:
    return sha256(session).hex()
