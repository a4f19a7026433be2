"""`contracts/modules/ticket.vy` computes the bits that `nodeclient.core.sortition` expects."""

from __future__ import annotations

import hashlib
from typing import Any

import boa
import pytest

from nodeclient.core import sortition
from tests.contracts.anvil import ROOT

WORST, BEST = bytes(32), b"\xff" * 32


@pytest.fixture(scope="module")
def tickets() -> Any:
    return boa.load(str(ROOT / "contracts/mocks/TicketMock.vy"))


@pytest.mark.parametrize("shift", range(0, 256, 5))
def test_ticket__beta_of_any_size__same_bits_as_python(tickets: Any, shift: int) -> None:
    drawn = int.from_bytes(hashlib.sha256(bytes((shift,))).digest(), "big") >> shift
    beta = drawn.to_bytes(32, "big")
    for weight in (1, 512 * 10_000, 10**30, 2**159 + 1):
        assert tickets.ticket_of(beta, weight) == sortition.ticket_of(beta, weight)


def test_ticket__edges_of_beta__same_bits_as_python(tickets: Any) -> None:
    edges = [0, 1, 2, 3, 2**255 - 1, 2**255, 2**255 + 1, 2**256 - 2, 2**256 - 1]
    for beta in (value.to_bytes(32, "big") for value in edges):
        assert tickets.ticket_of(beta, 1) == sortition.ticket_of(beta, 1)


def test_ticket__extreme_betas__ordered_and_bounded(tickets: Any) -> None:
    assert tickets.ticket_of(BEST, 1) == 0
    assert tickets.ticket_of(WORST, 1) < 2**196


def test_ticket__double_weight__half_the_ticket(tickets: Any) -> None:
    beta = hashlib.sha256(b"beta").digest()
    assert tickets.ticket_of(beta, 2) == tickets.ticket_of(beta, 1) // 2


def test_ticket__no_weight__reverts(tickets: Any) -> None:
    with boa.reverts("ticket: weight is zero"):
        tickets.ticket_of(BEST, 0)
