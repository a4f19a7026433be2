"""Fetch and unpack the packages of a runtime image with mmdebstrap.

The packages come from the mirrors that this host is configured for, signatures checked by apt; no
download address stands in this repository.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from nodeclient.images.errors import ImageError
from nodeclient.images.lock import REFRESH, versions_of

SECONDS = 600.0  # 6 s with a near mirror; a bound so that a dead mirror hangs nobody
SUITE = "bookworm"
# The hook must write to a path it is given: the chroot is gone when mmdebstrap returns.
_HOOK = 'ls "$1/var/cache/apt/archives" > "$SEALRUN_PACKAGES"'


def bootstrap(packages: Sequence[str], target: Path, epoch: int) -> dict[str, str]:
    """Unpack ``packages`` and what they need into the tar ``target``; return name -> version.

    ``packages`` are names or ``name=version``. Raises `ImageError`.
    """
    program = shutil.which("mmdebstrap")
    if program is None:
        raise ImageError("no mmdebstrap; install it: apt-get install mmdebstrap")
    listing = target.with_suffix(".packages")
    command = [
        program,
        "--variant=extract",
        "--format=tar",
        f"--include={','.join(packages)}",
        f'--aptopt=APT::Default-Release "{SUITE}"',
        f"--extract-hook={_HOOK}",
        SUITE,
        str(target),
        *sources(),
    ]
    settings = {"SOURCE_DATE_EPOCH": str(epoch), "SEALRUN_PACKAGES": str(listing)}
    run(command, settings)
    return versions_of(listing.read_text().splitlines())


def sources() -> list[str]:
    """Return the host's own apt sources, if it is of the same suite; else mmdebstrap's default."""
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    return [
        str(file)
        for file in files
        if file.suffix in (".list", ".sources") and file.is_file() and SUITE in file.read_text()
    ]


def _passed_on() -> tuple[str, ...]:
    """Names of the environment that a host behind a proxy needs; nothing else is inherited."""
    return ("http_proxy", "https_proxy", "no_proxy", "HOME", "TMPDIR")


def run(command: Sequence[str], settings: dict[str, str]) -> None:
    """Run mmdebstrap with ``settings`` in an otherwise clean environment. Raises `ImageError`."""
    environment = {
        **{name: os.environ[name] for name in _passed_on() if name in os.environ},
        "LC_ALL": "C.UTF-8",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        **settings,
    }
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        _, complaint = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)  # mmdebstrap cleans its chroot on SIGTERM
        process.communicate(timeout=60)
        raise ImageError(
            f"mmdebstrap did not end within {SECONDS:.0f} s; check this host's package mirror"
        ) from None
    if process.returncode == 0:
        return
    if "E: Version" in complaint:  # apt: a version that was asked for is not in any list
        raise ImageError(f"the mirror no longer has the locked package versions; {REFRESH}")
    lines = [line for line in complaint.splitlines() if line.startswith(("E:", "mmdebstrap"))]
    reason = (lines or complaint.splitlines() or ["no reason given"])[0][:160]
    raise ImageError(f"mmdebstrap failed ({reason}); try apt-get update, then again")
