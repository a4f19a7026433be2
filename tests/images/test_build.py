"""The runtime image: reproducible against its lock, and refused against anything else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nodeclient.images.build import BuiltImage, build_into, build_runtime, kept_or_built
from nodeclient.images.errors import ImageError
from nodeclient.images.lock import RUNTIME_LOCK, check_versions, read_lock, versions_of, write_lock
from tests.images.small import small_image


def test_build__again_from_nothing__same_id_and_same_bytes(
    runtime: BuiltImage, tmp_path: Path
) -> None:
    again = build_into(tmp_path)
    assert again.image_id == runtime.image_id
    assert again.path.read_bytes() == runtime.path.read_bytes()


def test_build__kept_image__not_built_again(runtime: BuiltImage) -> None:
    said: list[str] = []
    folder = runtime.path.parent.parent
    assert build_runtime(folder, said.append) == runtime
    assert said == []


def test_build__kept_image_is_damaged__built_again(runtime: BuiltImage, tmp_path: Path) -> None:
    kept = tmp_path / runtime.path.parent.name / "runtime.tar"
    kept.parent.mkdir()
    kept.write_bytes(runtime.path.read_bytes()[:-20_000])
    said: list[str] = []
    assert build_runtime(tmp_path, said.append).image_id == runtime.image_id
    assert "damaged" in said[0]
    assert [each.name for each in kept.parent.iterdir()] == ["runtime.tar"]


def test_kept__many_of_a_name__the_newest_and_the_last_used_are_left(tmp_path: Path) -> None:
    content = iter(range(9))

    def build(work: Path) -> BuiltImage:
        return BuiltImage(*small_image(work, bytes([next(content)])))

    def make(key: str, name: str = "service") -> Path:
        return kept_or_built(tmp_path / key / f"{name}.tar", lambda _: None, build).path

    make("other", "runtime")
    for age, key in enumerate("abc"):
        made = make(key)
        os.utime(made, (age, age))
    assert names(tmp_path) == {"other/runtime.tar", "b/service.tar", "c/service.tar"}
    assert make("b").exists(), "used again, so it is not the one that goes"
    make("d")
    assert names(tmp_path) == {"other/runtime.tar", "b/service.tar", "d/service.tar"}
    assert {each.name for each in tmp_path.iterdir()} == {"other", "b", "d"}


def test_kept__a_build_goes_on_beside_an_old_one__it_is_not_disturbed(tmp_path: Path) -> None:
    def build(work: Path) -> BuiltImage:
        return BuiltImage(*small_image(work, work.name.encode()))

    for key in "abc":
        kept_or_built(tmp_path / key / "service.tar", lambda _: None, build)
        (tmp_path / key / "build-other").mkdir()
        os.utime(tmp_path / key / "service.tar", (1, 1))
    assert len(names(tmp_path)) == 2
    assert len(list(tmp_path.glob("*/build-other"))) == 3


def names(folder: Path) -> set[str]:
    """The tars in a folder."""
    return {str(each.relative_to(folder)) for each in folder.rglob("*.tar")}


def test_build__version_that_no_mirror_has__fails_and_tells_how_to_refresh(
    tmp_path: Path,
) -> None:
    packages = read_lock() | {"python3": "3.11.2-0+never"}
    write_lock(packages, tmp_path / "other.lock")
    with pytest.raises(ImageError, match=r"nodeclient\.images\.refresh"):
        build_runtime(tmp_path / "images", lambda _: None, tmp_path / "other.lock")
    assert list((tmp_path / "images").rglob("*.tar")) == []


def test_build__lock_lacks_a_package__fails(tmp_path: Path) -> None:
    packages = read_lock()
    del packages["media-types"]
    write_lock(packages, tmp_path / "other.lock")
    with pytest.raises(ImageError, match="media-types absent ->"):
        build_into(tmp_path, tmp_path / "other.lock")


def test_lock__committed_one__exact_versions_and_no_address() -> None:
    assert len(read_lock()) > 20
    assert "://" not in RUNTIME_LOCK.read_text()


@pytest.mark.parametrize(
    "text", ["", "python3", "python3=", "python3=1\npython3=1", "../x=1", "a=1;rm", "a =1", "a=1 "]
)
def test_lock__bad_line__refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.lock").write_text(text)
    with pytest.raises(ImageError, match="refresh"):
        read_lock(tmp_path / "bad.lock")


def test_versions__from_archive_names__epoch_decoded() -> None:
    names = ["zlib1g_1%3a1.2.13_amd64.deb", "lock", "partial", "media-types_10.0.0_all.deb"]
    assert versions_of(names) == {"zlib1g": "1:1.2.13", "media-types": "10.0.0"}


def test_check__extra_missing_or_other_version__named() -> None:
    with pytest.raises(ImageError, match="3 packages differ"):
        check_versions({"a": "1", "b": "2", "d": "4"}, {"a": "1", "b": "1", "c": "3"})
    check_versions({"a": "1"}, {"a": "1"})
