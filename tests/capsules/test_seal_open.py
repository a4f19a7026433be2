"""Capsules as files: sealed and opened whole, or with nothing left behind."""

import io
import os

import pytest

from agent.formats import archive, capsule
from agent.formats.capsule import CHUNK, Kind
from agent.formats.cid import cid_of
from agent.formats.p256 import SigningKey
from nodeclient.capsules.errors import BlockMissing, CapsuleFileError
from nodeclient.capsules.keys import FolderVault, keep_key, load_key
from nodeclient.capsules.open import open_file, open_folder
from nodeclient.capsules.seal import seal_path
from nodeclient.capsules.stores.blockstore import FolderStore
from nodeclient.errors import BadInput
from nodeclient.roots.base import RootError
from nodeclient.roots.software import SoftwareRoot


class Owner:
    """A data owner's root, store and vault in one folder."""

    def __init__(self, folder):
        self.root = SoftwareRoot.create(folder / "root", folder / "passphrase")
        self.store = FolderStore(folder / "blocks")
        self.vault = FolderVault(folder / "keys")
        self.out = folder / "out"
        self.out.mkdir()

    def seal(self, path, kind=Kind.DATA, **more):
        return seal_path(path, kind, root=self.root, store=self.store, vault=self.vault, **more)

    def open(self, cid, opener=open_file, **more):
        more.setdefault("expect_owner", self.root.public_key())
        if "content_key" not in more:
            more["content_key"] = load_key(self.root, self.vault, cid)
        return opener(cid, self.out / "opened", get=self.store.get, **more)


@pytest.fixture
def owner(tmp_path):
    return Owner(tmp_path)


@pytest.fixture
def payload(tmp_path):
    path = tmp_path / "payload"
    path.write_bytes(os.urandom(2 * CHUNK + 77))
    return path


@pytest.fixture
def function(tmp_path):
    folder = tmp_path / "function"
    (folder / "lib").mkdir(parents=True)
    (folder / "main.py").write_text("print('main')")
    (folder / "lib" / "names.txt").write_text("a\nb\n")
    return folder


def test_seal_and_open__file__comes_back_private_and_counted(owner, payload):
    done = {"sealed": 0, "opened": 0}

    def count(name):
        return lambda size: done.__setitem__(name, done[name] + size)

    sealed = owner.seal(payload, progress=count("sealed"))
    header = owner.open(sealed.cid, expect_digest=sealed.digest, progress=count("opened"))
    assert (owner.out / "opened").read_bytes() == payload.read_bytes()
    assert (owner.out / "opened").stat().st_mode & 0o777 == 0o600
    assert header.kind is Kind.DATA
    assert done == {"sealed": sealed.size, "opened": sealed.size}


def test_seal_and_open__function_folder__comes_back(owner, function):
    sealed = owner.seal(function, Kind.FUNCTION)
    owner.open(sealed.cid, open_folder, kind=Kind.FUNCTION, expect_digest=sealed.digest)
    assert (owner.out / "opened" / "lib" / "names.txt").read_text() == "a\nb\n"
    assert owner.seal(function, Kind.FUNCTION).digest == sealed.digest  # names the function


def test_seal__content_key__is_nowhere_in_clear(owner, payload, tmp_path):
    sealed = owner.seal(payload)
    key = load_key(owner.root, owner.vault, sealed.cid)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert key not in content
            assert key.hex().encode() not in content


def test_seal__empty_file__opens_to_an_empty_file(owner, tmp_path):
    (tmp_path / "empty").touch()
    owner.open(owner.seal(tmp_path / "empty").cid)
    assert (owner.out / "opened").read_bytes() == b""


def test_seal__plain_store_without_batches__works_alike(owner, payload):
    class Plain:
        put, get = owner.store.put, owner.store.get
        has, remove = owner.store.has, owner.store.remove

    sealed = seal_path(payload, Kind.DATA, root=owner.root, store=Plain(), vault=owner.vault)
    owner.open(sealed.cid)
    assert (owner.out / "opened").read_bytes() == payload.read_bytes()


@pytest.mark.parametrize("case", ["missing", "folder as data", "missing function", "result"])
def test_seal__path_or_kind_that_cannot_be__is_bad_input_and_stores_nothing(
    owner, function, case, tmp_path
):
    path, kind = {
        "missing": (tmp_path / "none", Kind.DATA),
        "folder as data": (function, Kind.DATA),
        "missing function": (tmp_path / "none", Kind.FUNCTION),
        "result": (function, Kind.RESULT),
    }[case]
    with pytest.raises(BadInput) as caught:
        owner.seal(path, kind)
    assert str(caught.value).endswith(caught.value.next_step)
    assert not (tmp_path / "blocks").exists()


def test_seal__function_with_a_link__refused_without_a_block_left(owner, function, tmp_path):
    (function / "zz-link").symlink_to("/etc/passwd")
    (function / "lib" / "big").write_bytes(os.urandom(2 * CHUNK))
    with pytest.raises(CapsuleFileError, match="neither file nor folder"):
        owner.seal(function, Kind.FUNCTION)
    assert [p for p in (tmp_path / "blocks").rglob("*") if p.is_file()] == []


def test_seal__vault_that_fails__publishes_no_capsule(owner, payload, tmp_path):
    class Full:
        def put(self, cid, sealed):
            raise CapsuleFileError("key: disk full", "free some space")

    with pytest.raises(CapsuleFileError, match="disk full"):
        seal_path(payload, Kind.DATA, root=owner.root, store=owner.store, vault=Full())
    assert [p for p in (tmp_path / "blocks").rglob("*") if p.is_file()] == []


