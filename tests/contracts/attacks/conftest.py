"""A network on a chain that lacks the P-256 precompile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from web3 import Web3

from tests.contracts.anvil import Chain, running
from tests.contracts.network import UNIT, Network


@pytest.fixture(scope="session")
def prague() -> Iterator[Network]:
    """Five contracts and four nodes on prague, where a call to 0x100 succeeds with nothing."""
    with running(hardfork="prague") as url:
        network = Network.deploy(Chain(Web3(Web3.HTTPProvider(url)), url))
        for number in range(4):
            network.join(f"node {number}", UNIT)
        yield network


@pytest.fixture
def no_precompile(prague: Network) -> Iterator[Network]:
    """The network on prague; whatever a test does to the chain is undone after it."""
    snapshot = prague.chain.rpc("evm_snapshot", [])
    yield prague
    assert prague.chain.rpc("evm_revert", [snapshot])
