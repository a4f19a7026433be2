"""Contact records: what is signed, what is refused, and what the directory makes of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from agent.formats import cbor
from agent.formats.hashes import sha256
from nodeclient.core.types import NodeStatus
from nodeclient.p2p.certificate import build_certificate, check_certificate, subject_of
from nodeclient.p2p.contact import (
    DOMAIN,
    MAX_RECORD,
    Contact,
    build_record,
    contact_digest,
    verify_record,
)
from nodeclient.p2p.directory import Directory
from nodeclient.p2p.errors import ContactInvalid, PeerRefused
from tests.p2p.conftest import CHAIN_ID, REGISTRY, Node

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def verify(record: bytes, node: Node, /, **changes: object) -> Contact:
    known: dict[str, object] = {
        "chain_id": CHAIN_ID,
        "registry": REGISTRY,
        "node": node.address,
        "root_public": node.root.public,
        "digest": contact_digest(record),
    }
    return verify_record(record, **(known | changes))  # type: ignore[arg-type]


def signed(node: Node, /, **changes: object) -> bytes:
    """A record over arbitrary fields with a good signature, as a hostile Node could publish it."""
    contact = node.contact()
    fields = {name: getattr(contact, name) for name in Contact.__dataclass_fields__}
    return signed_body(node, cbor.encode({k: v for k, v in (fields | changes).items() if v != ...}))


def signed_body(node: Node, body: bytes) -> bytes:
    return cbor.encode([body, node.root.sign(sha256(DOMAIN + body))])


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:8443", "pi-7.example.net:1", "[::1]:65535", "[2001:db8::7]:443"]
)
def test_record__round_trip__same_contact(executor: Node, endpoint: str) -> None:
    executor.endpoint = endpoint
    record = executor.record()
    contact = verify(record, executor)
    assert contact == executor.contact()
    assert f"{contact.host}:{contact.port}" == endpoint.replace("[", "").replace("]", "")


def test_record__p256_key__accepted(executor: Node) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    record = signed(executor, certificate=build_certificate(key, executor.address))
    assert verify(record, executor).node == executor.address


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digest": bytes(32)}, "differ from the digest"),
        ({"chain_id": 1}, "another chain"),
        ({"registry": bytes(20)}, "another chain, registry"),
        ({"node": bytes(19) + b"\x09"}, "registry or node"),
        ({"root_public": bytes(64)}, "root key"),
        ({"root_public": b""}, "root key"),
    ],
)
def test_record__other_context_than_the_chains__refused(
    executor: Node, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ContactInvalid, match=message):
        verify(executor.record(), executor, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"endpoint": "127.0.0.1"}, "endpoint"),
        ({"endpoint": "127.0.0.1:0"}, "endpoint"),
        ({"endpoint": "127.0.0.1:65536"}, "endpoint"),
        ({"endpoint": "user@host:1"}, "endpoint"),
        ({"endpoint": "host/path:1"}, "endpoint"),
        ({"endpoint": "host\n:1"}, "endpoint"),
        ({"endpoint": "a" * 254 + ":1"}, "endpoint"),
        ({"hpke": bytes(32)}, "hpke"),
        ({"hpke": b"\x07" * 31}, "hpke"),
        ({"seq": -1}, "seq"),
        ({"seq": 2**63}, "seq"),
        ({"seq": True}, "wrong type"),
        ({"endpoint": b"127.0.0.1:1"}, "wrong type"),
        ({"hpke": "x" * 32}, "not bytes"),
        ({"registry": bytes(21)}, "registry"),
        ({"node": bytes(21)}, "node"),
        ({"hpke": ...}, "set of fields"),
        ({"more": 1}, "set of fields"),
        ({"certificate": b""}, "does not verify"),
        ({"certificate": bytes(1025)}, "exceeds 1024"),
    ],
)
def test_record__signed_but_malformed__refused(
    executor: Node, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ContactInvalid, match=message):
        verify(signed(executor, **changes), executor)


@pytest.mark.parametrize(
    "record",
    [b"", b"\x00", b"\x80", cbor.encode([b"", bytes(64)]), cbor.encode({"a": 1}), b"\x9f\xff"],
)
def test_record__foreign_bytes__refused(executor: Node, record: bytes) -> None:
    with pytest.raises(ContactInvalid):
        verify(record, executor)


def test_record__body_not_a_map__refused(executor: Node) -> None:
    with pytest.raises(ContactInvalid, match="set of fields"):
        verify(signed_body(executor, cbor.encode([1, 2])), executor)


def test_record__above_the_contracts_bound__refused(executor: Node) -> None:
    with pytest.raises(ContactInvalid, match="longer than"):
        verify(signed(executor, hpke=bytes(MAX_RECORD)), executor)


def test_record__any_flipped_bit_of_the_body__refused(executor: Node) -> None:
    record = executor.record()
    for place in range(4, len(record), 37):
        forged = record[:place] + bytes([record[place] ^ 1]) + record[place + 1 :]
        with pytest.raises(ContactInvalid):
            verify(forged, executor)


def test_record__signed_by_another_root__refused(executor: Node, outsider: Node) -> None:
    record = build_record(executor.contact(), outsider.root.sign)
    with pytest.raises(ContactInvalid, match="not signed by the root key"):
        verify(record, executor)


def test_record__signature_with_high_s__refused(executor: Node) -> None:
    def sign_high(digest: bytes) -> bytes:
        signature = executor.root.sign(digest)
        return signature[:32] + (_ORDER - int.from_bytes(signature[32:])).to_bytes(32)

    with pytest.raises(ContactInvalid, match="not signed"):
        verify(build_record(executor.contact(), sign_high), executor)


def test_certificate__of_another_node__refused(executor: Node, outsider: Node) -> None:
    """Publishing somebody else's certificate as one's own would confuse the two."""
    record = signed(outsider, certificate=executor.identity.certificate)
    with pytest.raises(ContactInvalid, match="names another node"):
        verify(record, outsider)


def test_certificate__key_not_held__refused(executor: Node, outsider: Node) -> None:
    """Own name, somebody else's public key: the self-signature cannot be made."""
    with pytest.raises(ContactInvalid, match="does not verify"):
        check_certificate(
            _certificate(executor, outsider.address, signer=outsider), outsider.address
        )


