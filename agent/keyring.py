"""The Agent's keys to its Pi: those in use, and those agreed on that nobody has used yet.

The Agent cannot know whether its Pi kept what was agreed before it died. So both are tried until a
hello is answered under the new keys: from then on the old ones exist no more. Each dial shows its
keys to none but the Pi that holds the certificate which goes with them.
"""

from __future__ import annotations

import secrets
import ssl
from dataclasses import dataclass

from agent.formats import stream
from agent.formats.hashes import sha256
from agent.formats.link import new_certificate, tls_context
from agent.formats.rotation import Half, Offer, next_secret
from agent.formats.rpc import RpcError


@dataclass(frozen=True, slots=True)
class DialKeys:
    """One generation. secret: 32 bytes; pi: SHA-256 of the Pi's certificate; certificate: DER."""

    generation: int
    secret: bytes
    pi: bytes
    certificate: bytes
    context: ssl.SSLContext
    streams: ssl.SSLContext  # for a task's connections (`agent.formats.stream`)


class Keyring:
    """Starts with the keys of the boot parameters."""

    def __init__(self, boot_secret: bytes, pi_certificate: bytes) -> None:
        certificate, key = new_certificate("sealrun agent")
        self._current = _keys(0, boot_secret, pi_certificate, certificate, key)
        self._agreed: DialKeys | None = None

    @property
    def candidates(self) -> tuple[DialKeys, ...]:
        """What to dial with, in this order."""
        return (self._current,) if self._agreed is None else (self._agreed, self._current)

    def agree(self, body: object) -> object:
        """Answer an offer. A second one replaces the first. Raises FormatError, RpcError."""
        offer = Offer.from_body(body)
        if offer.generation != self._current.generation + 1:
            raise RpcError("wrong_generation", "not the generation that follows; boot again")
        certificate, key = new_certificate("sealrun agent")
        answer = Half(sha256(certificate), secrets.token_bytes(32))
        secret = next_secret(self._current.secret, offer, answer)
        self._agreed = _keys(offer.generation, secret, offer.half.certificate, certificate, key)
        return answer.to_body()

    def proved(self, keys: DialKeys) -> None:
        """A hello under these was answered: whatever came before them is over."""
        if keys is self._agreed:
            self._current, self._agreed = keys, None


def _keys(generation: int, secret: bytes, pi: bytes, certificate: bytes, key: bytes) -> DialKeys:
    contexts = (
        tls_context(server=False, certificate=certificate, key=key, peer=None, alpn=alpn)
        for alpn in ("", stream.ALPN)
    )
    return DialKeys(generation, secret, pi, certificate, *contexts)
