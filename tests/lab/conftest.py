"""Labs for tests: where one cannot be, every test here is skipped with the reason."""

from __future__ import annotations

import pytest

from scripts.lab.host import why_not


@pytest.fixture(autouse=True, scope="session")
def able_host() -> None:
    """Skip, which tests/conftest.py turns into a failure in CI."""
    if reason := why_not():
        pytest.skip(reason)
