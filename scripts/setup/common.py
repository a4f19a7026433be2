"""What every step of the set-up shares. Standard library only: it runs before anything exists."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build"
VENV = ROOT / ".venv"
LOG = BUILD / "setup.log"


class SetupError(Exception):
    """Something cannot be had here. One line that ends with the next step."""


def say(text: str) -> None:
    """Tell the person what takes time now."""
    print(f"setup: {text}", flush=True)


def run(command: Sequence[str | Path], failure: str, seconds: int = 900) -> None:
    """Run ``command`` without input, its output to the log; `SetupError` with ``failure``.

    ``seconds`` bounds it, because a mirror that does not answer must not hang the set-up.
    """
    BUILD.mkdir(exist_ok=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PIP_NO_INPUT": "1"}
    with LOG.open("ab") as log:
        log.write(f"\n$ {' '.join(map(str, command))}\n".encode())
        log.flush()
        try:
            subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
                timeout=seconds,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise SetupError(f"{failure} (details: {LOG.relative_to(ROOT)})") from error


def apt_install(packages: Iterable[str], what: str) -> None:
    """Install Debian packages as root; `SetupError` that names them where that cannot be."""
    names = sorted(packages)
    by_hand = f"install {what}: apt-get install {' '.join(names)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupError(f"cannot install packages here without root and apt; {by_hand}")
    say(f"installing {', '.join(names)} from Debian")
    install = ["apt-get", "install", "-y", "--no-install-recommends", *names]
    try:
        run(install, by_hand)
    except SetupError:  # most often package lists that are missing or old
        run(["apt-get", "update"], "cannot reach Debian's packages; check the network")
        run(install, by_hand)


def fingerprint(*parts: Path | str) -> str:
    """Hash of files (by content) and strings: changes when a step has to be done again."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def is_done(step: str, mark: str) -> bool:
    """Whether ``step`` was completed with the same fingerprint."""
    stamp = BUILD / f"{step}.stamp"
    return stamp.is_file() and stamp.read_text() == mark


def set_done(step: str, mark: str) -> None:
    """Remember that ``step`` is complete. Called last: an interrupted step is done again."""
    BUILD.mkdir(exist_ok=True)
    (BUILD / f"{step}.stamp").write_text(mark)
