"""Programs that the build runs, taken from locked packages: the host's versions do not matter."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from nodeclient.images.errors import ImageError

_LOADER = "lib64/ld-linux-x86-64.so.2"
_LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
SECONDS = 900  # 140 s for the slowest, packing the root, on two busy cores


class Tools:
    """The packages `packages`, unpacked under `folder` and run through their own loader."""

    def __init__(self, folder: Path, packages: Iterable[Path]) -> None:
        self._folder = folder.absolute()
        for package in packages:
            command = ["dpkg-deb", "--extract", str(package), str(folder)]
            if subprocess.run(command, check=False, capture_output=True).returncode:
                raise ImageError(f"{package.name} cannot be unpacked; build the image again")

    def run(
        self,
        program: str,
        arguments: Sequence[str],
        source: BinaryIO | None = None,
        *,
        name: str = "",
        folder: Path | None = None,
    ) -> bytes:
        """What `program` (its path in the packages), called `name`, writes. Raises ImageError."""
        paths = ":".join(str(self._folder / each) for each in _LIBRARIES)
        command = [str(self._folder / _LOADER), "--library-path", paths]
        command += ["--argv0", name or program.rpartition("/")[2], str(self._folder / program)]
        try:
            done = subprocess.run(
                [*command, *arguments],
                stdin=source or subprocess.DEVNULL,
                capture_output=True,
                timeout=SECONDS,
                check=False,
                cwd=folder,
                env={
                    "LC_ALL": "C.UTF-8",
                    "PATH": "/usr/bin:/bin",
                    "PYTHONHASHSEED": "0",
                    "PYTHONHOME": str(self._folder / "usr"),
                },
            )
        except subprocess.TimeoutExpired:
            raise ImageError(f"{program} did not end within {SECONDS} s; build again") from None
        if done.returncode:
            complaint = (done.stderr.decode("utf-8", "replace").splitlines() or ["no reason"])[-1]
            raise ImageError(f"{program} failed ({complaint[:160]}); check this host's disk")
        return done.stdout
