"""``python -m nodeclient.images.refresh``: take the current package versions into the locks."""

import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from nodeclient.images.boot.contents import KERNEL, PACKAGES
from nodeclient.images.boot.packages import download
from nodeclient.images.boot.recipe import BOOT_LOCK
from nodeclient.images.bootstrap import bootstrap
from nodeclient.images.build import EPOCH
from nodeclient.images.eraser import workshop
from nodeclient.images.errors import ImageError
from nodeclient.images.lock import RUNTIME_LOCK, versions_of, write_lock
from nodeclient.images.service.build import PACKAGES as SERVICE_PACKAGES
from nodeclient.images.service.build import SERVICE_LOCK

RUNTIME_PACKAGES = ("python3",)  # apt adds what it needs
_DEPENDS = re.compile(r"(linux-image-[a-z0-9.-]+) \(= ([0-9A-Za-z.+:~-]+)\)")


def refresh_runtime(path: Path = RUNTIME_LOCK) -> Mapping[str, str]:
    """Write the versions that the host's mirror gives now into ``path``; return them."""
    with tempfile.TemporaryDirectory(prefix="sealrun-lock-") as work:
        packages = bootstrap(RUNTIME_PACKAGES, Path(work) / "root.tar", EPOCH)
    write_lock(packages, path)
    return packages


def refresh_service(path: Path = SERVICE_LOCK) -> Mapping[str, str]:
    """The same for the image of the node's services."""
    with tempfile.TemporaryDirectory(prefix="sealrun-lock-") as work:
        packages = bootstrap(SERVICE_PACKAGES, Path(work) / "root.tar", EPOCH)
    write_lock(packages, path)
    return packages


def refresh_boot(path: Path = BOOT_LOCK) -> Mapping[str, str]:
    """The same for the boot image, whose packages are named one by one; only the kernel's package
    has its version in its name, which the release's meta package tells."""
    with tempfile.TemporaryDirectory(prefix="sealrun-lock-") as work:
        download([*PACKAGES, KERNEL], Path(work))
        files = {each.name.split("_", 1)[0]: each for each in Path(work).glob("*.deb")}
        packages = versions_of(each.name for each in files.values())
        kernel, version = kernel_of(files[KERNEL])
    del packages[KERNEL]
    packages[kernel] = version
    write_lock(packages, path)
    return packages


def refresh_eraser(
    path: Path = workshop.ERASER_LOCK, source: Path = workshop.SOURCE_LOCK
) -> Mapping[str, str]:
    """The same for the eraser's compiler and the kernel's sources, whose hash goes to `source`."""
    with tempfile.TemporaryDirectory(prefix="sealrun-lock-") as work:
        archive = Path(work) / "root.tar"
        packages = bootstrap(workshop.PACKAGES, archive, EPOCH)
        with tarfile.open(archive) as tar:
            member = tar.extractfile(f"./{workshop.LINUX}")
            if member is None:
                raise ImageError("the kernel's sources are no file; look at the package")
            digest = hashlib.file_digest(member, "sha256").hexdigest()  # type: ignore[arg-type]
    write_lock(packages, path)
    source.write_text(f"{digest}  {Path(workshop.LINUX).name}\n")
    return packages


def kernel_of(meta: Path) -> tuple[str, str]:
    """(name, version) of the kernel package that the meta package stands for."""
    command = ["dpkg-deb", "--field", str(meta), "Depends"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    match = _DEPENDS.search(said)
    if match is None:
        raise ImageError(f"{meta.name} names no kernel; look at it: dpkg-deb --info")
    return match[1], match[2]


if __name__ == "__main__":
    try:
        counts = {
            RUNTIME_LOCK: len(refresh_runtime()),
            SERVICE_LOCK: len(refresh_service()),
            BOOT_LOCK: len(refresh_boot()),
            workshop.ERASER_LOCK: len(refresh_eraser()),
        }
    except ImageError as error:
        sys.exit(str(error))
    for lock, count in counts.items():
        sys.stdout.write(f"{lock.name}: {count} packages\n")
    sys.stdout.write("build the images and approve their IDs\n")
