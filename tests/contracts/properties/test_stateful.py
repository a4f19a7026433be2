"""The short profile: a fixed choice of arbitrary sequences. `make test-long` looks for new ones."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.contracts.properties.machine import Market

SHORT = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def test_market__any_sequence_of_acts__invariants_hold() -> None:
    run_state_machine_as_test(Market, settings=SHORT)  # type: ignore[no-untyped-call]
