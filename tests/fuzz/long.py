"""The long run: a million changed inputs and more, spread over all parsers. `make fuzz`.

Half of the work is blind (the mutators of `tests.fuzz.mutate`), half is guided by coverage where
atheris is installed (`tests.fuzz.guided`). Prints a table, writes var/fuzz.json, and ends with 1 if
any parser broke its promise; the offending input stands in the output and in var/fuzz/.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import secrets
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.fuzz.check import Violation, judge, judge_cost
from tests.fuzz.guided import available
from tests.fuzz.mutate import Mutator
from tests.fuzz.targets import targets

VAR = Path(__file__).resolve().parents[2] / "var"
_COSTED = 500  # one input in so many is measured: memory and steps are slow to count
_PART = 2_000  # inputs of one job


@dataclass(frozen=True)
class Row:
    """What became of the inputs of one target. `peak` in bytes, `steps` in calls: the most seen."""

    target: str
    inputs: int = 0
    accepted: int = 0
    guided: int = 0
    peak: int = 0
    steps: int = 0
    violation: str = ""

    def plus(self, other: Row) -> Row:
        """Both together."""
        return Row(
            self.target,
            self.inputs + other.inputs,
            self.accepted + other.accepted,
            self.guided + other.guided,
            max(self.peak, other.peak),
            max(self.steps, other.steps),
            self.violation or other.violation,
        )


def blind(name: str, seed: str, inputs: int) -> Row:
    """Mutants of one target's samples, and of what it accepted on the way."""
    target = targets()[name]
    mutator = Mutator(seed, target.codec)
    samples = list(target.samples)
    accepted = peak = steps = done = 0
    try:
        for done in range(1, inputs + 1):
            data = mutator.mutant(samples)
            if done % _COSTED == 0:
                costs = judge_cost(target, data)
                peak, steps = max(peak, costs[0]), max(steps, costs[1])
            elif judge(target, data):
                accepted += 1
                if len(samples) < 64 and data not in samples:
                    samples.append(data)  # a step further from the sample, and still well formed
    except Violation as found:
        return Row(name, done, accepted, 0, peak, steps, f"seed {seed}: {found}")
    return Row(name, inputs, accepted, 0, peak, steps)


def guided(name: str, inputs: int) -> Row:
    """Inputs that atheris chose, in a process of its own: it ends that process."""
    with tempfile.TemporaryDirectory() as corpus:
        command = [sys.executable, "-m", "tests.fuzz.guided", name, str(inputs), corpus]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
    fault = "" if done.returncode == 0 else (done.stdout + done.stderr)[-4000:]
    return Row(name, inputs, 0, inputs, 0, 0, fault)


def main() -> int:
    """Run; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_200_000, help="over all parsers")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", default=secrets.token_hex(4), help="of the blind half")
    parser.add_argument("--only", nargs="*", help="names of targets")
    chosen = parser.parse_args()
    names = chosen.only or sorted(targets())
    per_target = -(-chosen.inputs // len(names))
    by_coverage = per_target // 2 if available() else 0
    rows = {name: Row(name) for name in names}
    jobs = []
    with ProcessPoolExecutor(chosen.jobs, multiprocessing.get_context("spawn")) as pool:
        for start in range(0, per_target - by_coverage, _PART):
            size = min(_PART, per_target - by_coverage - start)
            jobs += [pool.submit(blind, n, f"{chosen.seed} {n} {start}", size) for n in names]
        if by_coverage:
            jobs += [pool.submit(guided, name, by_coverage) for name in names]
        for job in jobs:
            row = job.result()
            rows[row.target] = rows[row.target].plus(row)
            save(list(rows.values()), chosen.seed)  # a run that is ended early has counted, too
            if row.violation:
                sys.stdout.write(f"VIOLATION {row.target}\n{row.violation}\n")
                sys.stdout.flush()
    return report(list(rows.values()), chosen.seed)


def save(rows: list[Row], seed: str) -> None:
    """Write what is known so far to var/fuzz.json."""
    VAR.mkdir(exist_ok=True)
    total = sum(row.inputs for row in rows)
    plain = {"seed": seed, "inputs": total, "rows": [asdict(row) for row in rows]}
    (VAR / "fuzz.json").write_text(json.dumps(plain, indent=1) + "\n")


def report(rows: list[Row], seed: str) -> int:
    """Print the table; 1 if anything broke."""
    total = sum(row.inputs for row in rows)
    for row in rows:
        sys.stdout.write(
            f"{row.target:40} {row.inputs:>9,} inputs {row.guided:>9,} guided"
            f" {row.accepted:>8,} accepted  peak {row.peak >> 10:>6,} KiB  {row.steps:>7,} steps"
            f"{'  BROKEN' if row.violation else ''}\n"
        )
    broken = sum(bool(row.violation) for row in rows)
    sys.stdout.write(f"{total:,} inputs, {len(rows)} parsers, {broken} broken; seed {seed}\n")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
