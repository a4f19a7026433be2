"""What the tests of one kind of root share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.standin.control import StandIn
from tests.roots.zymkey_kit import library


@pytest.fixture
def device(tmp_path: Path) -> Iterator[StandIn]:
    """A stand-in for a Zymkey that is plugged in."""
    device = StandIn(tmp_path / "device", library())
    device.start()
    yield device
    device.stop()
