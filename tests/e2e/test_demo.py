"""`sealrun demo` as people run it, on every root of trust that stands for hardware."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from scripts.embedded.chain import ROOT
from tests.lab.leftovers import commands

SECONDS = 1200.0
ROOTS = ("tpm2", "zymkey")


@pytest.mark.machine
@pytest.mark.parametrize("root", ROOTS)
def test_demo__root_of_hardware_class__settles_the_common_names(root: str) -> None:
    words = [sys.executable, "scripts/demo.py", "--root", root, "--json"]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["state"] == "SETTLED"
    assert {summary["records"][phase]["verdict"] for phase in ("BEFORE", "AFTER")} == {"AFFIRMING"}
    first, second = (summary["results"][name]["sha256"] for name in ("owner-b", "owner-c"))
    assert first == second
    folder = ROOT / "var" / "demo"
    assert [words for _, words in commands() if str(folder) in words] == []
    configs = list((folder / "nodes").glob("*/config.toml"))
    assert len(configs) == 8
    for config in configs:
        assert f'kind = "{root}"' in config.read_text()
