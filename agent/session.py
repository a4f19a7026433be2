"""The keys of one boot: born in this process, used in it, and gone with it.

Nothing here can write a private key anywhere. To an owner the session key is the Machine: it stands
in the attested header, and content keys are sealed to it.
"""

from __future__ import annotations

from agent.formats import hpke, p256
from agent.formats.evidence import session_key_hash
from agent.formats.hpke import OpenError


class SessionGone(Exception):
    """The session's keys were dropped: this boot opens and signs nothing more."""


class Session:
    """HPKE key pair and signing key of one boot."""

    def __init__(self) -> None:
        private, self.hpke = hpke.generate()
        self._private: bytes | None = private
        self._signer: p256.SigningKey | None = p256.SigningKey.generate()
        self.signing = self._signer.public

    @property
    def key_hash(self) -> bytes:
        """What names this session in headers (32 bytes)."""
        return session_key_hash(self.hpke, self.signing)

    @property
    def signer(self) -> p256.SigningKey:
        """The signing key. Raises SessionGone after `drop`."""
        if self._signer is None:
            raise SessionGone("the session ended; boot the Machine again")
        return self._signer

    def open_any(self, infos: list[bytes], sealed: bytes) -> bytes:
        """Open what was sealed under one of `infos`. Raises OpenError or SessionGone."""
        if self._private is None:
            raise SessionGone("the session ended; boot the Machine again")
        for info in infos:
            try:
                return hpke.open(self._private, info, sealed)
            except OpenError:
                continue
        raise OpenError("sealed to another session or other Evidence; ask the owner again")

    def drop(self) -> None:
        """Forget the private keys. Python cannot wipe them: the power cut that follows does."""
        self._private = None
        self._signer = None
