"""What has been tried, one line a mutant in docs/mutation-results.tsv, kept with the sources.

A line counts as long as the mutated function is the same to the byte (its key is a hash of it),
so a clone goes on where another stopped. Tests may be added: who kills a mutant is killed for good.
Who takes a test away or weakens it deletes the lines that name it; who changes what other functions
rest on, theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from nodeclient.files import replace_file
from scripts.mutation.sites import ROOT, Mutant

FILE: Final = ROOT / "docs" / "mutation-results.tsv"
_HEAD: Final = "mutant\tkey\tresult\ttried by\tkilled by\n"
_ALL, _QUICK = "all tests", "all but the slow tests"
Result = dict[
    str, Any
]  # status, slow (whether the slow tests ran), by (the test that failed), file


def load(everything: Iterable[Mutant], path: Path = FILE) -> dict[str, Result]:
    """Results by key, of those mutants that still are what they were. Raises ValueError."""
    files = {one.key: one.file for one in everything}
    found = {}
    for line in path.read_text().splitlines()[1:] if path.exists() else []:
        _, key, status, tried_by, by = line.split("\t")
        if key in files:
            slow = tried_by == _ALL
            found[key] = {"status": status, "slow": slow, "by": by, "file": files[key]}
    return found


def save(everything: Iterable[Mutant], results: Mapping[str, Result], path: Path = FILE) -> None:
    """Write all results at once: half a file would cost hours of them."""
    lines = []
    for one in everything:
        if result := results.get(one.key):
            tried_by = _ALL if result["slow"] else _QUICK
            row = (one.name, one.key, result["status"], tried_by, result["by"])
            lines.append("\t".join(row) + "\n")
    path.parent.mkdir(exist_ok=True)
    replace_file(path, (_HEAD + "".join(sorted(lines))).encode(), mode=0o644)
