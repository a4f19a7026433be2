"""Where a Node keeps the keys of its Machine's channel: one sealed file, replaced in one step.

They change while the Machine runs, which a boot's resume record does not: that names the boot in
the Node's database for ever. So a record that is stolen one day opens nothing, and of this file
only the newest version does. An older one put back cuts the Node off from its Machine, no more.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Protocol

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.rotation import MAX_GENERATION
from agent.formats.shape import as_bytes, as_int, as_map
from nodeclient.errors import MachineError, SealrunError
from nodeclient.files import read_private, replace_file
from nodeclient.machine.link import LinkKeys

LABEL = "machine-channel"
_MAX_SLOT = 16 * 1024
_NAMES = ("session", "secret", "certificate", "key", "generation", "agent")

SessionKeys = tuple[bytes, bytes]  # (hpke, signing): what names a boot


class Sealer(Protocol):
    """The two of `ports.Root` that are needed here."""

    def seal(self, plain: bytes, label: str) -> bytes: ...
    def unseal(self, sealed: bytes, label: str) -> bytes: ...


class KeySlot:
    """The file of one Machine."""

    def __init__(self, path: Path, root: Sealer) -> None:
        self._path, self._root = path, root

    def seal(self, session: SessionKeys, keys: LinkKeys) -> bytes:
        """What the file will hold; a root may take its time. Raises MachineError."""
        body = {
            "session": b"".join(session),
            "secret": keys.boot_secret,
            "certificate": keys.certificate,
            "key": keys.key,
            "generation": keys.generation,
            "agent": keys.agent,
        }
        try:
            return self._root.seal(cbor.encode(body), LABEL)
        except SealrunError as error:
            raise _not_kept(error) from error

    def put(self, sealed: bytes) -> None:
        """Durable on return, and the earlier keys are gone. Raises MachineError."""
        try:
            replace_file(self._path, sealed)
        except OSError as error:
            raise _not_kept(error) from error

    def load(self, session: SessionKeys) -> LinkKeys:
        """The keys of this boot. Raises MachineError: none, damaged, or of another boot."""
        try:
            plain = self._root.unseal(read_private(self._path), LABEL)
            body = as_map(cbor.decode(plain, _MAX_SLOT), _NAMES, "channel keys")
            if body["session"] != b"".join(session):
                raise FormatError("channel keys: of another boot")
            return LinkKeys(
                as_bytes(body["secret"], 32, "secret"),
                as_bytes(body["certificate"], 1, "certificate", 4096),
                as_bytes(body["key"], 1, "key", 4096),
                as_int(body["generation"], 0, MAX_GENERATION, "generation"),
                as_bytes(body["agent"], 32, "certificate digest"),
            )
        except (FormatError, SealrunError) as error:
            raise MachineError(f"{error}", "boot the Machine again") from error

    def drop(self) -> None:
        """The boot is over, and so are its keys. Raises nothing: the next boot replaces them."""
        with contextlib.suppress(OSError):
            self._path.unlink()


def _not_kept(error: Exception) -> MachineError:
    return MachineError(
        f"the channel's keys cannot be kept: {error}", "check disk and root of trust"
    )
