"""The virtual environment: every package of requirements.lock, each file checked by its hash."""

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

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
# A few packages come as source only: four pure-Python ones, and the binding to a TPM's library.
# They are built with these, taken from the lock like the rest, and not with whatever a build
# environment would fetch unhashed.
BUILDERS = (
    *("setuptools", "wheel"),
    *(
        "cffi",
        "cryptography",
        "packaging",
        "pkgconfig",
        "pycparser",
        "setuptools-scm",
    ),  # tpm2-pytss
)
# What tpm2-pytss is compiled with: what shows that it is there, and its Debian package.
COMPILING = {
    "gcc": "gcc",
    "pkg-config": "pkg-config",
    "/usr/include/tss2/tss2_esys.h": "libtss2-dev",
}


def make_environment() -> None:
    """Create ``.venv`` with the locked packages and the project itself, unless it is there."""
    mark = fingerprint(LOCK, ROOT / "pyproject.toml", sys.version, str(ROOT))
    if is_done("python", mark) and (VENV / "bin" / "sealrun").exists():
        return
    _need_compiler()
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


def _need_compiler() -> None:
    """The library of a TPM with its headers, those of Python, and a compiler."""
    missing = {package for sign, package in COMPILING.items() if not _is_there(sign)}
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.add(f"python3.{sys.version_info.minor}-dev")
    if missing:
        apt_install(missing, "what the binding to a TPM is compiled with")


def _is_there(sign: str) -> bool:
    return Path(sign).is_file() if sign.startswith("/") else shutil.which(sign) is not None


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
