"""The runtime image's tar: an OCI layout that is also a ``docker load`` archive, and its check.

Both sides check it before an engine sees it: the Pi when it was built, the Agent when it arrived.
The image ID is the SHA-256 of the config blob (OCI image-spec, config.md), and the config names
each layer by the digest of its uncompressed tar, so a tar whose blobs match that chain holds
exactly the image that the TaskSpec names. Everything not needed for that is refused: tags (loading
must never move a tag), other images, other blobs, links, devices, duplicate names.
"""

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any, BinaryIO, Final

MAX_JSON: Final = 256 * 1024  # a config or manifest of one layer has about 600 bytes
MAX_MEMBERS: Final = 64
MAX_LAYERS: Final = 16
_MAX_BRACKETS: Final = 512  # ours have 12
_READ: Final = 1 << 20
_BLOBS: Final = "blobs/sha256/"
_PLAIN: Final = ("oci-layout", "index.json", "manifest.json")


class ImageTarError(ValueError):
    """The tar is not exactly one verified image."""


def check_image_tar(path: Path) -> bytes:
    """Return the image ID (32 bytes) of the image tar at ``path``, every blob verified.

    Raises `ImageTarError` if anything in the tar is not accounted for by that ID.
    """
    try:
        with path.open("rb") as source:
            digests, texts = _read_members(source)
        return _check_chain(digests, texts)
    except (tarfile.TarError, OSError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise ImageTarError(f"image tar is malformed ({error}); build it again") from error


def _read_members(source: BinaryIO) -> tuple[dict[str, str], dict[str, bytes]]:
    """Hash every blob; return digests by blob name and the texts of the small members."""
    digests: dict[str, str] = {}
    texts: dict[str, bytes] = {}
    with tarfile.open(fileobj=source, mode="r:") as tar:
        for count, member in enumerate(tar):
            if count >= MAX_MEMBERS:
                raise ImageTarError("image tar has too many members; build it again")
            if member.isdir() and member.name in ("blobs", "blobs/sha256"):
                continue
            name = member.name
            blob = name.startswith(_BLOBS)
            if not member.isreg() or name in texts or not (blob or name in _PLAIN):
                raise ImageTarError(f"image tar holds {name[:80]!r}; build it again")
            body = tar.extractfile(member)
            if body is None:
                raise ImageTarError("image tar has an unreadable member; build it again")
            digest, text = hashlib.sha256(), b""
            while part := body.read(_READ):
                digest.update(part)
                text = (text + part)[: MAX_JSON + 1]
            texts[name] = text
            if blob:
                digests[name] = digest.hexdigest()
                if name != _BLOBS + digests[name]:
                    raise ImageTarError("a blob does not match its name; build the image again")
    return digests, texts


def _check_chain(digests: dict[str, str], texts: dict[str, bytes]) -> bytes:
    entries = _json(texts["manifest.json"])
    if not isinstance(entries, list) or len(entries) != 1:
        raise ImageTarError("image tar must hold exactly one image; build it again")
    entry = entries[0]
    if entry.get("RepoTags"):
        raise ImageTarError("image tar carries a tag; images go by ID only: build it again")
    config_name, layers = entry["Config"], entry["Layers"]
    if config_name not in digests or not isinstance(layers, list):
        raise ImageTarError("image tar lacks its config; build it again")
    if not 1 <= len(layers) <= MAX_LAYERS or any(name not in digests for name in layers):
        raise ImageTarError("image tar lacks a layer; build it again")
    config = _json(texts[config_name])
    if config["rootfs"]["diff_ids"] != ["sha256:" + digests[name] for name in layers]:
        raise ImageTarError("the layers are not those that the image ID names; build it again")
    manifest_name = _check_index(texts, config_name, layers)
    if set(digests) != {config_name, manifest_name, *layers}:
        raise ImageTarError("image tar holds blobs of something else; build it again")
    return bytes.fromhex(digests[config_name])


def _check_index(texts: dict[str, bytes], config_name: str, layers: list[str]) -> str:
    """Check that the OCI index describes the same image as the docker manifest."""
    descriptors = _json(texts["index.json"])["manifests"]
    if len(descriptors) != 1:
        raise ImageTarError("the OCI index must name exactly one image; build it again")
    name = _blob(descriptors[0]["digest"])
    manifest = _json(texts[name])
    if _blob(manifest["config"]["digest"]) != config_name:
        raise ImageTarError("the OCI index names another image; build it again")
    if [_blob(layer["digest"]) for layer in manifest["layers"]] != layers:
        raise ImageTarError("the OCI index names other layers; build it again")
    return name


def _blob(digest: str) -> str:
    return _BLOBS + digest.removeprefix("sha256:")


def _json(text: bytes) -> Any:
    if len(text) > MAX_JSON:
        raise ImageTarError("image tar holds an oversized description; build it again")
    if text.count(b"[") + text.count(b"{") > _MAX_BRACKETS:
        # Deep nesting overflows the C stack of json where the recursion limit was raised.
        raise ImageTarError("image tar holds an absurd description; build it again")
    try:
        return json.loads(text)
    except ValueError as error:
        raise ImageTarError("image tar holds malformed JSON; build it again") from error
