"""The folder of blocks: whole, verified, and never outside its folder."""

import os
from pathlib import Path

import pytest

from agent.formats.cid import cid_of
from nodeclient.capsules import errors
from nodeclient.capsules.stores import blockstore
from nodeclient.capsules.stores.blockstore import MAX_BLOCK, FolderStore


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "blocks")


def stored(tmp_path):
    return sorted(p.name for p in (tmp_path / "blocks").rglob("*") if p.is_file())


def test_put_and_get__block__comes_back(store):
    block = os.urandom(1000)
    cid = cid_of(block)
    assert not store.has(cid)
    store.put(cid, block)
    store.put(cid, block)
    assert store.has(cid)
    assert store.get(cid) == block
    store.remove(cid)
    store.remove(cid)
    with pytest.raises(errors.BlockMissing):
        store.get(cid)


def test_put__bytes_of_another_cid__refused_and_not_kept(store):
    cid = cid_of(b"right")
    with pytest.raises(errors.StoreError):
        store.put(cid, b"wrong")
    assert not store.has(cid)


def test_put__oversized_block__refused(store):
    store.put(cid_of(bytes(MAX_BLOCK)), bytes(MAX_BLOCK))
    with pytest.raises(errors.StoreError, match="at most"):
        store.put(cid_of(bytes(MAX_BLOCK + 1)), bytes(MAX_BLOCK + 1))


@pytest.mark.parametrize("content", [b"", b"blocX", b"block" * 1000])
def test_get__damaged_file__is_corrupt_and_never_returned(store, tmp_path, content):
    cid = cid_of(b"block")
    store.put(cid, b"block")
    next(p for p in (tmp_path / "blocks").rglob("b*") if p.is_file()).write_bytes(content)
    with pytest.raises(errors.BlockCorrupt):
        store.get(cid)
    store.put(cid, b"block")
    assert store.get(cid) == b"block"


@pytest.mark.parametrize("cid", ["../../etc/passwd", "/etc/passwd", "", ".", cid_of(b"x") + "/.."])
def test_any_method__name_that_is_no_cid__refused(store, cid):
    for use in (store.get, store.has, store.remove, lambda c: store.put(c, b"x")):
        with pytest.raises(errors.StoreError):
            use(cid)


def test_batch__blocks__are_there_afterwards_and_the_last_one_only_then(store):
    blocks = [os.urandom(100) for _ in range(40)]
    with store.batch() as put:
        for block in blocks:
            put(cid_of(block), block)
        assert store.has(cid_of(blocks[-2]))
        assert not store.has(cid_of(blocks[-1]))
    assert [store.get(cid_of(block)) for block in blocks] == blocks


def test_batch__header__is_written_after_the_chunks_are_durable(store, monkeypatch):
    steps = []
    real = blockstore.replace_file

    def replace_file(path, block, **named):
        steps.append("durable" if named.get("behind") is None else "behind")
        real(path, block, **named)

    monkeypatch.setattr(blockstore, "replace_file", replace_file)
    monkeypatch.setattr(blockstore, "sync_filesystem", lambda _: steps.append("sync"))
    with store.batch() as put:
        for number in range(3):
            put(cid_of(bytes([number])), bytes([number]))
    assert steps == ["behind", "behind", "sync", "durable"]


def test_batch__error__removes_what_is_new_and_keeps_what_was_there(store, tmp_path):
    store.put(cid_of(b"old"), b"old")

    def put_and_fail():
        with store.batch() as put:
            for block in (b"old", b"new", b"header"):
                put(cid_of(block), block)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        put_and_fail()
    assert stored(tmp_path) == [cid_of(b"old")]


def test_batch__file_handles__are_all_given_back(store):
    before = len(list(Path("/proc/self/fd").iterdir()))
    with store.batch() as put:
        for number in range(50):
            put(cid_of(bytes([number])), bytes([number]))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_put__disk_that_refuses__is_a_store_error_with_a_next_step(tmp_path):
    (tmp_path / "blocks").write_text("a file where the folder should be")
    with pytest.raises(errors.StoreError) as caught:
        FolderStore(tmp_path / "blocks").put(cid_of(b"x"), b"x")
    assert str(caught.value).endswith(caught.value.next_step)
