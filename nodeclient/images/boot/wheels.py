"""Python packages of the Agent: the wheels that requirements.lock pins, hash by hash.

Debian's own are older than what the Agent is tested with. The files come from the index that this
host's pip is configured for; pip refuses one whose hash is not in the lock, and only built wheels
are taken: nothing is compiled, so nothing can differ. The service image takes its own the same way.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from nodeclient.images.boot.tree import Tree, file
from nodeclient.images.errors import ImageError

REQUIREMENTS = Path(__file__).resolve().parents[3] / "requirements.lock"
# What `agent` imports, and what that imports; tests start the Agent in the finished root.
NAMES = (
    *("cbor2", "certifi", "cffi", "charset-normalizer", "cryptography", "docker", "idna"),
    *("pycryptodome", "requests", "urllib3"),
)
SECONDS = 600
_PYTHON = "3.11"  # Debian 12's
_PLATFORMS = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux2014_x86_64")
# Not for running: metadata, types, test suites, sources, and of cffi all but its compiled part.
_PRUNED = re.compile(
    r"(^|/)(tests?|SelfTest|[^/]+\.dist-info|__pycache__)(/|$)|\.(pyi|typed|c|h)$|^docs/|^cffi/"
)


def entries(requirements: Path, names: Sequence[str] = NAMES) -> list[str]:
    """The lock's entries of `names`, each with its hashes. Raises ImageError if one is missing."""
    try:
        lines = requirements.read_text().replace("\\\n", " ").splitlines()
    except OSError as error:
        raise ImageError(
            f"cannot read {requirements.name}; build in a checkout, after make lock"
        ) from error
    found = {_plain(line.partition("==")[0]): line for line in lines if "==" in line}
    missing = [name for name in names if name not in found]
    if missing:
        raise ImageError(f"{requirements.name} does not pin {missing[0]}; run make lock")
    return [found[name] for name in names]


def fetch_wheels(
    requirements: Path,
    work: Path,
    names: Sequence[str] = NAMES,
    platforms: Sequence[str] = _PLATFORMS,
) -> list[Path]:
    """Download the wheels of `names` for `platforms` into `work`. Raises ImageError."""
    wanted = work / "requirements.txt"
    wanted.write_text("\n".join(entries(requirements, names)) + "\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={_PYTHON}"]
    command += [f"--platform={each}" for each in platforms]
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
    if len(wheels) != len(names):
        raise ImageError(f"pip gave {len(wheels)} wheels for {len(names)} names; run make lock")
    return wheels


def unpack(wheels: list[Path], target: str) -> Tree:
    """What the wheels install, below the path `target`."""
    tree: Tree = {}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for item in archive.infolist():
                if not item.is_dir() and not _PRUNED.search(item.filename):
                    tree[f"{target}/{item.filename}"] = file(archive.read(item))
    return tree


def _plain(name: str) -> str:
    """A distribution's name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name.partition("[")[0].strip()).lower()
