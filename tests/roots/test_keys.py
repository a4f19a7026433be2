"""The Node's key bundle: sealed at rest, silent in memory, fit for TLS."""

import socket
import ssl
import threading

import pytest
from coincurve import PublicKey
from cryptography import x509
from eth_account import Account

from agent.formats import hpke
from nodeclient.identity.keys import KEYS_FILE, KeysError, NodeKeys
from nodeclient.roots.software import SoftwareRoot


@pytest.fixture
def root(tmp_path):
    return SoftwareRoot.create(tmp_path / "root", tmp_path / "passphrase")


def test_create_and_load__bundle__comes_back(root, tmp_path):
    made = NodeKeys.create(root, tmp_path)
    assert NodeKeys.load(root, tmp_path) == made
    assert (tmp_path / KEYS_FILE).stat().st_mode & 0o777 == 0o600


def test_generate__keys__are_valid_distinct_and_agree_with_other_libraries(root):
    keys = NodeKeys.generate(root)
    account = Account.from_key(keys.account)
    assert bytes.fromhex(account.address[2:]) == keys.address
    assert len({keys.account, keys.vrf, keys.hpke_private}) == 3
    assert len(PublicKey(keys.vrf_public).format(compressed=True)) == 33
    sealed = hpke.seal(keys.hpke_public, b"", b"x")
    assert hpke.open(keys.hpke_private, b"", sealed) == b"x"
    certificate = x509.load_der_x509_certificate(keys.tls_certificate)
    assert certificate.subject.rfc4514_string() == f"CN=0x{keys.address.hex()}"
    assert certificate.not_valid_after_utc.year == 9999


def test_generate__root_without_randomness__still_gives_fresh_keys(root, monkeypatch):
    monkeypatch.setattr(root, "random", lambda size: bytes(size))
    assert NodeKeys.generate(root).account != NodeKeys.generate(root).account


def test_bundle__at_rest_and_in_a_repr__shows_no_secret(root, tmp_path):
    keys = NodeKeys.create(root, tmp_path)
    stored = (tmp_path / KEYS_FILE).read_bytes()
    for secret in (keys.account, keys.vrf, keys.hpke_private, keys.tls_key):
        assert secret not in stored
        assert repr(secret) not in repr(keys)
        assert secret.hex() not in repr(keys)


def test_create__existing_bundle__is_not_replaced(root, tmp_path):
    first = NodeKeys.create(root, tmp_path)
    with pytest.raises(KeysError, match="exists"):
        NodeKeys.create(root, tmp_path)
    assert NodeKeys.load(root, tmp_path) == first


def test_load__missing_damaged_or_another_roots__refused_with_a_next_step(root, tmp_path):
    with pytest.raises(KeysError, match="node init"):
        NodeKeys.load(root, tmp_path)
    NodeKeys.create(root, tmp_path)
    stranger = SoftwareRoot.create(tmp_path / "stranger", tmp_path / "passphrase")
    with pytest.raises(KeysError):
        NodeKeys.load(stranger, tmp_path)
    path = tmp_path / KEYS_FILE
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(KeysError):
        NodeKeys.load(root, tmp_path)


def test_load__sealed_under_the_same_label_but_no_bundle__refused(root, tmp_path):
    (tmp_path / KEYS_FILE).write_bytes(root.seal(b"\xa0", "node-keys"))
    (tmp_path / KEYS_FILE).chmod(0o600)
    with pytest.raises(KeysError):
        NodeKeys.load(root, tmp_path)


def context(purpose, own, peer):
    """TLS 1.3, both sides certified, exactly one peer trusted."""
    made = ssl.SSLContext(purpose)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=peer.tls_certificate)
    own.load_into(made)
    return made


def handshake(server_context, client_context):
    """What each side saw of the other: (certificate of the server, certificate of the client)."""
    left, right = socket.socketpair()
    seen = []

    def serve():
        try:
            with server_context.wrap_socket(left, server_side=True) as server:
                seen.append(server.getpeercert(binary_form=True))
                server.sendall(b"x")
        except ssl.SSLError as error:
            seen.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_context.wrap_socket(right) as client:
            client.recv(1)
            return client.getpeercert(binary_form=True), seen[0]
    finally:
        thread.join(10)


def test_load_into__two_nodes_that_pin_each_other__shake_hands(root):
    one, two, other = (NodeKeys.generate(root) for _ in range(3))
    server = context(ssl.PROTOCOL_TLS_SERVER, one, two)
    assert handshake(server, context(ssl.PROTOCOL_TLS_CLIENT, two, one)) == (
        one.tls_certificate,
        two.tls_certificate,
    )
    with pytest.raises((ssl.SSLError, OSError)):
        handshake(server, context(ssl.PROTOCOL_TLS_CLIENT, other, one))
