"""The lab's commands, as `sealrun lab` calls them: up, keep, task, down, and all of it in one.

Usage: python -m scripts.lab all|up|task|down [--json]
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from scripts.embedded.chain import ROOT
from scripts.embedded.job import Job
from scripts.embedded.play import play
from scripts.embedded.story import Story
from scripts.lab.command import carry_out
from scripts.lab.facts import evidence_of, facts_of, rows_of
from scripts.lab.held import held_of, tell
from scripts.lab.host import check_host
from scripts.lab.lab import FOLDER, down, joined, lab
from scripts.lab.network import PI, LabNetwork
from scripts.lab.state import TAKEN, LabError, load

EXAMPLE: Final = ROOT / "examples" / "common-names"
SUMMARY: Final = "summary.json"
LOG: Final = "keeper.log"
TASK_SECONDS: Final = 1800.0  # two boots of an emulated PC on a host that may be busy


def main() -> int:
    """Run one command; 0 only if it did what it is for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    wanted = parser.parse_args()
    command, folder = COMMANDS[wanted.command], wanted.folder.resolve()
    return carry_out("sealrun lab", lambda: command(folder, Story(as_json=wanted.json)))


def run_all(folder: Path, story: Story) -> int:
    """Up, one task, down."""
    check_host()
    began = time.monotonic()
    with lab(folder, story.say) as network:
        story.say(f"lab up after {time.monotonic() - began:.1f} s")
        summary = one_task(network, folder, story)
    story.say("lab down")
    return _close(summary, folder, story, began)


def up(folder: Path, story: Story) -> int:
    """Start a process that holds the lab, and show what it says until all is ready."""
    check_host()
    if load(folder) is not None:
        raise LabError(TAKEN)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("wb") as log:
        words = [sys.executable, "-m", "scripts.lab", "keep", "--folder", str(folder)]
        keeper = subprocess.Popen(
            words,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        with (folder / LOG).open() as log:
            while keeper.poll() is None and not _is_ready(folder, keeper.pid):
                _show(log.read(), story)
                time.sleep(0.2)
            _show(log.read(), story)
    except KeyboardInterrupt:
        keeper.terminate()
        keeper.wait()
        raise
    if keeper.poll() is not None:
        raise LabError(f"the lab did not start; read {folder / LOG}")
    story.say("the lab is up; next: sealrun lab task, sealrun lab down")
    return 0


def keep(folder: Path, story: Story) -> int:
    """Hold a lab until somebody asks for its end."""
    with lab(folder, story.say):
        signal.pause()
    return 0


def task(folder: Path, story: Story) -> int:
    """One task through the lab that is up."""
    began = time.monotonic()
    with joined(folder, story.say) as network:
        summary = one_task(network, folder, story)
    return _close(summary, folder, story, began)


def take_down(folder: Path, story: Story) -> int:
    """End the lab, or clean up after one that crashed."""
    story.say("the lab is down" if down(folder, story.say) else "no lab is up")
    return 0


def one_task(network: LabNetwork, folder: Path, story: Story) -> dict[str, Any]:
    """The common-names task through a lab; what came of it, also in the folder's summary."""
    job = Job(EXAMPLE / "function", tuple(sorted((EXAMPLE / "lists").glob("*.txt"))))
    summary = play(network, job, story, folder / SUMMARY, TASK_SECONDS)
    records, pi = summary["records"], network.workers[PI]
    summary["machine"] = facts_of(network, records)
    roots = (records[phase]["evidence_root"] for phase in ("BEFORE", "AFTER"))
    before, after = (evidence_of(pi, root) for root in roots)
    summary["held"] = held_of(before, after, pi.folder / "machine")
    (folder / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _close(summary: dict[str, Any], folder: Path, story: Story, began: float) -> int:
    story.show("what the PC proved", rows_of(summary["machine"]), tuple(summary["machine"]))
    story.close(summary, time.monotonic() - began, _shown(folder / SUMMARY))
    tell(story, summary["held"], summary["records"]["AFTER"]["votes"])
    return 0 if summary["state"] == "SETTLED" else 1


def _shown(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def _is_ready(folder: Path, pid: int) -> bool:
    state = load(folder)
    return state is not None and state.keeper[0] == pid and state.rpc != ""


def _show(text: str, story: Story) -> None:
    """What the keeper said, without its own time."""
    for line in text.splitlines():
        story.say(line.partition(" s ")[2].strip() or line)


COMMANDS: Final[dict[str, Callable[[Path, Story], int]]] = {
    "all": run_all,
    "up": up,
    "keep": keep,
    "task": task,
    "down": take_down,
}

if __name__ == "__main__":
    sys.exit(main())
