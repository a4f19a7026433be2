"""Build the SERVICE image: the node's daemon on Debian's Python, the same bytes everywhere.

As the runtime image: locked packages unpacked by mmdebstrap, one canonical layer, nothing stamped.
On top the wheels of requirements.lock and this checkout's own ``nodeclient`` and ``agent``. Built
images are kept under ``<folder>/<key>/``, the key being the hash of all that goes in.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path

import agent as agent_package
import nodeclient as node_package
from nodeclient.images import bootstrap as bootstrap_module
from nodeclient.images import pack as pack_module
from nodeclient.images.boot.wheels import REQUIREMENTS, entries
from nodeclient.images.bootstrap import bootstrap
from nodeclient.images.build import EPOCH, BuiltImage, Progress, architecture, kept_or_built
from nodeclient.images.errors import ImageError
from nodeclient.images.lock import check_versions, read_lock
from nodeclient.images.pack import PRUNED, ImageConfig, write_image, write_layer
from nodeclient.images.service import wheels
from nodeclient.images.service.bytecode import bytecode
from nodeclient.images.verify import verify_image

SERVICE_LOCK = Path(__file__).with_name("service.lock")
# nftables and iproute2 hold the cable, dnsmasq serves a boot; libtss2 speaks to a TPM.
PACKAGES = (
    *("python3", "nftables", "iproute2", "dnsmasq-base"),
    *("libtss2-esys-3.0.2-0", "libtss2-tcti-device0"),
)
HOME = "usr/lib/sealrun"
ENVIRONMENT = (
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/tmp",
    "LANG=C.UTF-8",
    "PYTHONDONTWRITEBYTECODE=1",
    f"PYTHONPATH=/{HOME}:/{HOME}/python",
)
ENTRYPOINT = ("/usr/bin/python3", "-m", "nodeclient.cli")
# All that can be started: no shell, no package manager, nothing that raises rights.
PROGRAMS = frozenset(
    {
        *("usr/bin/python3", "usr/bin/python3.11"),
        *("usr/sbin/nft", "usr/sbin/dnsmasq", "bin/ip", "sbin/ip"),
    }
)
_BINARIES = ("bin", "sbin", "usr/bin", "usr/sbin")
_NOT_FOR_RUNNING = (
    *(each for each in PRUNED if each not in _BINARIES),
    *("usr/share", "etc/init.d", "etc/security", "etc/pam.d", "lib/udev", "usr/lib/tmpfiles.d"),
)
_FOLDERS = {
    **dict.fromkeys(("dev", "proc", "sys", "var", "run", "node"), 0o755),
    "tmp": 0o1777,
}
_SOURCES = frozenset(
    (".py", ".lock", ".json", ".sh", ".c", ".h", ".config", ".sha256", ".toml", ".txt")
)


def build_service(folder: Path, progress: Progress) -> BuiltImage:
    """Return the service image of this checkout, built into ``folder`` unless it lies there.

    Raises `ImageError` if packages or wheels cannot be had in exactly the locked versions.
    """
    return kept_or_built(folder / _key() / "service.tar", progress, build_into)


def build_into(work: Path, lock: Path = SERVICE_LOCK) -> BuiltImage:
    """Build the image in the empty folder ``work``, without looking at kept ones."""
    locked = read_lock(lock)
    root, layer, target = work / "root.tar", work / "layer.tar", work / "image.tar"
    found = bootstrap([f"{name}={version}" for name, version in locked.items()], root, EPOCH)
    check_versions(found, locked)
    fetched = work / "wheels"
    fetched.mkdir()
    with tarfile.open(root, "a:", format=tarfile.GNU_FORMAT) as sink:
        chosen = wheels.fetch(REQUIREMENTS, architecture(), fetched)
        wheels.add_wheels(chosen, f"{HOME}/python", sink)
        for name, content in sources():
            wheels.add(sink, f"{HOME}/{name}", content)
    if architecture() == "amd64":
        with tarfile.open(root, "a:", format=tarfile.GNU_FORMAT) as sink:
            compiled = work / "compiled"
            compiled.mkdir()
            for name, content in bytecode(root, compiled):
                wheels.add(sink, name, content)
    digest = write_layer(root, layer, EPOCH, [*_NOT_FOR_RUNNING, *_other_programs(root)], _FOLDERS)
    config = ImageConfig(architecture(), EPOCH, ENVIRONMENT, "0:0", ENTRYPOINT)
    image_id = write_image(layer, digest, target, config)
    if verify_image(target) != image_id:
        raise ImageError("the image just built does not verify; check this host's disk")
    return BuiltImage(image_id, target)


def _other_programs(root: Path) -> Iterator[str]:
    """What else the packages bring into the folders of programs."""
    with tarfile.open(root, "r:") as tar:
        for name in tar.getnames():
            path = name.removeprefix("./")
            if path.rpartition("/")[0] in _BINARIES and path not in PROGRAMS:
                yield path


def sources() -> Iterator[tuple[str, bytes]]:
    """(path, content) of every file of ``nodeclient`` and ``agent``, sorted."""
    for package in (agent_package, node_package):
        folder = Path(str(package.__file__)).parent
        for file in sorted(folder.rglob("*")):
            if file.is_file() and file.suffix in _SOURCES and "__pycache__" not in file.parts:
                yield f"{folder.name}/{file.relative_to(folder)}", file.read_bytes()


def _key() -> str:
    """Hash what decides the image."""
    digest = hashlib.sha256()
    for module in (pack_module, bootstrap_module):
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update(SERVICE_LOCK.read_bytes())
    digest.update(repr(entries(REQUIREMENTS, wheels.NAMES)).encode())
    digest.update(repr((architecture(), EPOCH, ENVIRONMENT, ENTRYPOINT, _FOLDERS)).encode())
    for name, content in sources():
        digest.update(name.encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()[:24]
