"""A Capsule of 256 MiB never comes near the memory that it would fill."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MEGABYTES = 256
BOUND = 100  # of 10^6 bytes, interpreter and libraries included


def test_seal_and_open__payload_of_256_mib__stay_below_100_megabytes(tmp_path):
    output = tmp_path / "bench.json"
    command = [sys.executable, ROOT / "scripts" / "bench.py", "--megabytes", str(MEGABYTES)]
    # With the bound on speed or memory exceeded the script exits 1; speed is not this test's matter
    done = subprocess.run(
        [*command, "--output", output, "--folder", tmp_path],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert output.exists(), done.stderr
    figures = json.loads(output.read_text())["capsule"]
    assert figures["payload_megabytes"] == round(MEGABYTES * 1.048576)
    for step in ("seal", "open"):
        assert 5 < figures[step]["rss_peak_megabytes"] < BOUND
