"""The file by which others find a lab."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.lab.state import FILE, TAKEN, LabError, LabState, load, me


def state() -> LabState:
    return LabState("abc123", ("sealrun-abc123-hub", "sealrun-abc123-pi"), me())


def test_state__written_and_read__is_the_same(tmp_path: Path) -> None:
    assert load(tmp_path) is None
    state().claim(tmp_path)
    ready = state().ready(tmp_path, "http://10.88.0.1:1")
    assert load(tmp_path) == ready
    ready.drop(tmp_path)
    assert load(tmp_path) is None


def test_claim__a_lab_is_up__is_refused(tmp_path: Path) -> None:
    state().claim(tmp_path)
    with pytest.raises(LabError, match=TAKEN):
        state().claim(tmp_path)


def test_is_kept__id_went_to_another_process__is_not(tmp_path: Path) -> None:
    pid, started = me()
    assert LabState("a", (), (pid, started)).is_kept
    assert not LabState("a", (), (pid, started - 1)).is_kept


@pytest.mark.parametrize(
    "changed",
    [
        {"namespaces": ["../../etc"]},
        {"namespaces": ["sealrun-/../x"]},
        {"namespaces": ["somebody-elses"]},
        {"namespaces": [7]},
        {"keeper": [1]},
        {"keeper": "x"},
    ],
)
def test_load__damaged__says_what_to_do(tmp_path: Path, changed: dict[str, object]) -> None:
    """It names what is killed and deleted as root: only namespaces of labs may stand there."""
    state().claim(tmp_path)
    body = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**body, **changed}))
    with pytest.raises(LabError, match="is damaged; delete it"):
        load(tmp_path)
