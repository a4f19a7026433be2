"""The account `Hostile.vy`: posts, registers and is paid as anybody, but by a contract."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from web3 import Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunction

from tests.contracts.network import Network, Task
from tests.contracts.signing import NodeKeys

TAKE, REFUSE, BURN, CALL_AGAIN = range(4)
WITHDRAW: Final = bytes(Web3.keccak(text="withdraw()")[:4])
WITHDRAW_DEPOSIT: Final = bytes(Web3.keccak(text="withdraw_deposit()")[:4])


@dataclass(frozen=True, slots=True)
class Hostile:
    """One such account on a network."""

    network: Network
    contract: Contract

    @classmethod
    def deploy(cls, network: Network) -> Hostile:
        """A new one."""
        return cls(network, network.chain.deploy("tests/contracts/attacks/Hostile.vy"))

    @property
    def address(self) -> str:
        """Its address."""
        return str(self.contract.address)

    def run(self, call: ContractFunction, value: int = 0) -> Any:
        """Make a call in its name."""
        message = call._encode_transaction_data()
        relayed = self.contract.functions.run(call.address, message)
        return self.network.send(self.network.outsider, relayed, value)

    def behave(self, behaviour: int, target: Contract | None = None, message: bytes = b"") -> None:
        """How it answers the next payment."""
        at = target.address if target else self.address
        call = self.contract.functions.behave(behaviour, at, message)
        self.network.send(self.network.outsider, call)

    def post(self, k: int = 3) -> Task:
        """It posts a task."""
        posing = replace(self.network, requester=self.address)
        self.network.fund(self.address)
        return posing.post("hostile", k=k)

    def join(self, deposit: int) -> None:
        """It registers as a node, with a root of its own."""
        keys = NodeKeys.derive("hostile")
        row, contact, _ = self.network.registration(keys)
        signature = self.network.sign_registration(keys, row, contact, account=self.address)
        self.run(self.network.registry.functions.register(row, contact, True, *signature), deposit)
