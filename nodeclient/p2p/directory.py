"""Who is a peer right now: registered, in good standing, with a proven contact record.

Fed by the runner, in chain order, with ``ContactPublished`` and ``StatusChanged`` events and the
registry's view of the node (root key and contact digest). Held in memory only: a restart rebuilds
it from the event history. A node is a peer while it has both a proven contact and a status of
``PEER_STATUSES``; everything else is unknown and refused.

To register costs gas and puts no Deposit at risk, so a crowd of nodes that wait for admission, or
that left, must take no room from those that were admitted: they have a part of their own, and who
was heard of longest ago goes out of it. It comes back with its admission, or by publishing its
contact anew.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.formats.hashes import sha256
from nodeclient.core.types import NodeRecord, NodeStatus
from nodeclient.p2p.contact import Contact, verify_record
from nodeclient.p2p.errors import ContactInvalid, PeerRefused

# About 1.5 KB each. Of admitted ones more are refused rather than letting memory grow.
MAX_PEERS = 10_000
MAX_APART = 1_000  # of all others


# EXITING nodes still finish what they sit in; PAUSED ones are owners, requesters and receivers;
# PENDING ones ask for their admission, and the inbox lets them ask for nothing else.
PEER_STATUSES = frozenset(
    {NodeStatus.PENDING, NodeStatus.ACTIVE, NodeStatus.PAUSED, NodeStatus.EXITING}
)
ADMITTED = PEER_STATUSES - {NodeStatus.PENDING}


PinChange = Callable[[bytes, bytes | None, bytes | None], None]
"""Called with (node, certificate no longer trusted, certificate trusted from now on)."""


class Directory:
    """Proven contacts by node address, and node address by exact certificate."""

    def __init__(self, chain_id: int, registry: bytes) -> None:
        self._chain_id = chain_id
        self._registry = registry
        self._contacts: dict[bytes, Contact] = {}
        self._apart: dict[bytes, None] = {}  # whose contact is none of an admitted one, in order
        self._status: dict[bytes, NodeStatus] = {}
        self._by_pin: dict[bytes, bytes] = {}
        self._listeners: list[PinChange] = []

    def subscribe(self, listener: PinChange) -> None:
        """Tell ``listener`` of every change of trust, beginning with the peers known now."""
        self._listeners.append(listener)
        for node in self._by_pin.values():
            listener(node, None, self._contacts[node].certificate)

    def publish(self, record: bytes, entry: NodeRecord) -> Contact:
        """Prove ``record`` against the registry's view ``entry``, and pin it in place of the last.

        Raises ContactInvalid (the former contact stays): also for a lower sequence number, since
        a replayed record would bring back a certificate whose key the node may have lost.
        """
        node = entry.address
        contact = verify_record(
            record,
            chain_id=self._chain_id,
            registry=self._registry,
            node=node,
            root_public=entry.root_public,
            digest=entry.contact_digest,
        )
        former = self._contacts.get(node)
        if not self._has_room(node, entry.status):
            raise ContactInvalid(f"contact: directory holds {MAX_PEERS} peers", "raise MAX_PEERS")
        if former is not None and contact != former and contact.seq <= former.seq:
            raise ContactInvalid(
                f"contact: sequence {contact.seq} is not above {former.seq}", "publish a higher one"
            )
        self._update(node, contact, entry.status)
        return contact

    def set_status(self, node: bytes, status: NodeStatus) -> None:
        """Take over a ``StatusChanged`` event; a node without contact is only remembered."""
        contact = self._contacts.get(node) if self._has_room(node, status) else None
        self._update(node, contact, status)

    def contact(self, node: bytes) -> Contact:
        """Contact of a current peer. Raises PeerRefused for any other address."""
        contact = self._contacts.get(node)
        if contact is None or not self._is_peer(node):
            raise PeerRefused(
                f"peer 0x{node.hex()} has no contact in good standing", "wait for its registration"
            )
        return contact

    def find(self, certificate: bytes) -> bytes | None:
        """Address of the current peer that pinned exactly this DER certificate."""
        return self._by_pin.get(sha256(certificate))

    def is_pending(self, node: bytes) -> bool:
        """Whether a node waits for its admission."""
        return self._status.get(node) is NodeStatus.PENDING

    def peers(self) -> tuple[bytes, ...]:
        """Addresses of all current peers."""
        return tuple(self._by_pin.values())

    def admitted(self) -> tuple[bytes, ...]:
        """Those that take part. PENDING nodes cost nothing: whoever asks all in turn leaves them
        out, or a thousand silent ones would take most turns."""
        return tuple(node for node in self.peers() if not self.is_pending(node))

    def _is_peer(self, node: bytes) -> bool:
        return self._status.get(node) in PEER_STATUSES and node in self._contacts

    def _update(self, node: bytes, contact: Contact | None, status: NodeStatus) -> None:
        before = self._contacts[node].certificate if self._is_peer(node) else None
        self._status[node] = status
        self._keep(node, contact)
        after = contact.certificate if contact is not None and self._is_peer(node) else None
        if before != after:
            if before is not None:
                self._by_pin.pop(sha256(before), None)
            if after is not None:
                self._by_pin[sha256(after)] = node
            for listener in self._listeners:
                listener(node, before, after)
        if len(self._apart) > MAX_APART:
            first = next(iter(self._apart))
            self._update(first, None, self._status[first])

    def _keep(self, node: bytes, contact: Contact | None) -> None:
        """Note a contact in its part, as the newest there."""
        self._apart.pop(node, None)
        self._contacts.pop(node, None)
        if contact is not None:
            self._contacts[node] = contact
            if self._status[node] not in ADMITTED:
                self._apart[node] = None

    def _has_room(self, node: bytes, status: NodeStatus) -> bool:
        """Whether a contact of a node with this status can be kept; of others than admitted ones
        the first makes room."""
        held = node in self._contacts and node not in self._apart
        return status not in ADMITTED or held or len(self._contacts) - len(self._apart) < MAX_PEERS
