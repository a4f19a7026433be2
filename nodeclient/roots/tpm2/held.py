"""The two keys of a TPM root: derived and loaded when they are needed, kept as contexts between.

Used in the device's thread only.
"""

from __future__ import annotations

from typing import Any

from tpm2_pytss import TSS2_Exception
from tpm2_pytss.constants import ESYS_TR

from agent.formats.cbor import FormatError
from nodeclient.roots.base import RootError
from nodeclient.roots.tpm2 import objects
from nodeclient.roots.tpm2.device import Turn
from nodeclient.roots.tpm2.faults import is_about_content
from nodeclient.roots.tpm2.objects import KEY_FILE, KeyFile


class Held:
    """The storage key and the root key of one file, in one TPM."""

    def __init__(self, file: KeyFile) -> None:
        self._file = file
        self._saved: tuple[Any, Any] | None = None

    def parent(self, turn: Turn) -> Any:
        """The storage key, loaded for this turn."""
        found = turn.restore(self._saved and self._saved[0])
        return self._derive(turn)[0] if found is None else found

    def key(self, turn: Turn) -> Any:
        """The root key, loaded for this turn."""
        found = turn.restore(self._saved and self._saved[1])
        return self._derive(turn)[1] if found is None else found

    def _derive(self, turn: Turn) -> tuple[Any, Any]:
        """Both keys from the TPM's seed and the file. Raises RootError: not this TPM's."""
        file = self._file
        parent = turn.keep(storage_key(turn))
        if bytes(turn.esys.tr_get_name(parent)) != file.parent:
            raise RootError(
                "root: this is another TPM, or it was cleared",
                "plug in the right one; a cleared TPM needs a new node",
            )
        try:
            public, private = objects.public_of(file.public), objects.private_of(file.private)
            key = turn.keep(turn.esys.load(parent, private, public))
        except (FormatError, TSS2_Exception) as error:
            if isinstance(error, TSS2_Exception) and not is_about_content(error):
                raise
            raise RootError(f"root: {KEY_FILE} was altered", "restore it from a backup") from None
        self._saved = turn.esys.context_save(parent), turn.esys.context_save(key)
        return parent, key


def storage_key(turn: Turn) -> Any:
    """Derive the primary in the owner hierarchy anew."""
    return turn.esys.create_primary(None, objects.storage_key(), ESYS_TR.OWNER)[0]


def make_key(turn: Turn) -> KeyFile:
    """A new root key, born in the TPM and wrapped by its storage key."""
    parent = turn.keep(storage_key(turn))
    private, public, *_ = turn.esys.create(
        parent, None, objects.signing_key(), session1=turn.session(parent)
    )
    name = bytes(turn.esys.tr_get_name(parent))
    return KeyFile(name, bytes(public.marshal()), bytes(private.marshal()))
