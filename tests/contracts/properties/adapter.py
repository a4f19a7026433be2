"""What the properties know of the contracts' calls: `Network` on a chain in process, made quick.

The only file of this folder in which names, arguments and structs of the contracts stand. Calls are
built by `tests.contracts.network.Network`, as in the ordinary contract tests; here they skip
JSON-RPC on their way to the EVM, are counted, and answer with a reason instead of an exception.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final

from eth_abi.abi import decode
from eth_abi.abi import encode as abi_encode
from eth_utils import keccak, to_checksum_address
from hexbytes import HexBytes
from web3 import Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunction
from web3.datastructures import AttributeDict
from web3.types import TxReceipt

from tests.contracts.inprocess import ACCOUNTS, Machine, Outcome, Provider, new_chain
from tests.contracts.network import (
    CLAIM_WINDOW,
    CLASSES,
    DELAY,
    DRAW_WINDOW,
    NOBODY,
    UNIT,
    Network,
    Refused,
    Task,
)
from tests.contracts.signing import (
    AFFIRMING,
    AFTER,
    BEFORE,
    CONTRAINDICATED,
    Header,
    NodeKeys,
    Vote,
)

STATES: Final = (
    "UNKNOWN",
    "POSTED",
    "DRAWN",
    "ACCEPTED",
    "ADMITTED",
    "SETTLED",
    "FAILED",
    "EXPIRED",
)
UNKNOWN, POSTED, DRAWN, ACCEPTED, ADMITTED, SETTLED, FAILED, EXPIRED = range(8)
NONE, PENDING, ACTIVE, PAUSED, EXITING, EXITED, BARRED = range(7)
BASE_NODES: Final = (1, 1, 1, 1, 1, 2, 4)  # Deposits in units, each with half a unit more


@dataclass(slots=True)
class Calls:
    """How many messages went to the contracts, since the process began."""

    transactions: int = 0
    views: int = 0


CALLS: Final = Calls()


@dataclass(frozen=True, slots=True)
class Done:
    """A transaction: the reason it was refused for (empty if it was not) and its receipt."""

    reason: str
    receipt: TxReceipt


@cache
def keys_of(label: str) -> NodeKeys:
    """Keys of a node by label; deriving them costs more than a call."""
    return NodeKeys.derive(label)


@dataclass(slots=True)
class Quick(Network):
    """A network whose transactions and views go straight to the machine."""

    labels: dict[str, NodeKeys] = field(default_factory=dict)

    @property
    def machine(self) -> Machine:
        """The EVM below."""
        provider = self.chain.w3.provider
        assert isinstance(provider, Provider)
        return provider.machine

    # --- messages -----------------------------------------------------------------------------

    def attempt(self, sender: str, call: ContractFunction, value: int = 0) -> Done:
        """Send a transaction that may be refused."""
        CALLS.transactions += 1
        data = bytes.fromhex(str(call._encode_transaction_data())[2:])
        outcome = self.machine.send(sender, call.address, data, value)
        return Done(outcome.reason if outcome.failed else "", self._receipt(outcome))

    def send(self, sender: str, call: ContractFunction, value: int = 0) -> TxReceipt:
        """Send a transaction that must not be refused; raises `Refused` if it is."""
        done = self.attempt(sender, call, value)
        if done.reason:
            raise Refused(done.reason)
        return done.receipt

    def view(self, contract: Contract, name: str, *arguments: Any) -> Any:
        """A view call; the single value, or the tuple of values."""
        CALLS.views += 1
        selector, inputs, outputs = _signature(contract.address, name, contract)
        outcome = self.machine.view(contract.address, selector + abi_encode(inputs, arguments))
        if outcome.failed:
            raise Refused(outcome.reason)
        values = decode(outputs, outcome.output)
        return values[0] if len(values) == 1 else values

    def _receipt(self, outcome: Outcome) -> TxReceipt:
        number = self.machine.block
        where = {
            "blockNumber": number,
            "blockHash": HexBytes(32),
            "transactionHash": HexBytes(32),
            "transactionIndex": 0,
        }
        logs = [
            AttributeDict(
                {
                    "address": to_checksum_address(address),
                    "topics": [HexBytes(topic.to_bytes(32, "big")) for topic in topics],
                    "data": HexBytes(data),
                    "logIndex": index,
                    **where,
                }
            )
            for index, (address, topics, data) in enumerate(outcome.logs)
        ]
        receipt: Any = AttributeDict({**where, "status": int(not outcome.failed), "logs": logs})
        return receipt

    @property
    def block(self) -> int:
        """The latest block; a transaction lands in the next one."""
        return self.machine.block

    def mine_to(self, number: int) -> None:
        """Mine until the latest block is `number`."""
        self.machine.mine(max(0, number - self.block))

    def header_of(self, number: int) -> bytes:
        """RLP header of a block."""
        return self.machine.header(number)

    @contextmanager
    def next_block(self) -> Iterator[None]:
        """Views as the next transaction will find the world."""
        self.machine.block += 1
        try:
            yield
        finally:
            self.machine.block -= 1

    # --- what the properties look at ----------------------------------------------------------

    def standing_of(self, node: str) -> tuple[int, int, int]:
        """Status (NONE .. BARRED), Deposit in wei, tier."""
        names = [one["name"] for one in _outputs(self.registry, "node")[0]["components"]]
        row = dict(zip(names, self.view(self.registry, "node", node), strict=True))
        return int(row["status"]), int(row["deposit"]), int(row["tier"])

    def drawn_by(self, seed: bytes, k: int) -> list[str]:
        """Whom the draw structure gives for a seed, nobody excluded."""
        return [
            to_checksum_address(one) for one in self.view(self.registry, "draw", seed, k, NOBODY)
        ]

    def total_weight(self) -> int:
        """Weight of the draw structure."""
        return int(self.view(self.registry, "total_weight"))

    def drawable(self) -> int:
        """Number of nodes in the draw structure."""
        return int(self.view(self.registry, "drawable"))

    def frozen_by(self) -> int:
        """The task for which the draw stands still, or 0, as a transaction would see it now."""
        return int(self.view(self.registry, "frozen_by"))

    def can_draw(self, task: Task) -> bool:
        """Whether there are nodes enough for the task's committee."""
        return bool(self.view(self.registry, "can_draw", task.committee_size, task.executor))

    def engaged(self, node: str) -> bool:
        """Whether a node leads or runs a task."""
        return bool(self.view(self.reputation, "engaged", node))

    def reputation_of(self, node: str) -> int:
        """Basis points."""
        return int(self.view(self.reputation, "reputation", node))

    def factor(self, node: str, posted_at: int) -> int:
        """Basis points."""
        return int(self.view(self.reputation, "factor_at", node, posted_at))

    def owed(self, account: str) -> int:
        """Wei that `withdraw` would pay."""
        return int(self.view(self.market, "owed", account))

    def burned(self) -> int:
        """Posting fees so far, in wei."""
        return int(self.view(self.market, "burned"))

    def task_state(self, task: Task) -> int:
        """UNKNOWN .. EXPIRED."""
        return int(self.view(self.market, "state", task.id))

    def record(self, task: Task, phase: int) -> tuple[int, bytes, int]:
        """Verdict, evidence root, number of votes."""
        verdict, root, number = self.view(self.attestation, "record", task.id, phase)
        return int(verdict), bytes(root), int(number)

    def ticket(self, task: Task, keys: NodeKeys) -> int | None:
        """The ticket that a claim would get now; None if the node must not claim."""
        beta = self.beta(task, keys)
        try:
            return int(self.view(self.market, "ticket_of", beta, keys.address, task.posted_at))
        except Refused:
            return None

    # --- calls --------------------------------------------------------------------------------

    def enrol_call(self, label: str, join: bool) -> tuple[NodeKeys, ContractFunction]:
        """The call `register` of a node by label."""
        keys = keys_of(label)
        row, contact, signature = self.registration(keys)
        self.nodes[keys.address] = keys
        self.machine.set_balance(keys.address, max(self.balance(keys.address), 10**22))
        return keys, self.registry.functions.register(row, contact, join, *signature)

    def node_call(self, name: str, *arguments: Any) -> ContractFunction:
        """One of the registry's calls about the caller's own node (or `sync`)."""
        return getattr(self.registry.functions, name)(*arguments)

    def rotate_call(self, keys: NodeKeys, number: int) -> tuple[NodeKeys, ContractFunction]:
        """The call `rotate_vrf`, and the keys with which the node goes on."""
        rotated = replace(keys, vrf=bytes(keccak(keys.vrf + bytes([number]))))
        return rotated, self.registry.functions.rotate_vrf(*rotated.vrf_public)

    def draw_by_call(self, task: Task, accept: bool) -> ContractFunction:
        """The call `draw`; only the leader may accept with it."""
        return self.draw_call(task, accept)

    def accept_call(self, task: Task) -> ContractFunction:
        """The call `accept`."""
        return self.market.functions.accept(task.as_tuple())

    def withdraw_call(self) -> ContractFunction:
        """The call `withdraw`."""
        return self.market.functions.withdraw()

    def advance_call(self) -> ContractFunction:
        """The call `advance`."""
        return self.market.functions.advance()

    def double_vote_call(self, task_id: int, keys: NodeKeys) -> ContractFunction:
        """Proof that a node voted both ways about one thing."""
        votes = [Vote(task_id, BEFORE, bytes(32), 1, how) for how in (AFFIRMING, CONTRAINDICATED)]
        shown = [part for vote in votes for part in (vote.as_tuple(), self.sign_vote(vote, keys))]
        return self.attestation.functions.prove_double_vote(*shown)

    def double_header_call(self, task: Task, keys: NodeKeys) -> ContractFunction:
        """Proof that a node's root signed two headers for one attempt."""
        first = Header(task.id, task.commitment, keys.address, AFTER)
        second = replace(first, evidence_root=b"\x77" * 31 + b"\x00")
        whole = [one.whole(self.sign_header(one, keys)) for one in (first, second)]
        return self.attestation.functions.prove_double_header(*whole)

    def privileged_calls(self, task: Task | None, node: str) -> list[ContractFunction]:
        """Every call that only another contract may make."""
        id = task.id if task else 1
        committee = list(task.members) if task else []
        reputation = self.reputation.functions
        return [
            self.registry.functions.slash(node, UNIT, ACCOUNTS[9], "no cause"),
            reputation.open(node),
            reputation.engage(node, 1),
            reputation.release(node),
            reputation.settle(id, node, 10**18, committee, 0, 10**18),
            reputation.excuse(id, committee, 0),
            reputation.penalise(id, node, 8),
            reputation.collect(node),
            self.market.functions.reward(node),
            self.market.functions.note_bar(),
        ]

    def excuse_call(self, task: Task, seat: int) -> ContractFunction:
        """A vote of a seat on the AFTER record, shown after the settlement."""
        keys = self.nodes[task.members[seat]]
        vote = Vote(task.id, AFTER, bytes(32), 1, CONTRAINDICATED)
        return self.attestation.functions.excuse(
            list(task.members), seat, vote.as_tuple(), self.sign_vote(vote, keys)
        )

    def posting(
        self, number: int, k: int, class_id: int, fees: tuple[int, int]
    ) -> tuple[ContractFunction, Task]:
        """The call `post` by the requester, and the Task that it makes if it is next."""
        spec = bytes(Web3.keccak(text=f"property {number}"))
        call = self.market.functions.post(spec, number, k, class_id, *fees)
        task = Task(0, bytes(32), self.requester, 0, *fees, k, class_id)
        return call, task

    def posted(self, task: Task, receipt: TxReceipt) -> Task:
        """The Task with the number and block that its posting got."""
        (event,) = self.market.events.TaskPosted().process_receipt(receipt)
        number = receipt["blockNumber"]
        return replace(
            task,
            id=event["args"]["task"],
            commitment=bytes(event["args"]["commitment"]),
            posted_at=number,
            step_at=number,
        )

    # --- when ---------------------------------------------------------------------------------

    def last_claim(self, task: Task) -> int:
        """The last block in which a claim counts."""
        return task.posted_at + DELAY + CLAIM_WINDOW

    def last_draw(self, task: Task) -> int:
        """The last block in which the draw can be made."""
        return self.entropy_block(task) + DRAW_WINDOW

    def deadline(self, task: Task, state: int) -> int:
        """The last block of a state that has a committee."""
        return task.step_at + int(CLASSES[task.class_id][state - DRAWN])


