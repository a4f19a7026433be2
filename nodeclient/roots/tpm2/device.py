"""Turns at a TPM: open it, do one thing, leave nothing loaded, let go.

So it is the same on every kind of TPM: one without a resource manager (swtpm) serves the daemon and
the command line by turns, one with it (``/dev/tpmrm0``) is not held while nobody needs it, and one
that was reset or plugged in again is met afresh. What was loaded is kept as the TPM's own encrypted
context. Turns that follow each other at once share connection and session, because to salt a
session takes the library longer than anything else; whatever goes wrong in a turn ends both.
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
from nodeclient.roots.tpm2.faults import BUSY, FULL, code_of, explain, is_absent
from nodeclient.roots.tpm2.objects import session_cipher

# The library writes each refused command to stderr, where one line of ours is due; its level is
# read from the environment alone, before its first line.
os.environ.setdefault("TSS2_LOG", "all+none")

LINGER = 0.05  # seconds that the TPM is kept after a call, in case another follows
_PAUSE = 0.02  # seconds between two tries of a command that the TPM put off
_MOST_HANDLES = 64
_LEFT_BEHIND = (TPM2_HC.TRANSIENT_FIRST, TPM2_HC.LOADED_SESSION_FIRST, TPM2_HC.ACTIVE_SESSION_FIRST)
# What a context answers that the TPM does not know any more: it was reset, or is another one.
_STALE = frozenset({TPM2_RC.INTEGRITY, TPM2_RC.HANDLE, TPM2_RC.REFERENCE_H0, TPM2_RC.SIZE})

Open = Callable[[], ESAPI]
Result = TypeVar("Result")


class Turn:
    """One thing done at a TPM. What is loaded for it is flushed at its end; ``longer``: the turn
    that stands for the whole connection."""

    def __init__(self, esys: Any, stack: contextlib.ExitStack, longer: Turn | None = None) -> None:
        self.esys, self._stack, self._longer = esys, stack, longer
        self._sessions: dict[Any, Any] = {}

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

    def shared_session(self, salt_key: Any, kind: Any = TPM2_SE.HMAC) -> Any:
        """A session that the next turn of the same connection uses, too. One for a policy is back
        at its beginning once it authorised something (Part 1, §19.7.7)."""
        whole = self._longer or self
        if kind not in whole._sessions:
            whole._sessions[kind] = whole._session(salt_key, kind)
        return whole._sessions[kind]

    def session(self, salt_key: Any) -> Any:
        """An HMAC session for this turn alone."""
        return self._session(salt_key, TPM2_SE.HMAC)

    def _session(self, salt_key: Any, kind: Any) -> Any:
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
    """One TPM. ``open_esys`` makes a connection; ``seconds``: how long one command may take."""

    def __init__(self, open_esys: Open, seconds: float) -> None:
        self.open_esys = open_esys
        self._seconds = seconds
        self._patience = Patience("TPM", seconds, self._leave, LINGER)
        # The connection of the last turn, and its session; used in the device's thread only.
        self._left: tuple[Any, contextlib.ExitStack, Turn] | None = None

    def turn(
        self, work: Callable[[Turn], Result], what: str, seconds: float | None = None
    ) -> Result:
        """Do ``work`` with a connection of its own; ``seconds``: what it may take where that is
        more than a command. Raises RootError with ``what`` in its text."""
        patience = max(self._seconds, seconds or 0.0)
        return self._patience.run(lambda: self._attempt(work, what, patience), patience)

    def close(self) -> None:
        """No more turns. Harmless twice."""
        self._patience.close(lambda: None)

    def _attempt(self, work: Callable[[Turn], Result], what: str, seconds: float) -> Result:
        end, made_room = time.monotonic() + seconds, False
        while True:
            fresh = self._left is None
            try:
                with self._connected() as turn:
                    return work(turn)
            except TSS2_Exception as error:
                self._leave()
                code = code_of(error)
                if is_absent(error) and not fresh:
                    continue  # it was the earlier connection that is gone, perhaps not the TPM
                if code in FULL and not made_room:
                    made_room = True
                    with contextlib.suppress(TSS2_Exception):
                        self._make_room()
                elif code in BUSY and time.monotonic() < end:
                    time.sleep(_PAUSE)
                else:
                    raise explain(error, what) from None
            except BaseException:
                self._leave()  # whatever state its sessions are in
                raise

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Turn]:
        """A turn. Calls that follow each other at once share connection and session: to salt one
        takes the library longer than anything else."""
        if self._left is None:
            esys = self.open_esys()
            stack = contextlib.ExitStack()
            stack.callback(esys.close)
            self._left = esys, stack, Turn(esys, stack)
        esys, _, first = self._left
        with contextlib.ExitStack() as stack:
            yield Turn(esys, stack, first)

    def _leave(self) -> None:
        """Let go of the TPM, so that others may have it. Raises nothing."""
        if self._left is not None:
            _, stack, _ = self._left
            self._left = None
            with contextlib.suppress(TSS2_Exception):
                stack.close()

    def _make_room(self) -> None:
        """Flush what a process left that was killed in its turn. Behind a resource manager only
        what is ours can be seen."""
        with self._connected() as turn:
            for first in _LEFT_BEHIND:
                _, found = turn.esys.get_capability(TPM2_CAP.HANDLES, first, _MOST_HANDLES)
                for handle in found.data.handles:
                    with contextlib.suppress(TSS2_Exception):
                        turn.esys.flush_context(turn.esys.tr_from_tpmpublic(handle))
