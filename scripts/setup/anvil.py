"""anvil, the development chain: from PATH where it is new enough, else from the npm registry.

Linked as ``.build/bin/anvil``, which the Makefile puts first on PATH. The native program itself is
linked: npm's wrapper leaves the chain running when the wrapper is ended.
"""

import platform
import re
import shutil
import subprocess
from pathlib import Path

from common import BUILD, ROOT, SetupError, fingerprint, is_done, run, say, set_done

OLDEST = (1, 7)  # what the tests have been run on; it knows the osaka hard fork
LINK = BUILD / "bin" / "anvil"
PINNED = ROOT / "scripts" / "anvil"
ARCHITECTURES = {"x86_64": "amd64"}  # the registry has no build for 64-bit Arm Linux


def make_anvil() -> None:
    """Leave a working anvil at ``.build/bin/anvil``."""
    mark = fingerprint(PINNED / "package-lock.json")
    if is_done("anvil", mark) and _is_good(LINK):
        return
    found = shutil.which("anvil")
    program = Path(found).resolve() if found else None
    if program is None or not _is_native(program) or not _is_good(program):
        program = _from_npm()
    LINK.parent.mkdir(parents=True, exist_ok=True)
    LINK.unlink(missing_ok=True)
    LINK.symlink_to(program)
    set_done("anvil", mark)


def _from_npm() -> Path:
    architecture = ARCHITECTURES.get(platform.machine())
    by_hand = f"put anvil {'.'.join(map(str, OLDEST))} or newer on PATH (it comes with Foundry)"
    if architecture is None:
        raise SetupError(f"npm has no anvil for {platform.machine()}; {by_hand}")
    npm = shutil.which("npm")
    if npm is None:
        raise SetupError(f"no anvil and no npm found; apt-get install npm, or {by_hand}")
    say("installing anvil from npm")
    folder = BUILD / "npm"
    shutil.copytree(PINNED, folder, dirs_exist_ok=True)
    # Scripts stay off: the package's own would fetch a program that no hash here covers.
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder]
    run([npm, "ci", *options], f"cannot install anvil from npm; {by_hand}")
    program = folder / f"node_modules/@foundry-rs/anvil-linux-{architecture}/bin/anvil"
    if not _is_good(program):
        raise SetupError(f"anvil from npm does not run here; {by_hand}")
    return program


def _is_native(program: Path) -> bool:
    with program.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _is_good(program: Path) -> bool:
    try:
        shown = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    version = re.search(r"(\d+)\.(\d+)\.\d+", shown)
    return version is not None and (int(version[1]), int(version[2])) >= OLDEST
