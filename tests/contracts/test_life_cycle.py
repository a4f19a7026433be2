"""A whole task on anvil (osaka), everything real, step by step."""

from __future__ import annotations

import pytest

from tests.contracts.network import EXECUTOR_FEE, MEMBER_FEE, POSTING_FEE, Network

pytestmark = pytest.mark.chain  # starts anvil


def test_task__all_honest__settles_and_pays(network: Network) -> None:
    task = network.reach("settled")
    assert network.state(task) == 5
    assert network.owed(task.executor) == EXECUTOR_FEE
    assert [network.owed(member) for member in task.members] == [MEMBER_FEE] * 3
    assert network.owed(task.requester) == 0
    assert network.market.functions.burned().call() == POSTING_FEE
