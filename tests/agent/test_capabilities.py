"""A right that is given up stays given up, in every process that comes after."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent import daemons
from agent.capabilities import SYS_TIME

_SCRIPT = """
import time
from agent.capabilities import SYS_TIME, drop
{first}
try:
    time.clock_settime(time.CLOCK_REALTIME, time.time())
except PermissionError:
    print("refused")
else:
    print("set")
for line in open("/proc/self/status"):
    if line.startswith("Cap"):
        print(line.split()[0], int(line.split()[1], 16) >> SYS_TIME & 1)
"""


def run(first: str) -> list[str]:
    command = [sys.executable, "-c", _SCRIPT.format(first=first)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=root)
    return done.stdout.splitlines()


def test_drop__the_clock__cannot_be_set_any_more() -> None:
    """Setting it to what it is now harms nobody, and takes the same right."""
    held = run("pass")
    assert held[0] == "set"
    assert "CapEff: 1" in held
    gone = run("drop(SYS_TIME)")
    assert gone[0] == "refused"
    assert set(gone[1:]) == {f"Cap{name}: 0" for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")}


def test_start__engine__its_processes_cannot_set_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each copies what the kernel says of its own rights."""
    files = [tmp_path / name for name in ("containerd", "dockerd")]
    commands = [("cp", "/proc/self/status", str(file)) for file in files]
    monkeypatch.setattr(daemons, "_CONTAINERD", tmp_path / "run")
    monkeypatch.setattr(daemons, "CONTAINERD", commands[0])
    monkeypatch.setattr(daemons, "DOCKERD", ("/usr/bin/env", *commands[1]))
    for process in daemons.start_engine().values():
        assert process.wait(60) == 0
    for file in files:
        shown = dict(line.split(":\t", 1) for line in file.read_text().splitlines())
        assert int(shown["CapEff"], 16) >> SYS_TIME & 1 == 0
        assert int(shown["CapBnd"], 16) >> SYS_TIME & 1 == 0
