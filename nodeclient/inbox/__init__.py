"""What is asked of this Node by its peers."""

from nodeclient.inbox.cases import owners_and_requester
from nodeclient.inbox.door import Inbox, refusal_of
from nodeclient.inbox.reading import ACTIVATIONS, SIGNING_ASKERS, SIGNINGS

__all__ = [
    "ACTIVATIONS",
    "SIGNINGS",
    "SIGNING_ASKERS",
    "Inbox",
    "owners_and_requester",
    "refusal_of",
]
