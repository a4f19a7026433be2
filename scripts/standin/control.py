"""Build the stand-in's library, start and end its process, make its faults."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scripts.standin.keys import Faults

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "library"
LIBRARY = "libzk_app_utils.so"
BUILD_SECONDS = 120
STOP_SECONDS = 10
FLAGS = (
    *("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror"),
    *("-fPIC", "-shared", "-pthread"),
)


def build_library(folder: Path) -> Path:
    """Compile the library into ``folder``. Raises RuntimeError with the compiler's words."""
    compiler = shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("the Zymkey's stand-in wants a compiler; apt-get install gcc libc6-dev")
    target = folder / LIBRARY
    sources = [str(path) for path in sorted(SOURCE.glob("*.c"))]
    done = subprocess.run(
        [compiler, *FLAGS, "-o", str(target), *sources],
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the Zymkey's stand-in does not compile: {done.stderr.strip()}")
    return target


class StandIn:
    """One simulated device. Its folder holds its library and socket; its keys only its process."""

    def __init__(self, folder: Path, library: Path, serial: str = "") -> None:
        """``library``: what `build_library` made. A copy, as it looks for the process beside it."""
        self.folder = folder
        self.library = folder / LIBRARY
        self.serial = serial or f"simulated-{secrets.token_hex(8)}"
        self._built = library
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process; it is ready when this returns. Raises RuntimeError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.library.exists():
            shutil.copyfile(self._built, self.library)
        (self.folder / "zymkey.sock").unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(HERE / "serve.py"), str(self.folder), self.serial],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for us: a device outlives the nodes that it serves
        )
        self._read()

    def stop(self) -> None:
        """End it, and its keys with it."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def fault(self, **faults: Any) -> None:
        """Have just these faults, by the names of `Faults`."""
        self._order({"faults": asdict(Faults(**faults))})

    def heal(self) -> None:
        """No faults any more. A breach stays until it is cleared."""
        self.fault()

    def breach(self, channel: int = 0) -> None:
        """Open the perimeter."""
        self._order({"breach": channel})

    def clear(self) -> None:
        """Forget breaches."""
        self._order({"clear": True})

    @property
    def led(self) -> str:
        """off, on or flashing."""
        return str(self._order({})["led"])

    def _order(self, order: dict[str, object]) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the Zymkey's stand-in ended; see its stderr")
        answer: dict[str, Any] = json.loads(line)
        return answer
