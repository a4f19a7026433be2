"""Fixtures of the contract tests: one anvil, one network, a clean state for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contracts.anvil import Chain, chain  # noqa: F401
from tests.contracts.network import UNIT, Network


@pytest.fixture(scope="session")
def deployed(chain: Chain) -> Network:  # noqa: F811
    """Five contracts and eight nodes: six of tier 0, one of tier 1, one of tier 2."""
    network = Network.deploy(chain)
    for number, units in enumerate((1, 1, 1, 1, 1, 1, 2, 4)):
        network.join(f"node {number}", units * UNIT + UNIT // 2)
    return network


@pytest.fixture
def network(deployed: Network) -> Iterator[Network]:
    """The deployed network; whatever a test does to the chain is undone after it."""
    nodes = dict(deployed.nodes)
    snapshot = deployed.chain.rpc("evm_snapshot", [])
    yield deployed
    assert deployed.chain.rpc("evm_revert", [snapshot])
    deployed.nodes = nodes