@cache
def _signature(address: str, name: str, contract: Contract) -> tuple[bytes, list[str], list[str]]:
    entry = next(one for one in contract.abi if one.get("name") == name)
    inputs = [_type(one) for one in entry.get("inputs", [])]
    outputs = [_type(one) for one in entry.get("outputs", [])]
    return keccak(text=f"{name}({','.join(inputs)})")[:4], inputs, outputs


@cache
def _outputs(contract: Contract, name: str) -> Any:
    return next(one for one in contract.abi if one.get("name") == name)["outputs"]


def _type(entry: Any) -> str:
    if not entry["type"].startswith("tuple"):
        return str(entry["type"])
    parts = ",".join(_type(one) for one in entry["components"])
    return f"({parts}){entry['type'][5:]}"


def deployed() -> Quick:
    """The five contracts and the base nodes on a chain of their own."""
    network = Quick.deploy(new_chain())
    assert isinstance(network, Quick)
    for number, units in enumerate(BASE_NODES):
        network.join(f"node {number}", units * UNIT + UNIT // 2)
    return network


def quorum(k: int) -> int:
    """Two thirds of a committee, rounded up."""
    return -(-2 * k // 3)


def seats_of(numbers: Sequence[int], k: int) -> list[int]:
    """Distinct seats below k out of any numbers, ascending."""
    return sorted({number % k for number in numbers})
