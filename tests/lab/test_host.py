"""Where a lab can be."""

from __future__ import annotations

import pytest

from scripts.lab import host
from scripts.lab.state import LabError


def test_host__no_root__says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(LabError, match="takes root; run as root: make lab"):
        host.check_host()


def test_host__program_missing__is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "PROGRAMS", ("ip", "no-such-program"))
    with pytest.raises(LabError, match=r"^no-such-program missing; run as root: make setup$"):
        host.check_host()