def alter(owner, cid, change):
    """Damage one stored block on the disk."""
    path = owner.store._path(cid)
    path.write_bytes(change(path.read_bytes()))


CHANGES = {
    "truncated": lambda block: block[:-1],
    "emptied": lambda block: block[:0],
    "bit flipped": lambda block: block[:50] + bytes([block[50] ^ 1]) + block[51:],
    "oversized": lambda block: block + bytes(1 << 20),
}


@pytest.mark.parametrize("which", ["header", "first chunk", "last chunk"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_open__block_damaged_on_disk__leaves_nothing(owner, payload, which, change):
    sealed = owner.seal(payload)
    chunks = capsule.inspect(sealed.cid, owner.store.get).chunks
    cid = {"header": sealed.cid, "first chunk": chunks[0], "last chunk": chunks[-1]}[which]
    alter(owner, cid, change)
    with pytest.raises(Exception, match="damaged") as caught:
        owner.open(sealed.cid)
    assert str(caught.value).endswith("remove it and fetch it again")
    assert list(owner.out.iterdir()) == []


def test_open__chunk_missing__leaves_nothing(owner, payload):
    sealed = owner.seal(payload)
    owner.store.remove(capsule.inspect(sealed.cid, owner.store.get).chunks[-1])
    with pytest.raises(BlockMissing):
        owner.open(sealed.cid)
    assert list(owner.out.iterdir()) == []


@pytest.mark.parametrize(
    "expectation",
    [
        {"expect_owner": SigningKey.generate().public},
        {"expect_digest": bytes(32)},
        {"content_key": bytes(32)},
    ],
)
def test_open__other_owner_digest_or_key__leaves_nothing(owner, payload, expectation):
    sealed = owner.seal(payload)
    with pytest.raises(CapsuleFileError) as caught:
        owner.open(sealed.cid, **expectation)
    assert ";" in str(caught.value)
    assert list(owner.out.iterdir()) == []


def test_open__existing_target__refused_before_anything_is_read(owner, payload):
    sealed = owner.seal(payload)
    (owner.out / "opened").write_text("mine")
    for opener, more in ((open_file, {}), (open_folder, {"kind": Kind.DATA})):
        with pytest.raises(CapsuleFileError, match="exists"):
            owner.open(sealed.cid, opener, **more)
    assert (owner.out / "opened").read_text() == "mine"


def test_open_folder__data_capsule__is_another_kind(owner, payload):
    sealed = owner.seal(payload)
    with pytest.raises(CapsuleFileError, match="DATA"):
        owner.open(sealed.cid, open_folder, kind=Kind.RESULT)
    assert list(owner.out.iterdir()) == []


def result_of(owner, payload):
    """A RESULT whose sealer, a Machine, wrote any bytes it liked."""
    session, blocks = SigningKey.generate(), owner.store
    key = os.urandom(32)
    sealed = capsule.seal_stream(
        io.BytesIO(payload), blocks.put, kind=Kind.RESULT, owner=session.public,
        sign=session.sign, content_key=key,
    )  # fmt: skip
    return {
        "cid": sealed.cid, "content_key": key, "expect_owner": session.public,
        "kind": Kind.RESULT, "opener": open_folder,
    }  # fmt: skip


def test_open_folder__result_with_an_evil_archive__leaves_nothing(owner):
    evil = archive._header(archive.Entry("a", True, True, 0)).replace(b"a\0", b"..", 1)
    for payload in (b"no archive", evil + bytes(1024), b""):
        with pytest.raises(CapsuleFileError, match="open: archive"):
            owner.open(**result_of(owner, payload))
        assert list(owner.out.iterdir()) == []


def test_open_folder__result_above_the_receivers_bounds__leaves_nothing(owner, function):
    payload = archive.packed(function).read()
    with pytest.raises(CapsuleFileError, match="more than"):
        owner.open(**result_of(owner, payload), max_bytes=5)
    assert list(owner.out.iterdir()) == []
    owner.open(**result_of(owner, payload))
    assert (owner.out / "opened" / "main.py").exists()


def test_load_key__other_root_capsule_or_missing__refused(owner, payload, tmp_path):
    sealed = owner.seal(payload)
    stranger = SoftwareRoot.create(tmp_path / "stranger", tmp_path / "passphrase")
    with pytest.raises(RootError):
        load_key(stranger, owner.vault, sealed.cid)
    other = cid_of(b"another capsule")
    with pytest.raises(CapsuleFileError, match="not on this node"):
        load_key(owner.root, owner.vault, other)
    owner.vault.put(other, owner.vault.get(sealed.cid))  # a key moved to another Capsule's name
    with pytest.raises(RootError):
        load_key(owner.root, owner.vault, other)
    with pytest.raises(CapsuleFileError):
        owner.vault.get("../../root/root.pem")


def test_keep_key__vault__gets_sealed_bytes_only(owner):
    key, seen = os.urandom(32), {}

    class Watching:
        put, get = seen.__setitem__, seen.__getitem__

    keep_key(owner.root, Watching(), cid_of(b"x"), key)
    assert key not in seen[cid_of(b"x")]
    assert load_key(owner.root, Watching(), cid_of(b"x")) == key
