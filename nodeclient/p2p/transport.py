"""The transport between Nodes: what the other packages import."""

from nodeclient.p2p.client import PeerClient
from nodeclient.p2p.errors import PeerBusy, PeerError, PeerRefused, PeerSilent
from nodeclient.p2p.limits import MAX_BODY, Limits
from nodeclient.p2p.server import Handler, PeerServer

__all__ = [
    "MAX_BODY",
    "Handler",
    "Limits",
    "PeerBusy",
    "PeerClient",
    "PeerError",
    "PeerRefused",
    "PeerServer",
    "PeerSilent",
]
