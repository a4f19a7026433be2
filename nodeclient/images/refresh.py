"""``python -m nodeclient.images.refresh``: take the current package versions into the lock."""

import sys
import tempfile
from pathlib import Path

from nodeclient.images.bootstrap import bootstrap
from nodeclient.images.build import EPOCH
from nodeclient.images.errors import ImageError
from nodeclient.images.lock import RUNTIME_LOCK, write_lock

PACKAGES = ("python3",)  # apt adds what it needs


def refresh_lock(path: Path = RUNTIME_LOCK) -> int:
    """Write the versions that the host's mirror gives now into ``path``; return how many."""
    with tempfile.TemporaryDirectory(prefix="sealrun-lock-") as work:
        packages = bootstrap(PACKAGES, Path(work) / "root.tar", EPOCH)
    write_lock(packages, path)
    return len(packages)


if __name__ == "__main__":
    try:
        count = refresh_lock()
    except ImageError as error:
        sys.exit(str(error))
    sys.stdout.write(f"{RUNTIME_LOCK.name}: {count} packages; build the image and approve its ID\n")
