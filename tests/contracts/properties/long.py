"""The long profile: new sequences, seed after seed, until a number of calls is done.

What is done stands in var/test-long.json by the hash of the contracts, so that a run goes on where
the last one stopped, and several can share the seeds (`--first 1000`). A sequence that breaks an
invariant is shrunk and shown; its seed stays undone, so that the next run meets it again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from nodeclient.files import replace_file
from tests.contracts.properties.adapter import CALLS
from tests.contracts.properties.machine import Market

ROOT: Final = Path(__file__).resolve().parents[3]
RESULTS: Final = ROOT / "var" / "test-long.json"
LONG: Final = settings(
    max_examples=10,
    stateful_step_count=60,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def contracts_hash() -> str:
    """One hash over all Vyper sources: what was tried counts for them alone."""
    whole = hashlib.sha256()
    for source in sorted((ROOT / "contracts").rglob("*.vy*")):
        whole.update(source.read_bytes())
    return whole.hexdigest()[:16]


def main() -> int:
    """Entry point; a failure is hypothesis's, with the steps that lead to it."""
    parser = argparse.ArgumentParser(prog="python -m tests.contracts.properties.long")
    parser.add_argument("--calls", type=int, default=1_000_000, help="transactions and views")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    asked = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    key, number = contracts_hash(), asked.first
    while True:
        done = _load().get(key, {})
        total = sum(one["transactions"] + one["views"] for one in done.values())
        sent = sum(one["transactions"] for one in done.values())
        if total >= asked.calls:
            print(f"{total} calls ({sent} of them transactions) in {len(done)} seeds: all hold")
            return 0
        while str(number) in done:
            number += 1
        before, began = (CALLS.transactions, CALLS.views), time.process_time()
        machine: Any = seed(number)(type("Market", (Market,), {}))
        run_state_machine_as_test(machine, settings=LONG)  # type: ignore[no-untyped-call]
        spent = time.process_time() - began
        result = {
            "transactions": CALLS.transactions - before[0],
            "views": CALLS.views - before[1],
            "cpu_seconds": round(spent, 1),
        }
        _keep(key, number, result)
        print(f"seed {number}: {result}; {total} calls so far", flush=True)


def _load() -> dict[str, dict[str, dict[str, float]]]:
    return dict(json.loads(RESULTS.read_text())) if RESULTS.exists() else {}


def _keep(key: str, number: int, result: dict[str, float]) -> None:
    results = _load()
    results.setdefault(key, {})[str(number)] = result
    # other runs read it, and Ctrl-C may come
    replace_file(RESULTS, json.dumps(results, indent=1, sort_keys=True).encode())


if __name__ == "__main__":
    sys.exit(main())
