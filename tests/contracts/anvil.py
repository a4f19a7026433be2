"""A private anvil (osaka) for the contract tests that titanoboa's py-evm cannot run.

py-evm has no P256VERIFY at 0x100 and no real headers behind EIP-2935; anvil has both. One process
serves the whole test session, on a loopback port of its own choosing, and is stopped by its process
id whatever happens to the tests. Import the fixture from a `conftest.py`:

    from tests.contracts.anvil import chain  # noqa: F401
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from hexbytes import HexBytes
from vyper.cli.vyper_compile import compile_files  # type: ignore[import-untyped]
from web3 import Web3
from web3.contract import Contract
from web3.utils.address import get_create_address

from scripts.anvil_process import start_anvil, stop_anvil

ROOT: Final = Path(__file__).resolve().parents[2]
# Intrinsic gas of a transaction without its calldata.
TRANSACTION_GAS: Final = 21_000


@contextmanager
def running(*options: str, hardfork: str = "osaka") -> Iterator[str]:
    """Run anvil on a port the kernel chooses; yields its URL and stops it by its process id."""
    process, url = start_anvil(*options, hardfork=hardfork)
    try:
        yield url
    finally:
        stop_anvil(process)


@cache
def compiled(source: str) -> dict[str, Any]:
    """Compiler output (`abi`, `bytecode`, ...) of a contract, by path from the repository root."""
    outputs = compile_files([ROOT / source], ["abi", "bytecode"], paths=[str(ROOT)])
    return dict(next(iter(outputs.values())))


@dataclass(frozen=True, slots=True)
class Chain:
    """A running anvil and the few things that tests do with it."""

    w3: Web3
    url: str

    def deploy(self, source: str, *arguments: Any) -> Contract:
        """Compile (once per session) and deploy a contract; `source` as in `compiled`."""
        output = compiled(source)
        factory = self.w3.eth.contract(abi=output["abi"], bytecode=output["bytecode"])
        sent = factory.constructor(*arguments).transact({"from": self.w3.eth.accounts[0]})
        receipt = self.w3.eth.wait_for_transaction_receipt(sent)
        assert receipt["contractAddress"] is not None
        return self.w3.eth.contract(address=receipt["contractAddress"], abi=output["abi"])

    def next_addresses(self, number: int) -> list[str]:
        """Where the next contracts will stand that `deploy` creates."""
        sender = self.w3.eth.accounts[0]
        nonce = self.w3.eth.get_transaction_count(sender)
        return [get_create_address(sender, nonce + step) for step in range(number)]

    def mine(self, blocks: int = 1) -> None:
        """Mine empty blocks."""
        self.rpc("anvil_mine", [hex(blocks)])

    def rpc(self, method: str, parameters: list[Any]) -> Any:
        """A raw call, for methods that web3 does not wrap. Errors become RuntimeError."""
        response = self.w3.provider.make_request(method, parameters)  # type: ignore[arg-type]
        if "error" in response:
            raise RuntimeError(f"{method}: {response['error']}")
        return response["result"]

    def execution_gas(self, call: Any) -> int:
        """Gas that a contract function call burns while executing, in gas.

        The intrinsic part (21,000 and calldata) is left out, refunds are taken off.
        """
        sender = self.w3.eth.accounts[0]
        sent = call.transact({"from": sender, "gas": 5_000_000})
        return self.execution_of(Web3.to_hex(sent))

    def execution_of(self, sent: str) -> int:
        """What `execution_gas` says, of a transaction that is mined already.

        Computed from the receipt: a trace of every step would have to be kept for every
        transaction of the chain, which takes gigabytes. Raises ValueError where EIP-7623's floor
        hides the execution.
        """
        receipt = self.w3.eth.wait_for_transaction_receipt(HexBytes(sent))
        assert receipt["status"] == 1
        data = bytes(self.w3.eth.get_transaction(HexBytes(sent))["input"])
        tokens = 4 * len(data) - 3 * data.count(0)
        if receipt["gasUsed"] <= TRANSACTION_GAS + 10 * tokens:
            raise ValueError("the floor of calldata hides the execution; measure it by a trace")
        return receipt["gasUsed"] - TRANSACTION_GAS - 4 * tokens


@pytest.fixture(scope="session")
def chain() -> Iterator[Chain]:
    """One anvil for the session; tests deploy their own contracts and share nothing else."""
    with running() as url:
        yield Chain(Web3(Web3.HTTPProvider(url)), url)
