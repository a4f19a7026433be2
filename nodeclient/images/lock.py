"""The runtime image's lock: the exact version of every package in it, ``name=version`` a line.

The image ID is reproducible only against the same packages. The lock takes the versions of the
release's own suite, which changes only with a point release, so that it stays buildable for months
on any mirror; a build that would get anything else fails instead of giving another ID.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote

from nodeclient.images.errors import ImageError

RUNTIME_LOCK = Path(__file__).with_name("runtime.lock")
REFRESH = "refresh the lock: python -m nodeclient.images.refresh"
_LINE = re.compile(r"([a-z0-9][a-z0-9+.-]+)=([0-9A-Za-z.+:~-]+)")


def read_lock(path: Path = RUNTIME_LOCK) -> dict[str, str]:
    """Return package name -> version. Raises `ImageError` for anything but such lines."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ImageError(f"cannot read {path.name} ({error.strerror}); {REFRESH}") from error
    packages: dict[str, str] = {}
    for line in lines:
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None or match[1] in packages:
            raise ImageError(f"{path.name}: bad line {line[:60]!r}; {REFRESH}")
        packages[match[1]] = match[2]
    if not packages:
        raise ImageError(f"{path.name} names no package; {REFRESH}")
    return packages


def write_lock(packages: Mapping[str, str], path: Path = RUNTIME_LOCK) -> None:
    """Write ``packages`` sorted, with the line that says how the file came to be."""
    lines = ["# Written by python -m nodeclient.images.refresh; do not edit."]
    lines += [f"{name}={version}" for name, version in sorted(packages.items())]
    path.write_text("\n".join(lines) + "\n")


def versions_of(archives: Iterable[str]) -> dict[str, str]:
    """Return name -> version from package file names (``name_version_arch.deb``, epoch as %3a)."""
    packages: dict[str, str] = {}
    for archive in archives:
        if archive.endswith(".deb"):
            name, version, _ = archive.split("_", 2)
            packages[name] = unquote(version)
    return packages


def check_versions(found: Mapping[str, str], locked: Mapping[str, str]) -> None:
    """Raise `ImageError` that names the first differences between ``found`` and ``locked``."""
    different = sorted(
        name for name in found.keys() | locked.keys() if found.get(name) != locked.get(name)
    )
    if different:
        shown = ", ".join(
            f"{name} {locked.get(name, 'absent')} -> {found.get(name, 'absent')}"
            for name in different[:3]
        )
        raise ImageError(
            f"runtime image: {len(different)} packages differ from the lock ({shown}); {REFRESH}"
        )
