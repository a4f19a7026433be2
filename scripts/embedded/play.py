"""The main job on a network: two owners, one function, and the word of an independent script."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.embedded.chain import ROOT
from scripts.embedded.job import Job, ask_for_common, order
from scripts.embedded.network import Network
from scripts.embedded.node import NodeProcess
from scripts.embedded.story import Story

PEOPLE = ("requester", "owner-b", "owner-c")
TASK_SECONDS = 600.0  # far beyond what a task takes; then it is given up and says where it stood


def play(
    network: Network, job: Job, story: Story, out: Path, seconds: float = TASK_SECONDS
) -> dict[str, Any]:
    """Seal, permit, order, watch, and let the independent script judge: its summary.

    Raises:
        RuntimeError: the task ended otherwise, or not in time, or the script found a contradiction.
    """
    requester, b, c = (network.people[name] for name in PEOPLE)
    request = ask_for_common(network, requester, (b, c), job)
    story.say("capsules sealed, policies set; asking for consent and posting")
    earned = network.credits()
    task = order(requester, request)
    story.follow(network, task, requester, (b, c), seconds)
    story.paid(earned, network.credits())
    return verify(network, task, (b, c), out)


def verify(
    network: Network, task: int, receivers: Sequence[NodeProcess], out: Path
) -> dict[str, Any]:
    """Run the script that shares no code with the nodes, on the chain and on what the receivers
    hold; its summary, which it writes to ``out``.

    Raises:
        RuntimeError: it found a contradiction.
    """
    command = [
        *(sys.executable, str(ROOT / "scripts" / "verify_demo.py"), "--rpc", network.chain.url),
        *("--deployment", str(network.deployment_file), "--task", str(task), "--out", str(out)),
    ]
    for node in receivers:
        command += ["--result", f"{node.name}={results(node, task)}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        raise RuntimeError(f"the independent script disagrees: {done.stderr.strip()}")
    summary: dict[str, Any] = json.loads(out.read_text())
    return summary


def results(node: NodeProcess, task: int) -> Path:
    """Where a receiver's result lies."""
    found = node.get(f"/v1/tasks/{task}/results")["results"]
    return Path(found[0]["path"])
