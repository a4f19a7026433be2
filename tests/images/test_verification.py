"""The door: only what the chain approves, for this use and now, comes in and is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import docker
import pytest
from docker.errors import NotFound

from nodeclient.capsules.stores.blockstore import FolderStore
from nodeclient.core.images import ImageKind, ImageRecord, fault
from nodeclient.images.errors import ImageError, ImageRefused
from nodeclient.images.parts import publish
from nodeclient.images.verification import Verification
from tests.images.small import small_image

NOW = 1_800_000_000
GOOD = ImageRecord(ImageKind.SERVICE, bytes(20), NOW - 10, NOW + 10, NOW - 5, revoked=False)


@dataclass
class Registry:
    """The chain's entries, and its clock. `later`: entries from the n-th question on."""

    entries: dict[bytes, ImageRecord]
    asked: int = 0
    later: dict[int, ImageRecord] = field(default_factory=dict)

    async def look(self, image: bytes) -> tuple[ImageRecord | None, int]:
        self.asked += 1
        return self.later.get(self.asked, self.entries.get(image)), NOW


@dataclass
class Bench:
    """A store with one published image, its door, and the engine that it loads into."""

    folder: Path
    engine: docker.DockerClient
    image: bytes
    cid: str
    store: FolderStore
    fetched: list[str] = field(default_factory=list)

    def door(self, registry: Registry) -> Verification:
        async def get(cid: str) -> bytes:
            self.fetched.append(cid)
            return self.store.get(cid)

        return Verification(registry.look, get, self.folder / "images")

    @property
    def loaded(self) -> bool:
        name = "sha256:" + self.image.hex()
        try:
            return bool(self.engine.images.get(name).id == name)
        except NotFound:
            return False

    @property
    def tars(self) -> list[str]:
        return sorted(
            str(each.relative_to(self.folder / "images"))
            for each in (self.folder / "images").rglob("*.tar")
        )


@pytest.fixture
def bench(tmp_path: Path, engine: docker.DockerClient) -> Iterator[Bench]:
    image, tar = small_image(tmp_path, str(tmp_path).encode() * 50_000)
    store = FolderStore(tmp_path / "blocks")
    with store.batch() as put:
        cid, _ = publish(tar, put)
    made = Bench(tmp_path, engine, image, cid, store)
    yield made
    if made.loaded:
        engine.images.remove("sha256:" + image.hex())


async def test_bring__approved_service__fetched_checked_and_loaded_by_id(bench: Bench) -> None:
    brought = await bench.door(Registry({bench.image: GOOD})).bring(bench.cid)
    assert (brought.image, brought.kind, brought.loaded) == (bench.image, ImageKind.SERVICE, True)
    assert bench.tars == [f"services/{bench.image.hex()}.tar"]
    assert bench.loaded
    assert bench.engine.images.get("sha256:" + bench.image.hex()).tags == []


async def test_bring__approved_runtime__lies_where_machines_look_and_is_not_loaded_here(
    bench: Bench,
) -> None:
    record = replace(GOOD, kind=ImageKind.RUNTIME)
    brought = await bench.door(Registry({bench.image: record})).bring(bench.cid)
    assert not brought.loaded
    assert bench.tars == [f"{bench.image.hex()}.tar"]
    assert not bench.loaded


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (None, "nobody approved it"),
        (replace(GOOD, revoked=True), "revoked"),
        (replace(GOOD, effective_at=NOW + 1), "takes effect"),
        (replace(GOOD, not_before=NOW + 1), "valid from"),
        (replace(GOOD, not_after=NOW - 1), "valid until"),
        (replace(GOOD, kind=ImageKind.BOOT), "boot images are built"),
    ],
)
async def test_bring__chain_is_against_it__refused_before_anything_is_fetched(
    bench: Bench, record: ImageRecord | None, reason: str
) -> None:
    entries = {} if record is None else {bench.image: record}
    with pytest.raises(ImageRefused, match=reason):
        await bench.door(Registry(entries)).bring(bench.cid)
    assert bench.fetched == [bench.cid], "only the list may have been asked for"
    assert bench.tars == []
    assert not bench.loaded


async def test_bring__revoked_while_it_was_fetched__not_loaded(bench: Bench) -> None:
    registry = Registry({bench.image: GOOD}, later={2: replace(GOOD, revoked=True)})
    with pytest.raises(ImageRefused, match="revoked"):
        await bench.door(registry).bring(bench.cid)
    assert not bench.loaded


async def test_bring__folder_cannot_be_made__one_line_with_the_next_step(tmp_path: Path) -> None:
    image, tar = small_image(tmp_path, b"x" * 1000)
    store = FolderStore(tmp_path / "blocks")
    with store.batch() as put:
        cid, _ = publish(tar, put)

    async def get(block: str) -> bytes:
        return store.get(block)

    (tmp_path / "images").write_text("in the way")
    door = Verification(Registry({image: GOOD}).look, get, tmp_path / "images")
    with pytest.raises(ImageError, match=r"cannot be made .*; free some space"):
        await door.bring(cid)


async def test_bring__again__fetches_nothing_but_the_list(bench: Bench) -> None:
    door = bench.door(Registry({bench.image: GOOD}))
    await door.bring(bench.cid)
    bench.fetched.clear()
    await door.bring(bench.cid)
    assert bench.fetched == [bench.cid]


async def test_bring__copy_on_disk_is_damaged__fetched_anew(bench: Bench) -> None:
    door = bench.door(Registry({bench.image: GOOD}))
    path = (await door.bring(bench.cid)).path
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    await door.bring(bench.cid)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("wanted", list(ImageKind))
@pytest.mark.parametrize("kind", list(ImageKind))
def test_fault__kind__counts(wanted: ImageKind, kind: ImageKind) -> None:
    assert bool(fault(replace(GOOD, kind=kind), wanted, NOW)) == (kind is not wanted)


@pytest.mark.parametrize("now", [NOW - 5, NOW + 10])
def test_fault__first_and_last_second__may_be_used(now: int) -> None:
    """The contract's own bounds: both ends belong to it."""
    assert fault(GOOD, ImageKind.SERVICE, now) == ""
