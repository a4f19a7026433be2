"""Which boot of the Machine is the newest: an order for an older one must not touch it."""

from __future__ import annotations

from pathlib import Path

from agent.formats.hashes import sha256

_NAME = "newest-boot"


class NewestBoot:
    """A file in `folder` with the digest of the newest boot's session keys; it is no secret."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / _NAME

    def forget(self) -> None:
        """A boot begins, or the Machine is off: no earlier one runs."""
        self._file.unlink(missing_ok=True)

    def note(self, session: bytes) -> None:
        """The Machine said hello with these session keys (hpke ‖ signing)."""
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file.write_text(sha256(session).hex())

    def is_it(self, session: bytes) -> bool:
        """Whether no other boot came after that one."""
        try:
            return self._file.read_text() == sha256(session).hex()
        except OSError:
            return False
