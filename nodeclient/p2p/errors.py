"""What can go wrong between two Nodes besides silence and refusal."""

from nodeclient.errors import PeerError, PeerRefused, PeerSilent


class ContactInvalid(PeerError):
    """A contact record does not prove what it says."""


class PeerBusy(PeerRefused):
    """The peer is over its rate or concurrency limit; the same request may be sent again later."""


__all__ = ["ContactInvalid", "PeerBusy", "PeerError", "PeerRefused", "PeerSilent"]
