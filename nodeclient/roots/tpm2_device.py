"""Turns at a TPM: open it, do one thing, leave nothing loaded, let go.

A turn takes a third of a millisecond more than an open connection would, and for that it is the
same on every kind of TPM: one without a resource manager (swtpm) serves the daemon and the command
line by turns, one with it (``/dev/tpmrm0``) is not held while nobody needs it, and a TPM that was
reset or plugged in again is met afresh. What was loaded is kept as the TPM's own encrypted context.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from tpm2_pytss import ESAPI, TSS2_Exception
from tpm2_pytss.constants import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_HC,
    TPM2_RC,
    TPM2_SE,
    TPMA_SESSION,
)

from nodeclient.roots.patience import Patience
from nodeclient.roots.tpm2_faults import BUSY, FULL, code_of, explain
from nodeclient.roots.tpm2_objects import session_cipher

# The library writes each refused command to stderr, where one line of ours is due; its level is
# read from the environment alone, before its first line.
os.environ.setdefault("TSS2_LOG", "all+none")

_PAUSE = 0.02  # seconds between two tries of a command that the TPM put off
_MOST_HANDLES = 64
_LEFT_BEHIND = (TPM2_HC.TRANSIENT_FIRST, TPM2_HC.LOADED_SESSION_FIRST, TPM2_HC.ACTIVE_SESSION_FIRST)
# What a context answers that the TPM does not know any more: it was reset, or is another one.
_STALE = frozenset({TPM2_RC.INTEGRITY, TPM2_RC.HANDLE, TPM2_RC.REFERENCE_H0, TPM2_RC.SIZE})

Open = Callable[[], ESAPI]
Result = TypeVar("Result")


class Turn:
    """One connection. What is loaded through it is flushed at its end."""

    def __init__(self, esys: Any, stack: contextlib.ExitStack) -> None:
        self.esys, self._stack = esys, stack

    def keep(self, handle: Any) -> Any:
        """Have a handle flushed at the end of the turn."""
        self._stack.callback(self._flush, handle)
        return handle

    def restore(self, context: Any | None) -> Any | None:
        """The handle of a saved context; None where there is none, or the TPM was reset since."""
        if context is None:
            return None
        try:
            return self.keep(self.esys.context_load(context))
        except TSS2_Exception as error:
            if code_of(error) in _STALE:
                return None
            raise

    def session(self, salt_key: Any, kind: Any = TPM2_SE.HMAC) -> Any:
        """A session salted by ``salt_key`` (Part 1, §19.6.12): whoever listens on the bus or alters
        what passes there learns and changes nothing."""
        session = self.keep(
            self.esys.start_auth_session(
                salt_key, ESYS_TR.NONE, kind, session_cipher(), TPM2_ALG.SHA256
            )
        )
        self.esys.trsess_set_attributes(
            session, TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.DECRYPT | TPMA_SESSION.ENCRYPT
        )
        return session

    def plain_session(self, kind: Any) -> Any:
        """A session for a policy alone; it protects nothing on the bus."""
        return self.keep(
            self.esys.start_auth_session(
                ESYS_TR.NONE, ESYS_TR.NONE, kind, session_cipher(), TPM2_ALG.SHA256
            )
        )

    def flush(self, handle: Any) -> None:
        """Make room before the end of the turn: a TPM holds three objects at a time."""
        self._flush(handle)

    def _flush(self, handle: Any) -> None:
        with contextlib.suppress(TSS2_Exception):  # gone already, or with the TPM
            self.esys.flush_context(handle)


class Device:
    """One TPM. ``open_esys`` makes a connection; ``seconds``: how long a caller waits."""

    def __init__(self, open_esys: Open, seconds: float) -> None:
        self.open_esys = open_esys
        self._seconds = seconds
        self._patience = Patience("TPM", seconds)

    def turn(self, work: Callable[[Turn], Result], what: str) -> Result:
        """Do ``work`` with a connection of its own. Raises RootError with ``what`` in its text."""
        return self._patience.run(lambda: self._attempt(work, what))

    def close(self) -> None:
        """No more turns. Harmless twice."""
        self._patience.close(lambda: None)

    def _attempt(self, work: Callable[[Turn], Result], what: str) -> Result:
        end, made_room = time.monotonic() + self._seconds, False
        while True:
            try:
                with self._connected() as turn:
                    return work(turn)
            except TSS2_Exception as error:
                code = code_of(error)
                if code in FULL and not made_room:
                    made_room = True
                    with contextlib.suppress(TSS2_Exception):
                        self._make_room()
                elif code in BUSY and time.monotonic() < end:
                    time.sleep(_PAUSE)
                else:
                    raise explain(error, what) from None

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Turn]:
        esys = self.open_esys()
        try:
            with contextlib.ExitStack() as stack:
                yield Turn(esys, stack)
        finally:
            esys.close()

    def _make_room(self) -> None:
        """Flush what a process left that was killed in its turn. Behind a resource manager only
        what is ours can be seen."""
        with self._connected() as turn:
            for first in _LEFT_BEHIND:
                _, found = turn.esys.get_capability(TPM2_CAP.HANDLES, first, _MOST_HANDLES)
                for handle in found.data.handles:
                    with contextlib.suppress(TSS2_Exception):
                        turn.esys.flush_context(turn.esys.tr_from_tpmpublic(handle))
