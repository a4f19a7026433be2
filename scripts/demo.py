"""The main job, end to end, on this host: two strangers learn which names they have in common.

A requester, two data owners and five workers run as processes of their own, each with its own keys,
store and folder. What is shown here is read from the chain and from the nodes' control sockets;
afterwards `scripts/verify_demo.py`, which shares no code with the nodes, rebuilds it all from the
chain and the receivers' folders and writes var/demo/summary.json.
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nodeclient.errors import SealrunError
from scripts.embedded.chain import ROOT
from scripts.embedded.job import Job
from scripts.embedded.network import Network
from scripts.embedded.play import PEOPLE, play
from scripts.embedded.roots import KINDS
from scripts.embedded.story import Story

FOLDER = ROOT / "var" / "demo"
SUMMARY = FOLDER / "summary.json"
EXAMPLE = ROOT / "examples" / "common-names"
WORKERS = ("worker-1", "worker-2", "worker-3", "worker-4", "worker-5")
BLOCK_SECONDS = 0.5


def main() -> int:
    """Run; 0 only if the task is SETTLED and the independent script agrees."""
    wanted = arguments()
    story = Story(as_json=wanted.json)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    try:
        with Network(
            FOLDER, PEOPLE, WORKERS, say=story.say, block_seconds=BLOCK_SECONDS, root=wanted.root
        ) as network:
            story.say(f"network up after {time.monotonic() - began:.1f} s")
            job = Job(wanted.function, tuple(wanted.input), tuple(wanted.argument))
            summary = play(network, job, story, SUMMARY)
            story.memory({node.name: resident(node.pid) for node in network.nodes.values()})
    except KeyboardInterrupt:
        story.say("stopped")
        return 130
    except (RuntimeError, SealrunError) as error:
        print(f"sealrun demo: {error}", file=sys.stderr)
        return 1
    story.close(summary, time.monotonic() - began, SUMMARY.relative_to(ROOT))
    return 0 if summary["state"] == "SETTLED" else 1


def arguments() -> argparse.Namespace:
    """Another function and other files run without a changed line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--function", type=Path, default=EXAMPLE / "function")
    parser.add_argument("--input", type=Path, action="append", default=[])
    parser.add_argument("--argument", action="append", default=[])
    parser.add_argument("--root", choices=sorted(KINDS), default="software")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    if not wanted.input:
        wanted.input = sorted((EXAMPLE / "lists").glob("*.txt"))
    if len(wanted.input) != 2:
        parser.error("two files are sealed, one by each owner; give --input twice")
    return wanted


def resident(pid: int) -> int:
    """Resident memory of a process in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    raise SystemExit(main())
