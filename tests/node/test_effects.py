"""A Node that cannot do all of what its rules may order does not start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from nodeclient import daemon
from nodeclient.duties.services import Services


def test_effect_is_missing__the_daemon_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = SimpleNamespace(effects=lambda _: {})
    for name in ("transactions", "candidacy", "machine", "polling", "committee", "broker"):
        monkeypatch.setattr(daemon, name, nothing)
    for name in ("requester", "receiver", "monitoring", "responding"):
        monkeypatch.setattr(daemon, name, nothing)
    with pytest.raises(TypeError, match="BootMachine"):
        daemon.build_effects(cast(Services, None))
