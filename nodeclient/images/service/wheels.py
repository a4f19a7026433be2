"""Python packages of a service image: which, for which host, and what of them is kept.

They are wheels that requirements.lock pins, fetched as those of a boot image are.
"""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from nodeclient.images.boot.wheels import fetch_wheels

# What nodeclient and agent import while they run, and what that imports; a test imports every
# module of both inside the finished image.
NAMES = (
    *("aiohappyeyeballs", "aiohttp", "aiosignal", "annotated-doc", "annotated-types", "attrs"),
    *("bitarray", "cbor2", "certifi", "cffi", "charset-normalizer", "ckzg", "coincurve"),
    *("cryptography", "cytoolz", "docker", "eth-abi", "eth-account", "eth-hash", "eth-keyfile"),
    *("eth-keys", "eth-rlp", "eth-typing", "eth-utils", "frozenlist", "hexbytes", "idna"),
    *("markdown-it-py", "mdurl", "multidict", "parsimonious", "propcache", "pycparser"),
    *("pycryptodome", "pydantic", "pydantic-core", "pygments", "regex", "requests", "rich", "rlp"),
    *("shellingham", "toolz", "typer", "typing-extensions", "typing-inspection", "urllib3"),
    *("web3", "websockets", "yarl", "zku"),
)
# PEP 600 and 599: every glibc up to Debian 12's.
_MANYLINUX = (*(f"manylinux_2_{minor}" for minor in range(36, 16, -1)), "manylinux2014")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# Not for running: types, test suites, sources. Of the metadata versions are asked for.
_PRUNED = re.compile(
    r"(^|/)(tests?|SelfTest|__pycache__)/|\.(pyi|typed|c|h|pyx|pxd|js|md)$|^docs/|\.data/"
    r"|\.dist-info/(?!METADATA$|entry_points\.txt$)"
)


def fetch(requirements: Path, architecture: str, work: Path) -> list[Path]:
    """Download the wheels for `architecture` (as OCI names it) into `work`. Raises ImageError."""
    platforms = [f"{each}_{_MACHINES[architecture]}" for each in _MANYLINUX]
    return fetch_wheels(requirements, work, NAMES, platforms)


def add_wheels(wheels: Sequence[Path], target: str, sink: tarfile.TarFile) -> None:
    """Add what the wheels install, below the path `target`."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for item in archive.infolist():
                if not item.is_dir() and not _PRUNED.search(item.filename):
                    add(sink, f"{target}/{item.filename}", archive.read(item))


def add(sink: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add one plain file."""
    item = tarfile.TarInfo("./" + name)
    item.size, item.mode = len(content), 0o644
    sink.addfile(item, BytesIO(content))
