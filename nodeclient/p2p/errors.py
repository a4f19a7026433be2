"""What can go wrong between two Nodes, each with the next step in its message."""

from __future__ import annotations

from nodeclient.errors import SealrunError


class PeerError(SealrunError):
    """Base of every error of this package."""


class ContactInvalid(PeerError):
    """A contact record does not prove what it says."""


class PeerRefused(PeerError):
    """One side declined: wrong certificate, unknown peer, bad request, or a handler's refusal."""


class PeerDeclined(PeerRefused):
    """The proven peer understood the request and its answer is no; ``message`` is its reason."""


class PeerBusy(PeerRefused):
    """The peer is over its rate or concurrency limit; the same request may be sent again later."""


class PeerSilent(PeerError):
    """No complete answer in time, or no connection at all."""
