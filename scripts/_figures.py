"""Where the benchmarks put what they measured: one report with a part for each of them."""

from __future__ import annotations

import json
from pathlib import Path

REPORT = Path(__file__).resolve().parents[1] / "var" / "bench.json"


def report_figures(report: Path, part: str, figures: dict[str, object]) -> None:
    """Print them, and put them in place of the same part of an earlier report."""
    parts = json.loads(report.read_text()) if report.exists() else {}
    parts[part] = figures
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(parts, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
