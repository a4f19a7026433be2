"""How long `sealrun node status` takes: the whole command, from the shell's point of view.

Usage: python scripts/bench_status.py [--times N]. A chain (anvil) with the contracts and two nodes
as processes, one of them with TASKS tasks in its database; no container engine is needed. Measured
are the command with a daemon (its picture at most `FRESH` seconds old, and gathered anew), without
one, and one scrape of the Prometheus endpoint. Merged into `var/bench.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from nodeclient.core.case import Case, Role  # noqa: E402
from nodeclient.core.types import Address, Commitment, Task, TaskId, TaskState  # noqa: E402
from nodeclient.health.service import FRESH  # noqa: E402
from nodeclient.identity.folder import open_folder  # noqa: E402
from nodeclient.images.build import BuiltImage  # noqa: E402
from nodeclient.store.database import Store  # noqa: E402
from scripts._figures import REPORT, report_figures  # noqa: E402
from scripts.embedded.network import Network, Place  # noqa: E402
from scripts.embedded.node import NodeProcess  # noqa: E402

BOUND_SECONDS = 1.0  # issue 6: figures
TASKS = 200
ROLES = (Role.EXECUTOR, Role.MEMBER)  # of a node that has a boot image to be asked about


class Quiet(Network):
    """Nodes that run no task: an archive that is never loaded stands for the runtime image."""

    def build(self) -> None:
        """Nothing is built, and no engine is asked for."""
        path = Path(tempfile.mkdtemp()) / "runtime.tar"
        path.write_bytes(b"")
        self.image = BuiltImage(secrets.token_bytes(32), path)


def fill(node: NodeProcess) -> None:
    """Tasks that are over, as a node that has run for a while has them."""
    store = Store(node.folder / "node.db", open_folder(node.folder).load_store_key())
    for number in range(1, TASKS + 1):
        commitment = Commitment(secrets.token_bytes(32))
        # Far beyond the ids that this chain will give.
        task = Task(TaskId(number + 10**6), commitment, Address(bytes(20)), 1, 1, 1, 3, 0)
        store.apply(Case(commitment, task=task, state=TaskState.SETTLED), ())
    store.close()


def status(node: NodeProcess) -> int:
    """The command; its exit code."""
    command = ("-m", "nodeclient.cli", "node", "status", "--node", str(node.folder))
    quiet = subprocess.DEVNULL
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, stdout=quiet, stderr=quiet, check=False
    ).returncode


def timed(times: int, act: Callable[[], object], pause: float = 0.0) -> dict[str, object]:
    """Median and slowest, in seconds; and the processor time of the processes that it started."""
    took, used = [], []
    for _ in range(times):
        time.sleep(pause)
        before, spent = time.perf_counter(), processor()
        act()
        took.append(time.perf_counter() - before)
        used.append(processor() - spent)
    figures = {
        "median": statistics.median(took),
        "slowest": max(took),
        "processor": statistics.median(used),
    }
    return {name: round(seconds, 3) for name, seconds in figures.items()} | {"times": times}


def processor() -> float:
    """Seconds of processor time of the children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(network: Network, times: int, port: int) -> dict[str, object]:
    """All of it on a network that stands."""
    node = network.people["watched"]
    while node.get("/v1/health")["chain"] is None:
        time.sleep(0.2)
    if status(node) not in (0, 1):
        raise SystemExit("bench: the status command fails; run it by hand")
    figures: dict[str, object] = {
        "tasks": TASKS,
        "fresh_picture": timed(times, lambda: status(node)),
        "gathered_anew": timed(max(3, times // 4), lambda: status(node), FRESH + 0.5),
        "scrape": timed(times, lambda: scrape(port)),
        "interpreter_alone": timed(
            times, lambda: subprocess.run([sys.executable, "-c", ""], check=True)
        ),
    }
    node.stop()
    return {**figures, "daemon_stopped": timed(max(3, times // 4), lambda: status(node))}


def scrape(port: int) -> None:
    """What Prometheus does."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        answer.read()


def main() -> None:
    """Measure, print and merge into the report; exit code 1 beyond the bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="sealrun-bench-") as folder:
        network = Quiet(
            Path(folder) / "network",
            ("watched", "peer"),
            (),
            places={"watched": Place(roles=ROLES)},
        )
        with contextlib.ExitStack() as stack:
            stack.callback(network.stop)
            network.build()
            network.prepare()
            node = network.people["watched"]
            fill(node)
            with (node.folder / "config.toml").open("a") as config:
                config.write(f'\n[health]\nlisten = "127.0.0.1:{port}"\n')
            network.run_nodes()
            figures = measure(network, options.times, port)
    report_figures(options.output, "status", figures)
    for name in ("fresh_picture", "gathered_anew"):
        part = figures[name]
        assert isinstance(part, dict)
        if part["median"] > BOUND_SECONDS:
            raise SystemExit(f"bench: status ({name}) takes longer than {BOUND_SECONDS} s")


if __name__ == "__main__":
    main()
