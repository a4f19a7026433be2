"""anvil: found where `make setup` put it, started on loopback, stopped by its process id."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
# Of so many blocks anvil keeps the state, in memory; else it leaves gigabytes in the home folder.
PRUNED: Final = ("--prune-history", "256")
_LISTENING: Final = re.compile(r"Listening on (\d+\.\d+\.\d+\.\d+:\d+)")
_START_SECONDS: Final = 120  # 0.1 s when idle; generous for a busy machine
_STOP_SECONDS: Final = 60  # it writes its state


def find_anvil() -> str:
    """The binary: from PATH, or what `make setup` put under .build. Raises RuntimeError."""
    found = shutil.which("anvil")
    if found is None:
        built = sorted((ROOT / ".build").glob("**/@foundry-rs/anvil-linux-*/bin/anvil"))
        found = str(built[0]) if built else None
    if found is None:
        raise RuntimeError("anvil is not installed; run: make setup")
    return found


def start_anvil(
    *options: str,
    host: str = "127.0.0.1",
    port: int = 0,
    hardfork: str = "osaka",
    own_session: bool = False,
) -> tuple[subprocess.Popen[str], str]:
    """Start it and wait until it listens; returns the process and its URL.

    ``port`` 0: the kernel chooses. ``own_session``: Ctrl-C does not reach it, so that whoever
    started it can stop it last. Raises RuntimeError if it ends before it listens.
    """
    process = subprocess.Popen(
        [
            *(find_anvil(), *PRUNED, "--hardfork", hardfork),
            *("--host", host, "--port", str(port), *options),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=own_session,
    )
    try:
        return process, f"http://{_address_of(process)}"
    except BaseException:  # Ctrl-C too: nobody else knows of it yet
        stop_anvil(process)
        raise


def stop_anvil(process: subprocess.Popen[str]) -> None:
    """SIGTERM, upon which it writes its state in full; SIGKILL if that takes too long."""
    process.terminate()
    try:
        process.wait(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _address_of(process: subprocess.Popen[str]) -> str:
    """Wait for the line that names the port; afterwards keep draining the pipe."""
    assert process.stdout is not None
    watchdog = threading.Timer(_START_SECONDS, process.kill)
    watchdog.daemon = True  # an interruption before `try` must not hold up our end
    watchdog.start()
    try:
        for line in process.stdout:
            if found := _LISTENING.search(line):
                # a full pipe would block anvil in the middle of its work
                threading.Thread(target=process.stdout.read, daemon=True).start()
                return found[1]
    finally:
        watchdog.cancel()
    raise RuntimeError("anvil ended before it listened; run it by hand to see why")
