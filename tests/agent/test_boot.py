"""What the Agent takes from a Pi that nobody vouches for."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from agent import main
from agent.boot import BootParameters
from agent.daemons import SOCKET
from agent.formats.netboot import SCRATCH

HONEST = BootParameters(
    *(b"\4" * 32, b"\1" * 32, b"\2" * 32, "10.77.0.1", 7700, b"\3" * 32, 1),
    *(Path(SCRATCH), SOCKET, "measured", 1, 1 << 20, ()),
)


@pytest.mark.parametrize(
    ("boot", "lives"),
    [
        (HONEST, True),
        # An empty RAM disk over this device would take it out of the inventory.
        (replace(HONEST, scratch=Path("/sys/bus/usb/devices/1-2")), False),
        (replace(HONEST, docker=Path("/run/containerd/containerd.sock")), False),
    ],
)
def test_main__paths_of_the_pi__refused_where_a_boot_image_runs(
    boot: BootParameters,
    lives: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun: list[BootParameters] = []

    async def live(given: BootParameters) -> None:
        begun.append(given)

    monkeypatch.setattr(main, "_read_all", lambda _: boot.encode())
    monkeypatch.setattr(main, "_confine", lambda: None)
    monkeypatch.setattr(main, "_live", live)
    monkeypatch.setattr(main, "runs_boot_image", lambda: True)
    with caplog.at_level(logging.ERROR):
        assert main.main() == (0 if lives else 2)
    assert begun == ([boot] if lives else [])
    assert ("not the boot image's; the Agent is started by its Pi" in caplog.text) is not lives
    monkeypatch.setattr(main, "runs_boot_image", lambda: False)
    assert main.main() == 0  # on somebody's host the paths are that host's
