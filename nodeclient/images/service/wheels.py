"""Python packages of a service image: wheels that requirements.lock pins, hash by hash.

The files come from the index that this host's pip is configured for; pip refuses one whose hash is
not in the lock, and only built wheels are taken: nothing is compiled, so nothing can differ.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from nodeclient.images.errors import ImageError

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
SECONDS = 600
_PYTHON = "3.11"  # Debian 12's
# PEP 600 and 599: every glibc up to Debian 12's.
_MANYLINUX = (*(f"manylinux_2_{minor}" for minor in range(36, 16, -1)), "manylinux2014")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# Not for running: types, test suites, sources. Of the metadata versions are asked for.
_PRUNED = re.compile(
    r"(^|/)(tests?|SelfTest|__pycache__)/|\.(pyi|typed|c|h|pyx|pxd|js|md)$|^docs/|\.data/"
    r"|\.dist-info/(?!METADATA$|entry_points\.txt$)"
)


def entries(requirements: Path) -> list[str]:
    """The lock's entries of `NAMES`, each with its hashes. Raises ImageError if one is missing."""
    try:
        lines = requirements.read_text().replace("\\\n", " ").splitlines()
    except OSError as error:
        raise ImageError(f"cannot read {requirements.name}; build in a checkout") from error
    found = {_plain(line.partition("==")[0]): line for line in lines if "==" in line}
    missing = [name for name in NAMES if name not in found]
    if missing:
        raise ImageError(f"{requirements.name} does not pin {missing[0]}; run make lock")
    return [found[name] for name in NAMES]


def fetch(requirements: Path, architecture: str, work: Path) -> list[Path]:
    """Download the wheels for `architecture` (as OCI names it) into `work`. Raises ImageError."""
    wanted = work / "requirements.txt"
    wanted.write_text("\n".join(entries(requirements)) + "\n")
    machine = _MACHINES[architecture]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={_PYTHON}"]
    command += [f"--platform={each}_{machine}" for each in _MANYLINUX]
    command += ["--abi=cp311", "--abi=abi3", "--abi=none", f"--dest={work}"]
    try:
        done = subprocess.run(
            [*command, f"--requirement={wanted}"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise ImageError("pip did not end; check this host's package index") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise ImageError(f"pip failed ({(lines or ['no reason'])[0][:160]}); check its index")
    wheels = sorted(work.glob("*.whl"))
    if len(wheels) != len(NAMES):
        raise ImageError(f"pip gave {len(wheels)} wheels for {len(NAMES)} names; run make lock")
    return wheels


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


def _plain(name: str) -> str:
    """A distribution's name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name.partition("[")[0].strip()).lower()
