"""Honest tasks through one lab, one after the other: is there ever a false alarm?

Usage: python scripts/bench_lab.py [--tasks N]; N is 20 for `make lab-soak`.

Each is the common-names task, checked by scripts/verify_demo.py: two boots of the PC, three
members, a proof of erasure. A task that does not settle ends it. An incident that the Pi wrote
down is a false alarm, since nobody attacks. Merged into `var/bench.json`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from nodeclient.upkeep.incidents import INCIDENTS  # noqa: E402
from scripts._figures import REPORT, report_figures  # noqa: E402
from scripts.embedded.story import Story  # noqa: E402
from scripts.lab.__main__ import one_task  # noqa: E402
from scripts.lab.command import carry_out  # noqa: E402
from scripts.lab.host import check_host  # noqa: E402
from scripts.lab.lab import lab  # noqa: E402
from scripts.lab.network import PI, LabNetwork  # noqa: E402

FOLDER = ROOT / "var" / "lab-soak"


def measure(tasks: int) -> dict[str, object]:
    """Run so many. Seconds are from the order to the independent check, without the lab's start."""
    times: list[float] = []
    settled, alarms, votes, missing = 0, 0, [], []
    story = Story(as_json=False)
    with lab(FOLDER, story.say) as network:
        for number in range(1, tasks + 1):
            began = time.monotonic()
            summary = one_task(network, FOLDER, story)
            if summary["state"] != "SETTLED":
                break
            settled += 1
            times.append(time.monotonic() - began)
            votes.append(int(summary["records"]["AFTER"]["votes"]))
            missing.append(int(summary["held"]["proof"]["bytes_not_covered"]))
            alarms = incidents(network)
            story.say(f"task {number} of {tasks}: SETTLED in {times[-1]:.0f} s, incidents {alarms}")
    return {
        "tasks": tasks,
        "settled": settled,
        "incidents": alarms,
        "fewest_votes_after": min(votes, default=0),
        "most_bytes_not_covered": max(missing, default=0),
        "median_seconds": round(statistics.median(times), 1) if times else None,
        "slowest_seconds": round(max(times), 1) if times else None,
    }


def incidents(network: LabNetwork) -> int:
    """Lines in the Pi's record of incidents, answers to them included."""
    record = network.workers[PI].folder / "machine" / INCIDENTS
    return len(record.read_text().splitlines()) if record.exists() else 0


def main() -> int:
    """Measure, print and merge into the report; exit code 1 for a false alarm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    check_host()
    figures = measure(options.tasks)
    report_figures(options.output, "lab", figures)
    quiet = figures["settled"] == options.tasks and figures["incidents"] == 0
    if not quiet:
        print("bench: an honest task ended otherwise; read var/lab-soak/network", file=sys.stderr)
    return 0 if quiet else 1


if __name__ == "__main__":
    sys.exit(carry_out("bench", main))
