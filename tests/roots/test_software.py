"""The software root: its files, its signatures, and what it does not open."""

import os

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from agent.formats import p256
from agent.formats.hashes import sha256
from nodeclient.ports import Root
from nodeclient.roots.base import RootError, UnsealError
from nodeclient.roots.software import KEY_FILE, SoftwareRoot


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "root"


@pytest.fixture
def passphrase(tmp_path):
    return tmp_path / "passphrase"


def test_create_and_load__same_root__answers_the_same(folder, passphrase):
    made: Root = SoftwareRoot.create(folder, passphrase)
    loaded = SoftwareRoot.load(folder, passphrase)
    assert loaded.public_key() == made.public_key()
    assert loaded.hardware_id() == made.hardware_id()
    assert loaded.unseal(made.seal(b"secret", "label"), "label") == b"secret"
    assert (made.class_id, made.simulated) == (1, True)
    assert len(made.hardware_id()) == 32
    assert len(made.random(16)) == 16


def test_sign__digest__verifies_under_the_public_key(folder, passphrase):
    root = SoftwareRoot.create(folder, passphrase)
    digest = sha256(b"header")
    assert p256.verify(root.public_key(), digest, root.sign(digest))


def test_create__files__are_private_and_the_key_is_encrypted(folder, passphrase):
    SoftwareRoot.create(folder, passphrase)
    assert (folder / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert passphrase.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    pem = (folder / KEY_FILE).read_bytes()
    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    with pytest.raises(TypeError):
        serialization.load_pem_private_key(pem, None)


def test_create__existing_root__is_not_replaced(folder, passphrase):
    first = SoftwareRoot.create(folder, passphrase)
    with pytest.raises(RootError, match="exists"):
        SoftwareRoot.create(folder, passphrase)
    assert SoftwareRoot.load(folder, passphrase).public_key() == first.public_key()


def test_create__short_passphrase__refused_and_no_key_made(folder, passphrase):
    passphrase.write_text("hunter2\n")
    passphrase.chmod(0o600)
    with pytest.raises(RootError, match="longer"):
        SoftwareRoot.create(folder, passphrase)
    assert not (folder / KEY_FILE).exists()


@pytest.mark.parametrize("name", ["key", "passphrase"])
def test_load__file_that_others_may_read__refused(folder, passphrase, name):
    SoftwareRoot.create(folder, passphrase)
    (passphrase if name == "passphrase" else folder / KEY_FILE).chmod(0o644)
    with pytest.raises(RootError, match="chmod 600"):
        SoftwareRoot.load(folder, passphrase)


def test_load__missing_wrong_or_damaged__refused_with_a_next_step(folder, passphrase, tmp_path):
    with pytest.raises(RootError, match="sealrun node init"):
        SoftwareRoot.load(folder, passphrase)
    SoftwareRoot.create(folder, passphrase)
    other = tmp_path / "other"
    other.write_text("x" * 32)
    other.chmod(0o600)
    with pytest.raises(RootError, match="check the passphrase"):
        SoftwareRoot.load(folder, other)
    (folder / KEY_FILE).write_bytes((folder / KEY_FILE).read_bytes()[:100])
    with pytest.raises(RootError):
        SoftwareRoot.load(folder, passphrase)


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256K1()),
                                 ed25519.Ed25519PrivateKey.generate()])  # fmt: skip
def test_load__key_of_another_kind__refused(folder, passphrase, key):
    SoftwareRoot.create(folder, passphrase)
    encryption = serialization.BestAvailableEncryption(passphrase.read_bytes().strip())
    (folder / KEY_FILE).write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    with pytest.raises(RootError, match="P-256"):
        SoftwareRoot.load(folder, passphrase)


def test_seal__twice__differs_and_hides_the_content(folder, passphrase):
    root = SoftwareRoot.create(folder, passphrase)
    first, second = (root.seal(b"canary" * 10, "label") for _ in range(2))
    assert first != second
    assert b"canary" not in first + second


@pytest.mark.parametrize("change", ["label", "bit", "short", "empty", "root"])
def test_unseal__anything_changed__refused(folder, passphrase, change, tmp_path):
    root = SoftwareRoot.create(folder, passphrase)
    sealed, label = root.seal(b"secret", "label"), "label"
    if change == "label":
        label = "labe"
    elif change == "bit":
        sealed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    elif change == "short":
        sealed = sealed[:40]
    elif change == "empty":
        sealed = b""
    else:
        root = SoftwareRoot.create(tmp_path / "other", passphrase)
    with pytest.raises(UnsealError, match="restore"):
        root.unseal(sealed, label)


def test_repr__root__shows_no_secret(folder, passphrase):
    root = SoftwareRoot.create(folder, passphrase)
    assert root._secret.reveal().hex() not in repr(root)
    assert os.fsdecode(passphrase.read_bytes().strip()) not in repr(vars(root))
