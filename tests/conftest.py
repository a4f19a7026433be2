"""Rules for all tests."""

import os
import signal
from collections.abc import Generator
from typing import Any

import pytest

# In CI nothing may be skipped: a skip there hides a set-up step that is missing.
NO_SKIPS = os.environ.get("CI", "").lower() in ("1", "true")


def pytest_configure(config: pytest.Config) -> None:
    """Name the marks by which `make test-fast` leaves slow things out."""
    # Ended by SIGTERM, pytest would leave the fixtures' processes; after Ctrl-C it cleans up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.addinivalue_line("markers", "chain: starts anvil")
    config.addinivalue_line("markers", "machine: needs a Docker engine")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one where that is the rule."""
    report = yield
    return refuse_skip(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself while it is collected."""
    report = yield
    return refuse_skip(report)


def refuse_skip(report: Any) -> Any:
    """Fail a skipped ``report`` in CI; return every other one as it is."""
    if NO_SKIPS and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes by their length: fresh keys would give each worker of pytest-xdist other tests."""
    return f"{argname}-{len(val)}" if isinstance(val, bytes) else None
