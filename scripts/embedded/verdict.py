"""What the independent script says about a task: it shares no code with the nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.embedded.chain import ROOT
from scripts.embedded.network import Network
from scripts.embedded.node import NodeProcess


def verify(
    network: Network, task: int, receivers: Sequence[NodeProcess], out: Path
) -> dict[str, Any]:
    """Run it on the chain and on what the receivers hold; its summary, which it writes to ``out``.

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
