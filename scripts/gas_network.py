"""A network on anvil that meters itself: every transaction by function name, reverted ones too."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

from web3.contract.contract import ContractFunction
from web3.exceptions import ContractLogicError
from web3.types import TxReceipt

from nodeclient.core.sortition import claim_delay_blocks
from tests.contracts.anvil import Chain
from tests.contracts.network import CLAIM_WINDOW, UNIT, Network, Task
from tests.contracts.signing import NodeKeys

# Registrations in one block: each may use half a million gas of anvil's 30 million.
BATCH: Final = 50
REGISTRATION_GAS: Final = 500_000
CLAIM_GAS: Final = 1_000_000
USUAL_FACTOR: Final = 10_000  # of reputation, in the unit of a ticket's weight


class MeteredNetwork(Network):
    """A network that notes the gas of every transaction by function name."""

    used: dict[str, int]
    claims: int  # sent
    reverted: int  # of them

    @classmethod
    def deploy(cls, chain: Chain, **changed: Any) -> MeteredNetwork:
        """Deploy with an empty meter."""
        cls.used, cls.claims, cls.reverted = {}, 0, 0
        network = super().deploy(chain, **changed)
        assert isinstance(network, MeteredNetwork)
        return network

    def send(self, sender: str, call: ContractFunction, value: int = 0) -> TxReceipt:
        """Send as `Network` does, and note the receipt's gas."""
        receipt = super().send(sender, call, value)
        self.note(call, receipt)
        return receipt

    def note(self, call: ContractFunction, receipt: TxReceipt) -> None:
        """Add a receipt to the meter."""
        self.used[call.fn_name] = self.used.get(call.fn_name, 0) + receipt["gasUsed"]

    def populate(self, count: int) -> None:
        """Register real nodes by real transactions until there are `count`, in four tiers."""
        for first in range(len(self.nodes), count, BATCH):
            batch = range(first, min(first + BATCH, count))
            joining = [NodeKeys.derive(f"node {number}") for number in batch]
            # anvil answers the requests of a batch side by side: only equal ones in each
            self._batch("anvil_setBalance", [[keys.address, hex(10**22)] for keys in joining])
            self.chain.rpc("evm_setAutomine", [False])
            try:
                sent = map(self._registration, joining, (UNIT << n % 4 for n in batch))
                self._batch("eth_sendTransaction", [[one] for one in sent])
                self.chain.mine(1)
            finally:
                self.chain.rpc("evm_setAutomine", [True])
            self.nodes |= {keys.address: keys for keys in joining}
        if self.registry.functions.drawable().call() != count:
            raise RuntimeError("gas: a registration failed; join one node by hand to see why")

    def _registration(self, keys: NodeKeys, deposit: int) -> dict[str, str]:
        row, contact, signature = self.registration(keys)
        call = self.registry.functions.register(row, contact, True, *signature)
        return {
            "from": keys.address,
            "to": self.registry.address,
            "value": hex(deposit),
            "gas": hex(REGISTRATION_GAS),
            "data": call._encode_transaction_data(),
        }

    def _batch(self, method: str, parameters: Sequence[list[Any]]) -> None:
        requests = [(method, each) for each in parameters]
        self.chain.w3.provider.make_batch_request(requests)  # type: ignore[arg-type]

    def race(self, task: Task, pool: Sequence[NodeKeys], rng: random.Random) -> Task:
        """Claims as they happen: each node of the pool waits as `claim_delay_blocks` says and sends
        only what would lead when it sends. Those of one block meet in any order: the second brings
        a Task that has changed, is reverted, and comes again if its ticket is still the lower one.
        """
        self.open_claims(task)
        tickets = {keys.address: self._ticket(task, keys) for keys in pool}
        waiting = {address: ticket for address, ticket in tickets.items() if ticket is not None}
        weight_of = self.registry.functions.claim_weight
        weight = sum(weight_of(address, task.posted_at).call() for address in waiting)
        delays = {
            address: claim_delay_blocks(ticket, weight * USUAL_FACTOR, CLAIM_WINDOW)
            for address, ticket in waiting.items()
        }
        led = task
        for offset in range(CLAIM_WINDOW):
            better = [a for a in waiting if led.ticket == 0 or waiting[a] < led.ticket]
            due = [a for a in better if delays[a] <= offset and a != led.executor]
            if not better:
                break
            rng.shuffle(due)
            led = self._claims_of_a_block(led, due)
        return led

    def _claims_of_a_block(self, task: Task, senders: Sequence[str]) -> Task:
        calls = [self.claim_call(task, self.nodes[sender]) for sender in senders]
        self.chain.rpc("evm_setAutomine", [False])
        try:
            sent = [
                call.transact({"from": sender, "gas": CLAIM_GAS})
                for sender, call in zip(senders, calls, strict=True)
            ]
            self.chain.mine(1)
        finally:
            self.chain.rpc("evm_setAutomine", [True])
        for call, one in zip(calls, sent, strict=True):
            receipt = self.chain.w3.eth.wait_for_transaction_receipt(one)
            self.note(call, receipt)
            self.claims += 1
            self.reverted += receipt["status"] != 1
            if receipt["status"] == 1:
                task = self.fold(task, receipt)
        return task

    def _ticket(self, task: Task, keys: NodeKeys) -> int | None:
        """The ticket of a node that may claim; a node with a task of its own has none."""
        call = self.market.functions.ticket_of(self.beta(task, keys), keys.address, task.posted_at)
        try:
            return int(call.call())
        except ContractLogicError:
            return None