def test_certificate__authority__refused(executor: Node) -> None:
    with pytest.raises(ContactInvalid, match="must be a leaf"):
        check_certificate(_certificate(executor, executor.address, ca=True), executor.address)


def test_certificate__no_constraints__refused(executor: Node) -> None:
    with pytest.raises(ContactInvalid, match="CA:FALSE"):
        check_certificate(_certificate(executor, executor.address, ca=None), executor.address)


def test_certificate__other_curve__refused(executor: Node) -> None:
    der = build_certificate(ec.generate_private_key(ec.SECP384R1()), executor.address)
    with pytest.raises(ContactInvalid, match="Ed25519 or P-256"):
        check_certificate(der, executor.address)


def test_certificate__ed25519__a_function_of_key_and_node(executor: Node) -> None:
    again = build_certificate(executor.identity.key, executor.address)
    assert again == executor.identity.certificate


def test_identity__shown__does_not_show_the_key(executor: Node) -> None:
    assert "key" not in repr(executor.identity).lower()


def test_directory__published__found_by_address_and_certificate(executor: Node) -> None:
    directory = Directory(CHAIN_ID, REGISTRY)
    contact = executor.publish(directory)
    assert directory.contact(executor.address) == contact
    assert directory.find(contact.certificate) == executor.address
    assert directory.peers() == (executor.address,)


def test_directory__unknown_node__refused(executor: Node) -> None:
    with pytest.raises(PeerRefused, match="no contact in good standing"):
        Directory(CHAIN_ID, REGISTRY).contact(executor.address)


@pytest.mark.parametrize("status", list(NodeStatus))
def test_directory__status__decides_who_is_a_peer(executor: Node, status: NodeStatus) -> None:
    directory = Directory(CHAIN_ID, REGISTRY)
    executor.publish(directory, status)
    is_peer = status not in (NodeStatus.EXITED, NodeStatus.BARRED)
    assert directory.is_pending(executor.address) == (status is NodeStatus.PENDING)
    assert (directory.find(executor.identity.certificate) is not None) == is_peer
    directory.set_status(executor.address, NodeStatus.EXITED)
    assert directory.find(executor.identity.certificate) is None
    directory.set_status(executor.address, NodeStatus.ACTIVE)
    assert directory.find(executor.identity.certificate) == executor.address


def test_directory__new_contact__old_certificate_forgotten(executor: Node) -> None:
    directory = Directory(CHAIN_ID, REGISTRY)
    old = executor.publish(directory)
    executor.renew_key()
    new = executor.publish(directory)
    assert directory.find(old.certificate) is None
    assert directory.find(new.certificate) == executor.address


def test_directory__replayed_older_contact__refused_and_the_newer_stays(executor: Node) -> None:
    """A thief of a former TLS key and of the account key, not of the root, could publish it."""
    directory = Directory(CHAIN_ID, REGISTRY)
    executor.seq = 1
    old = executor.record()
    directory.publish(old, executor.entry(old))
    executor.renew_key()
    new = executor.publish(directory)
    with pytest.raises(ContactInvalid, match="not above"):
        directory.publish(old, executor.entry(old))
    assert directory.contact(executor.address) == new


def test_directory__same_record_told_again__accepted(executor: Node) -> None:
    """After a reorganisation the same event may come twice."""
    directory = Directory(CHAIN_ID, REGISTRY)
    record = executor.record()
    for _ in range(2):
        directory.publish(record, executor.entry(record))
    assert directory.peers() == (executor.address,)


