"""The virtual environment: every package of requirements.lock, each file checked by its hash."""

import importlib.util
import shutil
import subprocess
import sys

from common import (
    BUILD,
    ROOT,
    VENV,
    SetupError,
    apt_install,
    fingerprint,
    is_done,
    run,
    say,
    set_done,
)

LOCK = ROOT / "requirements.lock"
# A few pure-Python packages come as source only. They are built with these, taken from the lock
# like the rest, and not with whatever a build environment would fetch unhashed.
BUILDERS = ("setuptools", "wheel")


def make_environment() -> None:
    """Create ``.venv`` with the locked packages and the project itself, unless it is there."""
    mark = fingerprint(LOCK, ROOT / "pyproject.toml", sys.version, str(ROOT))
    if is_done("python", mark) and (VENV / "bin" / "sealrun").exists():
        return
    say(f"making the Python environment ({sys.version.split()[0]}); takes a minute or two")
    _create()
    pip = [VENV / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check"]
    failure = "cannot install the Python packages; check the network and try again"
    builders = BUILD / "builders.lock"
    BUILD.mkdir(exist_ok=True)
    builders.write_text(builders_of(LOCK.read_text()))
    run([*pip, "--require-hashes", "-r", builders], failure)
    run([*pip, "--require-hashes", "--no-build-isolation", "-r", LOCK], failure)
    project = [*pip, "--no-deps", "--no-build-isolation", "-e", "."]
    run(project, "cannot install the project itself; read the end of the log")
    set_done("python", mark)


def builders_of(lock: str) -> str:
    """The entries of `BUILDERS` in the text of the lock, with their hashes."""
    entries = lock.replace("\\\n", "\0").splitlines()
    chosen = [entry for entry in entries if entry.split("==")[0] in BUILDERS]
    return "\n".join(entry.replace("\0", "\\\n") for entry in chosen) + "\n"


def _create() -> None:
    # Debian ships Python without the part that puts pip into an environment.
    if importlib.util.find_spec("ensurepip") is None:
        version = f"python3.{sys.version_info.minor}"
        apt_install([f"{version}-venv"], "Python's venv")
    shutil.rmtree(VENV, ignore_errors=True)
    try:
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        raise SetupError(
            "Python cannot make a virtual environment; install python3-venv, then try again"
        ) from error
