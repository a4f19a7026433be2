"""A whole lab: one task through it, and nothing of it left, however it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scripts.embedded.chain import ROOT
from scripts.lab.lab import NONE
from scripts.lab.state import TAKEN, LabState, load
from tests.lab.leftovers import alive, leftovers, namespaces, program, residents

LAB_SECONDS = 2400.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """In the checkout: a socket's path has an upper end, and temporary folders are deep."""
    path = ROOT / "var" / "lab-test"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    yield path
    command("down", path)


def command(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(name, folder),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=LAB_SECONDS,
    )


def words(name: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "scripts.lab", name, "--json", "--folder", str(folder)]


def state_of(folder: Path) -> LabState:
    state = load(folder)
    assert state is not None
    return state


@contextmanager
def started(name: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A command that runs until the test signals it."""
    process = subprocess.Popen(
        words(name, folder), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_program(
    process: subprocess.Popen[str], folder: Path, name: str
) -> tuple[LabState, set[int]]:
    """Wait until a program runs in the namespaces of the lab that this process starts; the lab, and
    the ids of all that run there."""
    end = time.monotonic() + LAB_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError(f"the lab ended by itself: {process.communicate()}")
        state = load(folder)
        found = residents(state.label) if state is not None else set()
        if state is not None and any(program(pid).startswith(name) for pid in found):
            return state, found
        time.sleep(0.1)
    raise AssertionError(f"no {name} of the lab was ever seen")


@pytest.mark.machine
def test_task__through_a_lab__settles_and_a_crash_leaves_nothing(folder: Path) -> None:
    up = command("up", folder)
    assert up.returncode == 0, up.stderr
    state = state_of(folder)
    assert set(state.namespaces) <= namespaces()

    task = command("task", folder)
    assert task.returncode == 0, task.stderr
    summary = json.loads(task.stdout)
    assert summary["state"] == "SETTLED"
    assert [summary["records"][phase]["verdict"] for phase in ("BEFORE", "AFTER")] == [
        "AFFIRMING",
        "AFFIRMING",
    ]
    first, second = (summary["results"][name]["sha256"] for name in ("owner-b", "owner-c"))
    assert first == second

    check_machine(summary["machine"])
    check_held(summary["held"])

    refused = command("up", folder)
    assert (refused.returncode, refused.stderr) == (1, f"sealrun lab: {TAKEN}\n")

    running = residents(state.label)
    assert len(running) > 8
    os.kill(state.keeper[0], signal.SIGKILL)
    assert command("down", folder).returncode == 0
    assert not set(state.namespaces) & namespaces()
    assert leftovers(folder) == []
    assert alive(running) == []


def check_machine(facts: dict[str, Any]) -> None:
    """What was affirmed came from the PC's own TPM, of which the registry holds the key."""
    before, after = facts["BEFORE"], facts["AFTER"]
    for phase in (before, after):
        assert phase["vouch"] == "TPM-QUOTED"
        assert phase["attestation_key"] == phase["registered_key"]
        assert "tpm" in phase["simulated"], "nobody takes a software TPM for a real one"
    assert before["boot_image"] == after["boot_image"]
    assert before["pcrs"] == after["pcrs"]
    assert after["boot_count"] > before["boot_count"]
    assert after["resets"] > before["resets"], "the PC was switched off in between"
    assert after["clock_ms"] > before["clock_ms"]


def check_held(held: dict[str, Any]) -> None:
    """An honest machine sent nothing past its Pi, stayed as it was, answered and was cleaned."""
    assert held["isolation"]["frames_to_others_while_it_ran"] == 0
    assert held["inventory"]["same_before_and_after"]
    assert held["inventory"]["lines_in_the_pi's_record"] == 0
    assert held["questions"]["answered_during_the_run"] >= 3
    assert held["erasure"]["still_there"] == "nothing"
    proof = held["proof"]
    assert proof["bytes_not_covered"] <= 24 << 20
    assert proof["bytes_of_memory_erased"] > 1 << 30
    assert proof["signed_by_the_eraser's_tpm_over_the_answer"]
    assert proof["with_the_key_of_before"]


@pytest.mark.machine
@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "anvil"), (signal.SIGTERM, "qemu")], ids=["int", "term"]
)
def test_lab__interrupted_while_it_starts__takes_itself_down(
    folder: Path, number: int, name: str
) -> None:
    with started("all", folder) as process:
        state, running = wait_for_program(process, folder, name)
        process.send_signal(number)
        _, errors = process.communicate(timeout=LAB_SECONDS)
        assert process.returncode == 130, errors
    assert not set(state.namespaces) & namespaces()
    assert leftovers(folder) == []
    assert alive(running) == []


def test_commands__no_lab_is_up__say_the_next_step(folder: Path) -> None:
    task = command("task", folder)
    assert (task.returncode, task.stderr) == (1, f"sealrun lab: {NONE}\n")
    assert command("down", folder).returncode == 0
