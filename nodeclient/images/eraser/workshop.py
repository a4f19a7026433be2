"""The root in which the eraser is compiled: Debian's compiler, in exactly the locked versions.

A compiler of another version gives other bytes, and so another image ID: none of the host's tools
takes part. The kernel's sources come from the same lock; Debian signs its package list, and the
archive inside is held against a SHA-256 of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nodeclient.images.boot.recipe import EPOCH
from nodeclient.images.bootstrap import bootstrap
from nodeclient.images.errors import ImageError
from nodeclient.images.lock import REFRESH, check_versions, read_lock

HERE = Path(__file__).parent
ERASER_LOCK = HERE / "eraser.lock"
SOURCE_LOCK = HERE / "linux.sha256"  # of the kernel's source archive, in hexadecimal
# What the lock is resolved from; apt adds what these need.
PACKAGES = (
    *("gcc", "libc6-dev", "make", "flex", "bison", "bc", "libelf-dev", "perl-base"),
    *("dash", "coreutils", "sed", "grep", "mawk", "findutils", "diffutils", "gzip", "xz-utils"),
    *("tar", "linux-source-6.1", "systemd-boot-efi"),
)
# Minutes of compilation hang on it, so it is no hash of this code: raise it when the steps change.
RECIPE = 1
LINUX = "usr/src/linux-source-6.1.tar.xz"
STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# apt's own choice among several programs of one name is made by scripts, which do not run here.
_LINKS = {"usr/bin/awk": "mawk", "usr/bin/cc": "gcc"}


@dataclass(frozen=True, slots=True)
class Workshop:
    """The unpacked root at `path`."""

    path: Path

    def run(
        self, command: Sequence[str], seconds: float, settings: Mapping[str, str] | None = None
    ) -> None:
        """Run a command in the root. Raises ImageError with its last complaint."""
        fixed = {"LC_ALL": "C.UTF-8", "PATH": _PATH, "SOURCE_DATE_EPOCH": str(EPOCH)}
        try:
            done = subprocess.run(
                ["/usr/sbin/chroot", str(self.path), *command],
                env={**fixed, **(settings or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ImageError(
                f"{command[0]} did not end within {seconds:.0f} s; try again"
            ) from None
        except OSError as error:
            raise ImageError("no chroot on this host; install coreutils") from error
        if done.returncode:
            lines = done.stderr.decode("utf-8", "replace").splitlines()
            reason = next((each for each in lines if "rror" in each), (lines or ["no reason"])[-1])
            raise ImageError(f"{command[0]} failed ({reason[:160]}); build the eraser again")

    def folder(self, name: str) -> Path:
        """A new, empty folder /name in the root."""
        made = self.path / name
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        return made

    def linux(self) -> Path:
        """The archive of the kernel's sources, checked. Raises ImageError."""
        archive = self.path / LINUX
        with archive.open("rb") as source:
            found = hashlib.file_digest(source, "sha256").hexdigest()
        if found != SOURCE_LOCK.read_text().split()[0]:
            raise ImageError(f"{archive.name} is not the locked one; {REFRESH}")
        return archive


def key() -> str:
    """Under which the root is kept: all that decides it."""
    digest = hashlib.sha256(repr((RECIPE, EPOCH, sorted(_LINKS.items()))).encode())
    for part in (ERASER_LOCK, SOURCE_LOCK):
        digest.update(part.read_bytes())
    return digest.hexdigest()[:24]


@contextlib.contextmanager
def open_workshop(folder: Path) -> Iterator[Workshop]:
    """The root, unpacked into ``folder/workshop-<key>/`` unless it is there, for us alone.

    Its working folders have fixed names, because compiled bytes hold them: a second process waits
    until the first is done. Raises ImageError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        target = folder / f"workshop-{key()}"
        if not target.is_dir():
            _unpack(folder, target)
        yield Workshop(target)


def _unpack(folder: Path, target: Path) -> None:
    if os.geteuid() != 0:
        raise ImageError("the eraser is compiled in a root of its own, which takes root; use sudo")
    locked = read_lock(ERASER_LOCK)
    with tempfile.TemporaryDirectory(dir=folder, prefix="workshop-new-") as name:
        archive, root = Path(name) / "root.tar", Path(name) / "root"
        wanted = [f"{package}={version}" for package, version in sorted(locked.items())]
        check_versions(bootstrap(wanted, archive, EPOCH), locked)
        root.mkdir()
        unpack = ["tar", "-C", str(root), "-xf", str(archive)]
        if subprocess.run(unpack, capture_output=True, check=False).returncode:
            raise ImageError("the compiler cannot be unpacked; see whether the disk is full")
        for path, aim in _LINKS.items():
            if not (root / path).is_symlink():
                (root / path).symlink_to(aim)
        Workshop(root).linux()
        os.replace(root, target)
