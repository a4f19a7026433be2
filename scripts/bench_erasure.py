"""Erase the RAM of a poisoned PC, and search it from outside: how long, how much, what is left?

Usage: python scripts/bench_erasure.py [--memory MIB ...]; `make bench` takes 1024 MiB. Each twice:
all of it below 4 GiB, and half of it above.

Every byte of RAM holds a canary when the eraser boots, by a warm reset. The control is the same
search of the same boot before the fill: it must find canaries, or the search shows nothing. The
wipe is timed from the order to the eraser's last word, its TPM's quote included; the boot before it
stands beside it. Merged into `var/bench.json`.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent.formats.erasure import ErasureProof  # noqa: E402
from nodeclient.core.claims import Region  # noqa: E402
from nodeclient.core.erasure import RAM as RAM_ROW  # noqa: E402
from nodeclient.core.erasure import plan_ranges  # noqa: E402
from nodeclient.images.boot.keep import BuiltBoot  # noqa: E402
from nodeclient.images.eraser.build import build_eraser  # noqa: E402
from nodeclient.machine.netboot.erase import Eraser, Patience  # noqa: E402
from scripts._figures import REPORT, report_figures  # noqa: E402
from scripts.lab.erasure import ErasureRig, erasure_rig  # noqa: E402
from scripts.lab.host import check_host  # noqa: E402
from scripts.lab.pc import RAM  # noqa: E402
from scripts.lab.rig import IMAGES  # noqa: E402

MEMORY_MIB = (1024,)
BOUND_SECONDS = 60.0  # issue 5: of 1 GiB
BOUND_MIB = 24.0
_RAM = 1  # a row of hello


def measure(memory_mib: int, below_mib: int, image: BuiltBoot) -> dict[str, object]:
    """One PC; raises MachineError if its eraser does not prove."""
    with erasure_rig(ROOT / "var" / "erasure", memory_mib, below_mib) as made:
        made.settle()
        begun = time.monotonic()
        with made.boot(image) as connection:
            booted = time.monotonic() - begun
            proof, seconds, control = made.station.run(_prove(made, connection, image))
        found = made.search(proof.ranges)
    mib = memory_mib - proof.covered / (1 << 20)
    return {
        "memory_mib": memory_mib,
        "below_4_gib_mib": min(memory_mib, below_mib),
        "boot_seconds": round(booted, 1),
        "wipe_seconds": round(seconds, 1),
        "not_covered_mib": round(mib, 2),
        "canaries_before": control,
        "canaries_in_covered": found.covered,
        "canaries_elsewhere": found.elsewhere,
        "quoted": proof.quote is not None,
    }


async def _prove(
    made: ErasureRig, connection: socket.socket, image: BuiltBoot
) -> tuple[ErasureProof, float, int]:
    """The proof, its seconds, and how many canaries were there before."""
    connection.setblocking(False)
    eraser = Eraser(connection, Patience())
    hello = await eraser.hello()
    # The bench has no BEFORE evidence: here alone the eraser's own map is taken.
    rows = (Region(start, end, RAM_ROW if kind == _RAM else "") for start, end, kind in hello.rows)
    ranges = plan_ranges(tuple(rows))
    control = made.search(ranges).covered
    begun = time.monotonic()
    proof = await eraser.prove(image.image_id, ranges, hello.window)
    return proof, time.monotonic() - begun, control


def say(text: str) -> None:
    """Progress, beside the figures."""
    print(text, file=sys.stderr)


def main() -> None:
    """Measure, print and merge into the report; exit code 1 beyond a bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", type=int, nargs="+", default=MEMORY_MIB)
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    check_host()
    image = build_eraser(IMAGES, say)
    runs = []
    for memory_mib in options.memory:
        if shutil.disk_usage(RAM).free < memory_mib << 20:
            say(f"{memory_mib} MiB: left out, {RAM} has no room for them")
            continue
        for below_mib in (2048, min(memory_mib // 2, 2048)):
            runs.append(measure(memory_mib, below_mib, image))
            say(str(runs[-1]))
    report_figures(options.output, "erasure", {"runs": runs})
    for run in runs:
        _check(run)


def _check(run: dict[str, object]) -> None:
    if run["canaries_before"] == 0:
        raise SystemExit("bench: the control finds no canary, so the search shows nothing")
    if run["canaries_in_covered"]:
        raise SystemExit("bench: canaries are left where the eraser says that it wrote")
    if float(str(run["not_covered_mib"])) > BOUND_MIB:
        raise SystemExit(f"bench: more than {BOUND_MIB} MiB are not covered")
    if run["memory_mib"] == 1024 and float(str(run["wipe_seconds"])) > BOUND_SECONDS:
        raise SystemExit(f"bench: 1 GiB takes more than {BOUND_SECONDS} s")


if __name__ == "__main__":
    main()
