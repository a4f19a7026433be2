"""Measure how long a verifier takes over one Evidence whose TPM vouches: part of `make bench`.

The Evidence has the size of a PC's: a hundred events, sixty modules, 64 ranges each of kernel and
root. Decoding is part of it, fetching and reading the verifier's own files are not. CPU time of one
core; the median of batches, since the machine is shared. Merged into `var/bench.json`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent.formats.evidence import Evidence  # noqa: E402
from nodeclient.core.appraisal import appraise  # noqa: E402
from nodeclient.core.types import Phase, Verdict  # noqa: E402
from scripts._figures import REPORT, report_figures  # noqa: E402
from tests.core.evidence_kit import Kit, make_quoted  # noqa: E402
from tests.core.tpm_builder import VARIABLE, Measurement  # noqa: E402

BOUND = {"median_milliseconds": 5.0, "per_second": 200}  # issue 4: figures
_EVENTS, _MODULES, _MOUNTS, _PROGRAMS, _RANGES = 75, 60, 30, 12, 64
_BATCH = 20


def make_kit() -> Kit:
    """An honest PC in the middle of a run."""
    kit = make_quoted(Phase.DURING)
    assert kit.pc is not None
    assert kit.reference.boot is not None
    kit.pc.events[1:1] = [Measurement(1, VARIABLE, os.urandom(200)) for _ in range(_EVENTS)]
    ranges = tuple((4096 * n, 4096, os.urandom(32)) for n in range(_RANGES))
    kit.reference = replace(
        kit.reference, boot=replace(kit.reference.boot, kernel=ranges, root=ranges)
    )
    kit.claims |= {
        "kernel": [list(row) for row in ranges],
        "root": [list(row) for row in ranges],
        "executable": [[f"/usr/bin/p{n}", os.urandom(32), 1] for n in range(_PROGRAMS)],
        "modules": [[f"module_{n}", 4096, "Live"] for n in range(_MODULES)],
        "mounts": [[f"/run/{n}", "tmpfs", "tmpfs", "rw"] for n in range(_MOUNTS)],
    }
    return kit


def measure(batches: int) -> dict[str, object]:
    """Decode and appraise; raises SystemExit if the honest Evidence is refused."""
    kit = make_kit()
    data = kit.evidence().encode()
    times = []
    for _ in range(batches):
        begun = time.process_time()
        for _ in range(_BATCH):
            evidence = Evidence.decode(data)
            result = appraise(evidence, kit.expected, kit.reference, kit.endorsements, kit.policy)
            if result.verdict is not Verdict.AFFIRMING:
                raise SystemExit(f"bench: refused: {result.reasons[0]}; run the tests")
        times.append((time.process_time() - begun) / _BATCH)
    median = statistics.median(times)
    return {
        "evidence_bytes": len(data),
        "median_milliseconds": round(median * 1000, 2),
        "per_second": round(1 / median),
    }


def main() -> None:
    """Measure, print and merge into the report; exit code 1 beyond a bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=25, help=f"of {_BATCH} appraisals each")
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    figures = measure(options.batches)
    report_figures(options.output, "appraisal", figures)
    if float(str(figures["median_milliseconds"])) > BOUND["median_milliseconds"]:
        raise SystemExit(f"bench: an appraisal takes more than {BOUND['median_milliseconds']} ms")
    if int(str(figures["per_second"])) < BOUND["per_second"]:
        raise SystemExit(f"bench: fewer than {BOUND['per_second']} appraisals a second and core")


if __name__ == "__main__":
    main()