def test_directory__pending_node__is_a_peer_and_not_admitted(executor: Node) -> None:
    directory = Directory(CHAIN_ID, REGISTRY)
    executor.publish(directory)
    directory.set_status(executor.address, NodeStatus.PENDING)
    assert (directory.peers(), directory.admitted()) == ((executor.address,), ())
    directory.set_status(executor.address, NodeStatus.ACTIVE)
    assert directory.admitted() == (executor.address,)


def test_directory__superseded_record__refused(executor: Node) -> None:
    """While backfilling, the view already tells the digest of a later record."""
    directory = Directory(CHAIN_ID, REGISTRY)
    old = executor.record()
    executor.seq += 1
    with pytest.raises(ContactInvalid, match="differ from the digest"):
        directory.publish(old, executor.entry(executor.record()))


def test_directory__full__further_peers_refused(
    executor: Node, member: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeclient.p2p.directory.MAX_PEERS", 1)
    directory = Directory(CHAIN_ID, REGISTRY)
    executor.publish(directory)
    with pytest.raises(ContactInvalid, match="holds 1 peers"):
        member.publish(directory)
    executor.publish(directory)


def test_directory__crowd_that_waits__takes_no_room_from_admitted_ones(
    executor: Node, member: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeclient.p2p.directory.MAX_PEERS", 2)
    monkeypatch.setattr("nodeclient.p2p.directory.MAX_APART", 3)
    directory = Directory(CHAIN_ID, REGISTRY)
    executor.publish(directory)
    crowd = [Node(bytes([number]) * 20) for number in range(0x61, 0x69)]
    trusted: set[bytes] = set()

    def changed(node: bytes, before: bytes | None, after: bytes | None) -> None:
        trusted.discard(before or b"")
        trusted.update([after] if after is not None else [])

    directory.subscribe(changed)
    for each in crowd:
        each.publish(directory, NodeStatus.PENDING)
    known = [executor, *crowd[-3:]]
    assert set(directory.peers()) == {each.address for each in known}
    assert trusted == {each.identity.certificate for each in known}
    with pytest.raises(PeerRefused, match="no contact"):
        directory.contact(crowd[0].address)
    assert directory.find(crowd[0].identity.certificate) is None

    member.publish(directory)  # there is room, whatever the crowd
    assert set(directory.admitted()) == {executor.address, member.address}
    # of those that wait the longest silent goes, not who has just published again
    crowd[-3].renew_key()
    crowd[-3].publish(directory, NodeStatus.PENDING)
    crowd[0].publish(directory, NodeStatus.PENDING)
    waiting = {each.address for each in (crowd[-3], crowd[-1], crowd[0])}
    assert set(directory.peers()) - set(directory.admitted()) == waiting


def test_directory__crowd_that_left__is_forgotten_and_takes_no_room(
    executor: Node, member: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeclient.p2p.directory.MAX_PEERS", 2)
    monkeypatch.setattr("nodeclient.p2p.directory.MAX_APART", 1)
    directory = Directory(CHAIN_ID, REGISTRY)
    left = [Node(bytes([number]) * 20) for number in range(0x61, 0x65)]
    for each in left:
        each.publish(directory)
        directory.set_status(each.address, NodeStatus.EXITED)
    for each in (executor, member):
        each.publish(directory)
    assert set(directory.peers()) == {executor.address, member.address}


def test_directory__admitted_while_it_is_full__has_no_room_until_one_leaves(
    executor: Node, member: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeclient.p2p.directory.MAX_PEERS", 1)
    directory = Directory(CHAIN_ID, REGISTRY)
    executor.publish(directory)
    member.publish(directory, NodeStatus.PENDING)
    directory.set_status(member.address, NodeStatus.ACTIVE)
    assert directory.peers() == (executor.address,)
    with pytest.raises(ContactInvalid, match="holds 1 peers"):
        member.publish(directory)
    directory.set_status(executor.address, NodeStatus.EXITED)
    member.publish(directory)
    assert directory.admitted() == (member.address,)


def test_build_record__malformed__refused_before_it_is_signed(executor: Node) -> None:
    def sign(digest: bytes) -> bytes:
        raise AssertionError("signed")

    with pytest.raises(ContactInvalid, match="endpoint"):
        build_record(replace(executor.contact(), endpoint="nowhere"), sign)


def _certificate(
    holder: Node, named: bytes, *, signer: Node | None = None, ca: bool | None = False
) -> bytes:
    """A certificate with ``holder``'s public key and ``named`` as subject, signed by ``signer``."""
    key = (signer or holder).identity.key
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject_of(named))
        .issuer_name(subject_of(named))
        .public_key(holder.identity.key.public_key())
        .serial_number(1)
        .not_valid_before(
            x509.load_der_x509_certificate(holder.identity.certificate).not_valid_before_utc
        )
        .not_valid_after(
            x509.load_der_x509_certificate(holder.identity.certificate).not_valid_after_utc
        )
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    return builder.sign(key, None).public_bytes(serialization.Encoding.DER)
