"""Contact records: where a Node is reached, and which keys prove that it is that Node.

A record is CBOR ``[body, signature]``. ``body`` is a byte string holding canonical CBOR of the
fields below; ``signature`` is the hardware root key's r||s over ``sha256(DOMAIN || body)``. The
bytes travel in the ``ContactPublished`` event and their keccak256 stands in ``NodeRegistry``.

Why each check exists:

* digest against the chain: an RPC server cannot serve another record than the registered one;
* root signature: whoever steals only the account key cannot move the endpoint to itself;
* chain, registry and node inside the body: a record of one network or Node is void elsewhere;
* the certificate names the node's address as its subject and is signed by its own key: nobody can
  publish somebody else's certificate as his own, which would let two Nodes be confused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from agent.formats import p256
from agent.formats.cbor import FormatError, decode, encode
from agent.formats.hashes import keccak256, sha256
from nodeclient.p2p.certificate import check_certificate
from nodeclient.p2p.errors import ContactInvalid

DOMAIN = b"sealrun/contact/v1"
MAX_RECORD = 2048  # bytes; NodeRegistry takes Bytes[2048]
MAX_SEQUENCE = 2**63 - 1
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"  # RFC 1123 2.1, lower case only
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_IPV6 = re.compile(r"\[[0-9a-f:.]{2,45}\]")
_FIELDS = frozenset({"chain_id", "registry", "node", "endpoint", "certificate", "hpke", "seq"})


@dataclass(frozen=True, slots=True)
class Contact:
    """One Node's contact: addresses are 20 bytes, ``hpke`` an X25519 key, ``certificate`` DER."""

    chain_id: int
    registry: bytes
    node: bytes
    endpoint: str
    certificate: bytes
    hpke: bytes
    seq: int

    @property
    def host(self) -> str:
        """Host without port; an IPv6 address without its brackets."""
        return self.endpoint.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """TCP port."""
        return int(self.endpoint.rpartition(":")[2])


def signing_digest(body: bytes) -> bytes:
    """32-byte digest that the root key signs for ``body``."""
    return sha256(DOMAIN + body)


def contact_digest(record: bytes) -> bytes:
    """keccak256 of the whole record: the value that stands in NodeRegistry."""
    return keccak256(record)


def build_record(contact: Contact, sign: Callable[[bytes], bytes]) -> bytes:
    """Encode and sign ``contact``; ``sign`` maps a 32-byte digest to the root's r||s (64 bytes).

    Raises ContactInvalid when a field is malformed or the record exceeds ``MAX_RECORD``.
    """
    _check_shape(contact)
    body = encode(
        {
            "chain_id": contact.chain_id,
            "registry": contact.registry,
            "node": contact.node,
            "endpoint": contact.endpoint,
            "certificate": contact.certificate,
            "hpke": contact.hpke,
            "seq": contact.seq,
        }
    )
    record = encode([body, sign(signing_digest(body))])
    if len(record) > MAX_RECORD:
        raise ContactInvalid(
            f"contact: record of {len(record)} bytes exceeds {MAX_RECORD}", "use a shorter endpoint"
        )
    return record


def verify_record(
    record: bytes,
    *,
    chain_id: int,
    registry: bytes,
    node: bytes,
    root_public: bytes,
    digest: bytes,
) -> Contact:
    """Parse ``record`` and prove it against the chain.

    ``digest`` and ``root_public`` (X||Y, 64 bytes) come from ``NodeRegistry.node(node)``.
    Raises ContactInvalid; never returns a partly checked contact.
    """
    if len(record) > MAX_RECORD:
        raise ContactInvalid(
            f"contact: longer than {MAX_RECORD} bytes", "the node must publish anew"
        )
    if contact_digest(record) != digest:
        raise ContactInvalid(
            "contact: bytes differ from the digest on chain",
            "read the latest ContactPublished event",
        )
    body, signature = _open_envelope(record)
    if not p256.verify(root_public, signing_digest(body), signature):
        raise ContactInvalid(
            "contact: not signed by the root key on chain", "the node must publish anew"
        )
    contact = _parse_body(body)
    _check_shape(contact)
    if (contact.chain_id, contact.registry, contact.node) != (chain_id, registry, node):
        raise ContactInvalid(
            "contact: made for another chain, registry or node", "the node must publish anew"
        )
    return contact


def _open_envelope(record: bytes) -> tuple[bytes, bytes]:
    try:
        envelope = decode(record, MAX_RECORD)
    except FormatError as error:
        raise ContactInvalid(f"contact: {error}", "the node must publish anew") from error
    match envelope:
        case [bytes(body), bytes(signature)] if len(signature) == 64:
            return body, signature
    raise ContactInvalid("contact: not [body, signature]", "the node must publish anew")


def _parse_body(body: bytes) -> Contact:
    try:
        fields = decode(body, MAX_RECORD)
    except FormatError as error:
        raise ContactInvalid(f"contact: {error}", "the node must publish anew") from error
    if not isinstance(fields, dict) or set(fields) != _FIELDS:
        raise ContactInvalid("contact: wrong set of fields", "the node must publish anew")
    for name, kind in (("chain_id", int), ("seq", int), ("endpoint", str)):
        if type(fields[name]) is not kind:  # bool is an int: refuse it here
            raise ContactInvalid(
                f"contact: {name} has the wrong type", "the node must publish anew"
            )
    for name in ("registry", "node", "certificate", "hpke"):
        if not isinstance(fields[name], bytes):
            raise ContactInvalid(f"contact: {name} is not bytes", "the node must publish anew")
    return Contact(**fields)


def _check_shape(contact: Contact) -> None:
    wrong = (
        ("chain_id", not 0 < contact.chain_id < 2**64),
        ("seq", not 0 <= contact.seq <= MAX_SEQUENCE),
        ("registry", len(contact.registry) != 20),
        ("node", len(contact.node) != 20),
        ("hpke", len(contact.hpke) != 32 or not any(contact.hpke)),
        ("endpoint", not _is_endpoint(contact.endpoint)),
    )
    for name, is_wrong in wrong:
        if is_wrong:
            raise ContactInvalid(f"contact: {name} is malformed", "correct it and publish again")
    check_certificate(contact.certificate, contact.node)


def _is_endpoint(endpoint: str) -> bool:
    host, _, port = endpoint.rpartition(":")
    if not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > 65535 or len(host) > 253:
        return False
    return bool(_HOST.fullmatch(host) or _IPV6.fullmatch(host))
