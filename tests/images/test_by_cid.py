"""Images by CID: cut into blocks, fetched whole and checked, or not there at all."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.cid import cid_of, digest_of
from nodeclient.capsules.errors import BlockMissing
from nodeclient.capsules.stores.blockstore import FolderStore
from nodeclient.images import parts as parts_module
from nodeclient.images.errors import ImageError
from nodeclient.images.fetch import AHEAD, fetch_parts, fetch_tar
from nodeclient.images.parts import BLOCK, MAX_BLOCKS, ImageParts, publish
from nodeclient.images.verify import verify_image
from tests.images.small import small_image

SIZE = 3 * BLOCK + 17


@pytest.fixture
def published(tmp_path: Path) -> tuple[FolderStore, str, bytes, Path]:
    """(store, CID of the list, image ID, tar) of an image of several blocks."""
    image, tar = small_image(tmp_path, os.urandom(SIZE))
    store = FolderStore(tmp_path / "blocks")
    with store.batch() as put:
        cid, found = publish(tar, put)
    assert found == image
    return store, cid, image, tar


def getter(store: FolderStore) -> Callable[[str], Awaitable[bytes]]:
    async def get(cid: str) -> bytes:
        return store.get(cid)

    return get


Published = tuple[FolderStore, str, bytes, Path]


async def test_fetch__what_was_published__same_bytes_and_id(
    published: Published, tmp_path: Path
) -> None:
    store, cid, image, tar = published
    parts = await fetch_parts(cid, getter(store))
    assert parts.image == image
    assert parts.size == tar.stat().st_size
    assert len(parts.blocks) == -(-parts.size // BLOCK)
    await fetch_tar(parts, getter(store), tmp_path / "got.tar")
    assert (tmp_path / "got.tar").read_bytes() == tar.read_bytes()
    assert verify_image(tmp_path / "got.tar") == image


async def test_fetch__asks_for_a_few_blocks_at_a_time(published: Published, tmp_path: Path) -> None:
    store, cid, _, _ = published
    under_way, most = 0, 0

    async def get(each: str) -> bytes:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return store.get(each)

    parts = await fetch_parts(cid, get)
    many = ImageParts(parts.image, parts.size, parts.blocks)
    await fetch_tar(many, get, tmp_path / "got.tar")
    assert 1 < most <= AHEAD


async def refused(published: Published, tmp_path: Path, get: Callable[[str], Awaitable[bytes]]):
    """Fetch, which must fail; what was raised. Nothing may be left in the folder."""
    parts = await fetch_parts(published[1], getter(published[0]))
    folder = tmp_path / "target"
    folder.mkdir()
    with pytest.raises((ImageError, BlockMissing)) as caught:
        await fetch_tar(parts, get, folder / "got.tar")
    assert list(folder.iterdir()) == []
    return str(caught.value)


async def test_fetch__wrong_block__refused_and_nothing_written(
    published: Published, tmp_path: Path
) -> None:
    store = published[0]
    parts = await fetch_parts(published[1], getter(store))

    async def get(cid: str) -> bytes:
        block = store.get(cid)
        return block[:-1] + bytes([block[-1] ^ 1]) if cid == parts.blocks[2] else block

    assert "differs from its CID" in await refused(published, tmp_path, get)


async def test_fetch__missing_block__refused_and_nothing_written(
    published: Published, tmp_path: Path
) -> None:
    store = published[0]
    parts = await fetch_parts(published[1], getter(store))
    store.remove(parts.blocks[-1])
    assert "is not here" in await refused(published, tmp_path, getter(store))


async def test_fetch__list_names_another_image__refused_and_nothing_written(
    published: Published, tmp_path: Path
) -> None:
    """A list of honest blocks under a wrong image ID: only the check of the whole finds it."""
    store, cid, _, _ = published
    parts = await fetch_parts(cid, getter(store))
    lying = ImageParts(b"\x66" * 32, parts.size, parts.blocks)
    folder = tmp_path / "target"
    folder.mkdir()
    with pytest.raises(ImageError, match="another CID"):
        await fetch_tar(lying, getter(store), folder / "got.tar")
    assert list(folder.iterdir()) == []


async def test_fetch__blocks_of_another_length_than_listed__refused(
    published: Published, tmp_path: Path
) -> None:
    """Short blocks under a list of full ones would fill a disk less than it says, or more."""
    store, cid, _, _ = published
    parts = await fetch_parts(cid, getter(store))
    short = b"short"
    store.put(cid_of(short), short)
    lying = ImageParts(parts.image, parts.size, (cid_of(short), *parts.blocks[1:]))
    with pytest.raises(ImageError, match="another length"):
        await fetch_tar(lying, getter(store), tmp_path / "got.tar")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for half of the image."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


async def test_fetch__disk_full__one_line_and_nothing_written(
    published: Published, small_disk: Path
) -> None:
    parts = await fetch_parts(published[1], getter(published[0]))
    with pytest.raises(ImageError, match=os.strerror(errno.ENOSPC)):
        await fetch_tar(parts, getter(published[0]), small_disk / "got.tar")
    assert os.listdir(small_disk) == []
    free = os.statvfs(small_disk)
    assert free.f_bfree == free.f_blocks, "the space must be free again"


KILLED = """
import asyncio, sys
from pathlib import Path
from nodeclient.capsules.stores.blockstore import FolderStore
from nodeclient.images.fetch import fetch_parts, fetch_tar
store, cid, target = FolderStore(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
given = 0
async def get(each):
    global given
    given += 1
    if given == 4:
        print("half", flush=True)
        await asyncio.sleep(3600)
    return store.get(each)
async def main():
    await fetch_tar(await fetch_parts(cid, get), get, target)
asyncio.run(main())
"""


def test_fetch__killed_half_way__nothing_is_left(published: Published, tmp_path: Path) -> None:
    folder = tmp_path / "target"
    folder.mkdir()
    words = [str(tmp_path / "blocks"), published[1], str(folder / "got.tar")]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, *words], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    assert list(folder.iterdir()) == []


def test_publish__tar_that_does_not_verify__nothing_stored(tmp_path: Path) -> None:
    _, tar = small_image(tmp_path, b"content")
    tar.write_bytes(tar.read_bytes().replace(b"content", b"CONTENT"))
    store = FolderStore(tmp_path / "blocks")
    with pytest.raises(ImageError), store.batch() as put:
        publish(tar, put)
    assert not (tmp_path / "blocks").exists()


def test_publish__larger_than_a_machine_takes__refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tar = small_image(tmp_path, os.urandom(SIZE))
    monkeypatch.setattr(parts_module, "MAX_BLOCKS", 3)
    with pytest.raises(ImageError, match="smaller"):
        publish(tar, lambda *_: None)


async def test_fetch_parts__block_that_is_no_list__refused(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put(cid_of(b"no list"), b"no list")
    with pytest.raises(ImageError, match="no list of an image"):
        await fetch_parts(cid_of(b"no list"), getter(store))


def fields(**changed: object) -> bytes:
    good: dict[str, object] = {
        "version": 1,
        "image": b"\x01" * 32,
        "size": BLOCK + 1,
        "blocks": [b"\x02" * 32, b"\x03" * 32],
    }
    return cbor.encode(good | changed)


def test_list__round_trip() -> None:
    parts = ImageParts.decode(fields())
    assert parts.encode() == fields()
    assert [digest_of(each) for each in parts.blocks] == [b"\x02" * 32, b"\x03" * 32]
    assert (parts.length(0), parts.length(1)) == (BLOCK, 1)


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 2},
        {"image": b"\x01" * 31},
        {"size": 0},
        {"size": MAX_BLOCKS * BLOCK + 1},
        {"size": BLOCK},
        {"size": 2 * BLOCK + 1},
        {"blocks": []},
        {"blocks": [b"\x02" * 32, b"\x03" * 33]},
        {"more": 1},
    ],
)
def test_list__field_out_of_bounds__refused(changed: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        ImageParts.decode(fields(**changed))
