"""Pack a root file system into one deterministic image tar.

``docker import`` and ``docker build`` stamp times and so give a new ID every time; here every byte
is a function of the files' names, modes and contents. The result is an OCI image layout *and* a
``docker load`` archive (OCI image-spec, image-layout.md), with one uncompressed layer, so that the
layer's digest is its diff ID and the image ID (the config's digest) is the same in every engine.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

# Left out of the layer: what the host leaks into it (mmdebstrap copies resolv.conf and hostname,
# hooks see the host's /proc), what the engine provides, and what only a package manager needs.
PRUNED = (
    "boot", "dev", "etc/apt", "etc/cron.daily", "etc/dpkg", "etc/fstab", "etc/hostname",
    "etc/logrotate.d", "etc/resolv.conf", "lib/systemd", "proc", "run", "sbin", "sys", "tmp",
    "usr/bin/dpkg*", "usr/libexec/dpkg", "usr/sbin", "usr/share/bug", "usr/share/doc",
    "usr/share/info", "usr/share/lintian", "usr/share/locale", "usr/share/man", "var",
)  # fmt: skip
# Mount points, and the one account that a container runs under.
# An engine copies the mode of /tmp in the image to the RAM disk that it mounts there.
EMPTY_DIRS: Mapping[str, int] = {
    **dict.fromkeys(("capsule", "dev", "proc", "sys", "var"), 0o755),
    "tmp": 0o1777,
}
_ACCOUNTS = {
    "etc/passwd": b"root:x:0:0:root:/:/bin/false\nnobody:x:65534:65534:nobody:/tmp:/bin/false\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
}


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What the image says of itself: all of it enters the image ID."""

    architecture: str  # as the OCI spec names it: amd64, arm64
    epoch: int  # seconds since 1970: the time of every file and of the image
    environment: tuple[str, ...]
    user: str = "65534:65534"
    entrypoint: tuple[str, ...] = ()


def write_layer(
    root: Path,
    layer: Path,
    epoch: int,
    pruned: Sequence[str] = PRUNED,
    folders: Mapping[str, int] = EMPTY_DIRS,
) -> str:
    """Write the tar ``root`` (as mmdebstrap gives it) as a canonical layer; return its SHA-256.

    ``pruned`` stays out, ``folders`` are there with these modes. Of two files with one name the
    later counts. Owners become root, times ``epoch``, and set-uid bits vanish: no program of an
    image may raise its rights. Names are sorted, so that the order of extraction cannot matter.
    """
    with (
        tarfile.open(root, "r:") as source,
        tarfile.open(layer, "w", format=tarfile.GNU_FORMAT) as sink,
    ):
        members = {_name(item): item for item in source if _kept(_name(item), pruned)}
        for folder, mode in folders.items():
            members[folder] = _folder(folder, mode)
        for name, item in sorted(members.items()):
            body = source.extractfile(item) if item.isreg() else None
            sink.addfile(_normalised(item, name, epoch), body)
        for name, content in sorted(_ACCOUNTS.items()):
            _add(sink, name, content, epoch)
    return _sha256_file(layer)


def write_image(layer: Path, digest: str, target: Path, config: ImageConfig) -> bytes:
    """Write the image tar around ``layer``; return the image ID (32 bytes)."""
    created = datetime.fromtimestamp(config.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    described = _json(
        {
            "architecture": config.architecture,
            "os": "linux",
            "created": created,
            "config": {
                "Env": list(config.environment),
                "User": config.user,
                "WorkingDir": "/",
                **({"Entrypoint": list(config.entrypoint)} if config.entrypoint else {}),
            },
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]},
            "history": [{"created": created, "created_by": "sealrun"}],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("config.v1+json", described),
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": "sha256:" + digest,
                    "size": layer.stat().st_size,
                }
            ],
        }
    )
    index = {"schemaVersion": 2, "manifests": [_descriptor("manifest.v1+json", manifest)]}
    config_name, layer_name = "blobs/sha256/" + _sha256(described), "blobs/sha256/" + digest
    loadable = [{"Config": config_name, "RepoTags": None, "Layers": [layer_name]}]
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as sink:
        for folder in ("blobs", "blobs/sha256"):
            sink.addfile(_normalised(_folder(folder), folder, config.epoch))
        _add(sink, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}), config.epoch)
        _add(sink, "index.json", _json(index), config.epoch)
        _add(sink, "manifest.json", _json(loadable), config.epoch)
        _add(sink, config_name, described, config.epoch)
        _add(sink, "blobs/sha256/" + _sha256(manifest), manifest, config.epoch)
        with layer.open("rb") as body:
            item = tarfile.TarInfo(layer_name)
            item.size = layer.stat().st_size
            sink.addfile(_normalised(item, layer_name, config.epoch), body)
    return bytes.fromhex(_sha256(described))


def _name(item: tarfile.TarInfo) -> str:
    return item.name.removeprefix("./").strip("/")


def _kept(name: str, pruned: Sequence[str]) -> bool:
    if name in ("", "."):
        return False
    return not any(
        name.startswith(pattern[:-1])
        if pattern.endswith("*")
        else name == pattern or name.startswith(pattern + "/")
        for pattern in pruned
    )


def _folder(name: str, mode: int = 0o755) -> tarfile.TarInfo:
    item = tarfile.TarInfo(name)
    item.type, item.mode = tarfile.DIRTYPE, mode
    return item


def _normalised(item: tarfile.TarInfo, name: str, epoch: int) -> tarfile.TarInfo:
    clean = tarfile.TarInfo(name)
    clean.type, clean.size = item.type, item.size if item.isreg() else 0
    clean.mode = _mode(item)
    clean.mtime = epoch
    clean.linkname = item.linkname.removeprefix("./") if item.islnk() else item.linkname
    return clean


def _mode(item: tarfile.TarInfo) -> int:
    if item.issym():
        return 0o777
    return item.mode & (0o1777 if item.isdir() else 0o755)


def _add(sink: tarfile.TarFile, name: str, content: bytes, epoch: int) -> None:
    item = tarfile.TarInfo(name)
    item.size, item.mode = len(content), 0o644
    sink.addfile(_normalised(item, name, epoch), io.BytesIO(content))


def _descriptor(kind: str, content: bytes) -> Mapping[str, object]:
    return {
        "mediaType": f"application/vnd.oci.image.{kind}",
        "digest": "sha256:" + _sha256(content),
        "size": len(content),
    }


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sha256_file(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
