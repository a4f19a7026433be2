"""Packing and checking image tars: the same content is the same ID, anything else is refused."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import docker
import pytest

from nodeclient.images.errors import ImageError
from nodeclient.images.load import load_image
from nodeclient.images.pack import write_layer
from nodeclient.images.verify import verify_image
from tests.images.small import EPOCH, small_image, small_root

FILES = {"usr/bin/tool": b"tool", "usr/lib/a": b"a", "etc/resolv.conf": b"host", "proc/x": b"x"}
Members = dict[str, bytes]


def layer_of(folder: Path, files: dict[str, bytes], mode: int = 0o644, mtime: int = 5) -> bytes:
    folder.mkdir(exist_ok=True)
    root = small_root(folder / "root.tar", files, mode, mtime)
    write_layer(root, folder / "layer.tar", EPOCH)
    return (folder / "layer.tar").read_bytes()


def test_layer__order_times_and_owners_differ__same_bytes(tmp_path: Path) -> None:
    one = layer_of(tmp_path / "one", FILES)
    other = layer_of(tmp_path / "other", dict(reversed(FILES.items())), mtime=999)
    assert one == other


def test_layer__host_s_files__pruned(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(layer_of(tmp_path, FILES))) as layer:
        names = layer.getnames()
    assert "usr/bin/tool" in names
    assert "etc/resolv.conf" not in names
    assert not any(name.startswith("proc/") for name in names)
    assert names.count("proc") == 1


def test_layer__set_uid_program__loses_the_bit(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(layer_of(tmp_path, FILES, mode=0o6755))) as layer:
        assert layer.getmember("usr/bin/tool").mode == 0o755
        assert layer.getmember("tmp").mode == 0o1777


def test_verify__what_the_packer_made__its_config_digest(tmp_path: Path) -> None:
    image_id, path = small_image(tmp_path, b"x")
    assert verify_image(path) == image_id
    with tarfile.open(path) as tar:
        config = tar.extractfile("blobs/sha256/" + image_id.hex())
        assert config is not None
        assert hashlib.sha256(config.read()).digest() == image_id


def members_of(path: Path) -> Members:
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}  # type: ignore[union-attr]


def write_members(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            item = tarfile.TarInfo(name)
            item.size = len(content)
            tar.addfile(item, io.BytesIO(content))


def flip_layer(members: Members) -> list[tuple[str, bytes]]:
    [layer] = json.loads(members["manifest.json"])[0]["Layers"]
    members[layer] = members[layer][:-1] + b"!"
    return list(members.items())


def other_layer(members: Members) -> list[tuple[str, bytes]]:
    """A layer that matches its own name, under a config that names another."""
    manifest = json.loads(members["manifest.json"])
    new = b"another layer"
    name = "blobs/sha256/" + hashlib.sha256(new).hexdigest()
    del members[manifest[0]["Layers"][0]]
    manifest[0]["Layers"] = [name]
    return [*(members | {name: new, "manifest.json": json.dumps(manifest).encode()}).items()]


def tag(members: Members) -> list[tuple[str, bytes]]:
    manifest = json.loads(members["manifest.json"])
    manifest[0]["RepoTags"] = ["debian:latest"]
    return [*(members | {"manifest.json": json.dumps(manifest).encode()}).items()]


def second_image(members: Members) -> list[tuple[str, bytes]]:
    manifest = json.loads(members["manifest.json"])
    return [*(members | {"manifest.json": json.dumps(manifest * 2).encode()}).items()]


def extra_blob(members: Members) -> list[tuple[str, bytes]]:
    return [*members.items(), ("blobs/sha256/" + hashlib.sha256(b"y").hexdigest(), b"y")]


def extra_file(members: Members) -> list[tuple[str, bytes]]:
    return [*members.items(), ("repositories", b"{}")]


def duplicate(members: Members) -> list[tuple[str, bytes]]:
    return [*members.items(), ("manifest.json", members["manifest.json"])]


def other_index(members: Members) -> list[tuple[str, bytes]]:
    """An OCI index for another image: newer engines read it instead of manifest.json."""
    index = json.loads(members["index.json"])
    manifest = json.loads(members["blobs/sha256/" + index["manifests"][0]["digest"][7:]])
    del members["blobs/sha256/" + index["manifests"][0]["digest"][7:]]
    manifest["config"]["digest"] = "sha256:" + "0" * 64
    blob = json.dumps(manifest).encode()
    digest = hashlib.sha256(blob).hexdigest()
    index["manifests"][0]["digest"] = "sha256:" + digest
    changed = {"blobs/sha256/" + digest: blob, "index.json": json.dumps(index).encode()}
    return [*(members | changed).items()]


def deep_json(members: Members) -> list[tuple[str, bytes]]:
    return [*(members | {"manifest.json": b"[" * 100_000}).items()]


@pytest.mark.parametrize(
    "change",
    [
        *(flip_layer, other_layer, tag, second_image, extra_blob, extra_file),
        *(duplicate, other_index, deep_json),
    ],
)
def test_verify__image_tar_was_changed__refused(
    tmp_path: Path, change: Callable[[Members], list[tuple[str, bytes]]]
) -> None:
    _, path = small_image(tmp_path, b"x")
    write_members(path, change(members_of(path)))
    with pytest.raises(ImageError, match="build"):
        verify_image(path)


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_verify__truncated__refused(tmp_path: Path, size: int) -> None:
    _, path = small_image(tmp_path, b"x")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ImageError, match="build"):
        verify_image(path)


def test_verify__link_instead_of_a_blob__refused(tmp_path: Path) -> None:
    _, path = small_image(tmp_path, b"x")
    with tarfile.open(path, "a") as tar:
        item = tarfile.TarInfo("oci-layout-link")
        item.type, item.linkname = tarfile.SYMTYPE, "/etc/shadow"
        tar.addfile(item)
    with pytest.raises(ImageError, match="build"):
        verify_image(path)


def test_load__verified_tar__under_its_id_and_without_a_tag(
    tmp_path: Path, engine: docker.DockerClient
) -> None:
    image_id, path = small_image(tmp_path, b"loaded")
    name = "sha256:" + image_id.hex()
    try:
        assert load_image(path) == image_id
        assert engine.images.get(name).id == name
        assert engine.images.get(name).tags == []
        assert load_image(path) == image_id
    finally:
        engine.images.remove(name)


def test_load__changed_tar__never_reaches_the_engine(
    tmp_path: Path, engine: docker.DockerClient
) -> None:
    image_id, path = small_image(tmp_path, b"changed")
    write_members(path, tag(members_of(path)))
    with pytest.raises(ImageError, match="tag"):
        load_image(path)
    with pytest.raises(docker.errors.ImageNotFound):
        engine.images.get("sha256:" + image_id.hex())
