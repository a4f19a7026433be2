"""Debian packages in exactly the locked versions, and what is in them.

They come from the mirrors that this host is configured for, signatures checked by apt inside
mmdebstrap. Only the packages that the lock names are fetched: nothing is resolved, so nothing can
come along.
"""

from __future__ import annotations

import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nodeclient.images.boot.tree import Node, Tree, file, folder, link
from nodeclient.images.bootstrap import SUITE, run, sources
from nodeclient.images.errors import ImageError
from nodeclient.images.lock import check_versions, versions_of

_FETCH = (
    'cd "$SEALRUN_DEBS" && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" '
    "apt-get -qq -o APT::Sandbox::User=root download $SEALRUN_WANTED"
)


def fetch(locked: Mapping[str, str], target: Path) -> dict[str, Path]:
    """Download the packages into the empty folder `target`; name -> file. Raises ImageError."""
    download([f"{name}={version}" for name, version in sorted(locked.items())], target)
    files = sorted(target.glob("*.deb"))
    check_versions(versions_of(each.name for each in files), locked)
    return {each.name.split("_", 1)[0]: each for each in files}


def download(wanted: Sequence[str], target: Path) -> None:
    """Download packages, as ``name`` or ``name=version``, into `target`. Raises ImageError."""
    program = shutil.which("mmdebstrap")
    if program is None:
        raise ImageError("no mmdebstrap; install it: apt-get install mmdebstrap")
    command = [
        program,
        "--variant=custom",
        "--format=null",
        "--architectures=amd64",
        f'--aptopt=APT::Default-Release "{SUITE}"',
        f"--customize-hook={_FETCH}",
        SUITE,
        "/dev/null",
        *sources(),
    ]
    settings = {"SEALRUN_DEBS": str(target.absolute()), "SEALRUN_WANTED": " ".join(wanted)}
    run(command, settings)


def members(package: Path) -> Iterator[tuple[str, Node]]:
    """(path, node) of every file, folder and link in a package; hard links become files."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        seen: Tree = {}
        with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
            for item in tar:
                path = item.name.removeprefix("./").strip("/")
                if path in ("", "."):
                    continue
                node = _node(tar, item, seen)
                seen[path] = node
                yield path, node
    if process.returncode:
        raise ImageError(f"{package.name} is damaged; build the image again")


def _node(tar: tarfile.TarFile, item: tarfile.TarInfo, seen: Mapping[str, Node]) -> Node:
    if item.isdir():
        return folder(item.mode & 0o1777)
    if item.issym():
        return link(item.linkname)
    if item.islnk():
        return seen[item.linkname.removeprefix("./")]
    if not item.isreg():
        raise ImageError(f"a package brings {item.name}, a {stat.filemode(item.mode)[0]!r} file")
    body = tar.extractfile(item)
    assert body is not None
    return file(body.read(), item.mode)
