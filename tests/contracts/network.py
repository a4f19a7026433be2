"""All six contracts on anvil with registered nodes, and the steps of a task.

Everything is real: block headers, ECVRF proofs, P-256 and EIP-712 signatures. Steps return the new
`Task`, folded from the receipt's events exactly as clients do it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from eth_abi.abi import encode
from web3 import Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunction
from web3.logs import DISCARD
from web3.types import TxReceipt, Wei

from agent.formats.taskspec import commit
from nodeclient.core import ecvrf, vrf_witness
from tests.contracts.anvil import Chain
from tests.contracts.headers import encode_header
from tests.contracts.signing import (
    AFFIRMING,
    AFTER,
    BEFORE,
    CONTRAINDICATED,
    Header,
    NodeKeys,
    Vote,
    tagged,
)

UNIT: Final = 10**18
UNBONDING: Final = 400
HALF_LIFE: Final = 10_000
SPAN: Final = 32
DELAY: Final = 2
CLAIM_WINDOW: Final = 12
DRAW_WINDOW: Final = 20
LOOKAHEAD: Final = 1
POSTING_FEE: Final = 10**12
CLASSES: Final = [[20, 40, 60], [10, 10, 10], [5, 5, 5], [50, 60, 70]]
SIZE: Final = 5
VOTE_WINDOW: Final = 30
MOTION_FEE: Final = 10**13
EXECUTOR_FEE: Final = 5 * 10**15
MEMBER_FEE: Final = 10**15
NOBODY: Final = "0x" + "00" * 20
GAS: Final = 12_000_000  # below the osaka cap of 2^24 for one transaction
Ballot = tuple[int, int, list[tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Task:
    """The struct `Task`, and the members, which clients know from the draw's event."""

    id: int
    commitment: bytes
    requester: str
    posted_at: int
    executor_fee: int
    member_fee: int
    committee_size: int
    class_id: int
    executor: str = NOBODY
    ticket: int = 0
    beta: bytes = bytes(32)
    committee: bytes = bytes(32)
    root_x: int = 0
    root_y: int = 0
    step_at: int = 0
    members: tuple[str, ...] = field(default=())

    def as_tuple(self) -> tuple[Any, ...]:
        """The struct's fields in order."""
        return tuple(getattr(self, item.name) for item in fields(self) if item.name != "members")

    @property
    def escrow(self) -> int:
        """Wei that the task holds while it is not over."""
        return self.executor_fee + self.committee_size * self.member_fee


class Refused(AssertionError):
    """A transaction that should have succeeded was reverted."""


@dataclass(slots=True)
class Network:
    """The six contracts and the nodes that joined."""

    chain: Chain
    registry: Contract
    reputation: Contract
    images: Contract
    attestation: Contract
    admission: Contract
    market: Contract
    requester: str
    outsider: str
    nodes: dict[str, NodeKeys] = field(default_factory=dict)
    executor_fee: int = EXECUTOR_FEE  # wei that a posting offers
    member_fee: int = MEMBER_FEE
    posting_fee: int = POSTING_FEE
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    def deploy(cls, chain: Chain, **changed: Any) -> Network:
        """Deploy all six; `changed` replaces parameters of the market by name."""
        at = chain.next_addresses(6)
        verifier, ledger, records, gate, target = at[0], at[2], at[3], at[4], at[5]
        accounts: Sequence[str] = chain.w3.eth.accounts
        chain.deploy("contracts/P256Verifier.vy")
        registry = chain.deploy(
            "contracts/NodeRegistry.vy", UNIT, UNBONDING, True,
            verifier, ledger, records, target, gate,
        )  # fmt: skip
        reputation = chain.deploy(
            "contracts/ReputationLedger.vy", HALF_LIFE, SPAN, registry.address, records, target
        )
        attestation = chain.deploy(
            "contracts/AttestationLedger.vy", registry.address, reputation.address, target
        )
        parameters: dict[str, Any] = {
            "entropy_delay": DELAY,
            "claim_window": CLAIM_WINDOW,
            "draw_window": DRAW_WINDOW,
            "lookahead": LOOKAHEAD,
            "posting_fee": POSTING_FEE,
            "classes": CLASSES,
        } | changed
        admission = chain.deploy(
            "contracts/AdmissionLedger.vy", registry.address, accounts[0],
            parameters["entropy_delay"], parameters["lookahead"],
            DRAW_WINDOW, VOTE_WINDOW, SIZE, MOTION_FEE,
        )  # fmt: skip
        market = chain.deploy(
            "contracts/TaskMarket.vy",
            registry.address,
            reputation.address,
            attestation.address,
            *parameters.values(),
        )
        images = chain.deploy("contracts/ImageRegistry.vy", registry.address, 3600)
        chain.rpc("anvil_autoImpersonateAccount", [True])
        return cls(
            chain, registry, reputation, images, attestation, admission, market,
            accounts[1], accounts[2],
        )  # fmt: skip

    # --- transactions -------------------------------------------------------------------------

    def send(self, sender: str, call: ContractFunction, value: int = 0) -> TxReceipt:
        """Send and mine; raises `Refused` with the reason string if it reverts."""
        # a fixed gas limit: an estimate would run in another block than the transaction
        options: Any = {"from": sender, "value": value, "gas": GAS}
        sent = call.transact(options)
        receipt = self.chain.w3.eth.wait_for_transaction_receipt(sent)
        if receipt["status"] != 1:
            raise Refused(self._reason(Web3.to_hex(sent)))
        return receipt

    def send_together(self, calls: Sequence[tuple[str, ContractFunction, int]]) -> list[TxReceipt]:
        """Send several calls (sender, call, wei) into one block; raises `Refused` if one of them
        reverts."""
        self.chain.rpc("evm_setAutomine", [False])
        try:
            sent = [
                call.transact({"from": sender, "gas": GAS // 4, "value": Wei(value)})
                for sender, call, value in calls
            ]
            self.chain.mine(1)
        finally:
            self.chain.rpc("evm_setAutomine", [True])
        receipts = [self.chain.w3.eth.wait_for_transaction_receipt(one) for one in sent]
        if not all(receipt["status"] == 1 for receipt in receipts):
            raise Refused("a call of the block was reverted")
        return receipts

    def reason(self, sender: str, call: ContractFunction, value: int = 0) -> str:
        """The reason string with which a transaction reverts; fails if it succeeds."""
        try:
            self.send(sender, call, value)
        except Refused as refusal:
            return str(refusal)
        raise AssertionError(f"{call.fn_name} was not refused")

    def _reason(self, sent: str) -> str:
        trace = self.chain.rpc("debug_traceTransaction", [sent, {"tracer": "callTracer"}])
        output = bytes.fromhex(trace.get("output", "0x")[2:])
        if output[:4] != bytes.fromhex("08c379a0"):
            return f"no reason ({output.hex()})"
        return output[68 : 68 + int.from_bytes(output[36:68], "big")].decode()

    @property
    def block(self) -> int:
        """The latest block; a transaction lands in the next one."""
        return self.chain.w3.eth.block_number

    def mine_to(self, number: int) -> None:
        """Mine until the latest block is `number`."""
        if number > self.block:
            self.chain.mine(number - self.block)

    def header_of(self, number: int) -> bytes:
        """RLP header of a block."""
        return encode_header(self.chain.rpc("eth_getBlockByNumber", [hex(number), False]))

    def prevrandao(self, number: int) -> bytes:
        """The randomness of a block."""
        return bytes(self.chain.w3.eth.get_block(number)["mixHash"])

    # --- nodes --------------------------------------------------------------------------------

    def registration(self, keys: NodeKeys, contact: bytes = b"contact") -> tuple[Any, ...]:
        """Arguments of `register` but `join`: registration, contact and the root signature."""
        row = (*keys.root_public, 1, *keys.vrf_public, keys.hardware_id, b"\x44" * 32)
        return row, contact, self.sign_registration(keys, row, contact)

    def sign_registration(
        self, keys: NodeKeys, row: tuple[Any, ...], contact: bytes, account: str = ""
    ) -> tuple[int, int]:
        """Proof of possession of the root key."""
        types = ["bytes32", "uint256", "address", "address", *["uint256"] * 5, *["bytes32"] * 3]
        values = [
            tagged("sealrun/registration/v1"), self.chain.w3.eth.chain_id, self.registry.address,
            account or keys.address, *row, bytes(Web3.keccak(contact)),
        ]  # fmt: skip
        return keys.root_sign(hashlib.sha256(encode(types, values)).digest())

    def sign_contact(self, keys: NodeKeys, contact: bytes) -> tuple[int, int]:
        """Root signature of a new contact record."""
        values = [
            tagged("sealrun/contact/v1"), self.chain.w3.eth.chain_id, self.registry.address,
            keys.address, bytes(Web3.keccak(contact)),
        ]  # fmt: skip
        types = ["bytes32", "uint256", "address", "address", "bytes32"]
        return keys.root_sign(hashlib.sha256(encode(types, values)).digest())

    def fund(self, account: str) -> None:
        """Give an account 10,000 ether."""
        self.chain.rpc("anvil_setBalance", [account, hex(10**22)])

    def join(self, label: str, deposit: int = UNIT, join: bool = True) -> NodeKeys:
        """Register a node."""
        keys = NodeKeys.derive(label)
        self.fund(keys.address)
        row, contact, signature = self.registration(keys)
        self.send(
            keys.address,
            self.registry.functions.register(row, contact, join, *signature),
            deposit,
        )
        self.nodes[keys.address] = keys
        return keys

    # --- a task, step by step -----------------------------------------------------------------

    def fold(self, task: Task, receipt: TxReceipt) -> Task:
        """The Task after the events of a receipt."""
        folded = replace(task, step_at=receipt["blockNumber"])
        events = self.market.events
        for claimed in events.TaskClaimed().process_receipt(receipt, DISCARD):
            args = claimed["args"]
            folded = replace(
                folded, executor=args["leader"], ticket=args["ticket"], beta=args["beta"]
            )
        for drawn in events.CommitteeDrawn().process_receipt(receipt, DISCARD):
            args = drawn["args"]
            members = tuple(args["members"])
            folded = replace(
                folded,
                members=members,
                committee=bytes(Web3.keccak(encode(["address[]"], [members]))),
                ticket=0,
                beta=bytes(32),
                root_x=args["root_x"],
                root_y=args["root_y"],
            )
        return folded

    def post_call(
        self, spec_hash: bytes, k: int = 3, class_id: int = 0, number: int | None = None
    ) -> ContractFunction:
        """The call `post` with the usual fees; without a number, under one that nobody used."""
        chosen = next(self.numbers) if number is None else number
        fees = (self.executor_fee, self.member_fee)
        return self.market.functions.post(spec_hash, chosen, k, class_id, *fees)

    def post(self, label: str = "task", k: int = 3, class_id: int = 0) -> Task:
        """Post a task for the requester."""
        call = self.post_call(bytes(Web3.keccak(text=label)), k, class_id)
        return self.posted(call, self.send(self.requester, call, self.price(k)))

    def price(self, k: int) -> int:
        """Wei that a posting with a committee of k brings."""
        return self.posting_fee + self.executor_fee + k * self.member_fee

    def posted(self, call: ContractFunction, receipt: TxReceipt) -> Task:
        """The Task that a `post_call` of the requester has made."""
        (posted,) = self.market.events.TaskPosted().process_receipt(receipt, DISCARD)
        number = receipt["blockNumber"]
        spec_hash, chosen, k, class_id = call.args[:4]
        return Task(
            id=posted["args"]["task"],
            commitment=commit(spec_hash, bytes.fromhex(self.requester[2:]), chosen),
            requester=self.requester,
            posted_at=number,
            executor_fee=self.executor_fee,
            member_fee=self.member_fee,
            committee_size=k,
            class_id=class_id,
            step_at=number,
        )

    def alpha(self, task: Task, node: str) -> bytes:
        """The VRF input of a node for a task, once its entropy block exists."""
        values = [
            tagged("sealrun/alpha/v1"), self.chain.w3.eth.chain_id, self.market.address, task.id,
            node, self.prevrandao(task.posted_at + DELAY),
        ]  # fmt: skip
        types = ["bytes32", "uint256", "address", "uint256", "address", "bytes32"]
        return bytes(Web3.keccak(encode(types, values)))[: vrf_witness.ALPHA_BYTES]

    def beta(self, task: Task, keys: NodeKeys) -> bytes:
        """A node's VRF output for a task."""
        suite = ecvrf.SECP256K1_TAI
        alpha = self.alpha(task, keys.address)
        return ecvrf.proof_to_hash(suite, ecvrf.prove(suite, keys.vrf, alpha))

    def claim_call(self, task: Task, keys: NodeKeys) -> ContractFunction:
        """The call `claim` with the right header and proof."""
        proof = vrf_witness.prove(keys.vrf, self.alpha(task, keys.address)).as_arguments()
        header = self.header_of(task.posted_at + DELAY)
        return self.market.functions.claim(task.as_tuple(), header, *proof)

    def open_claims(self, task: Task) -> None:
        """Mine until claims are taken."""
        self.mine_to(task.posted_at + DELAY)

    def claim(self, task: Task, keys: NodeKeys) -> Task:
        """A node claims."""
        self.open_claims(task)
        return self.fold(task, self.send(keys.address, self.claim_call(task, keys)))

    def entropy_block(self, task: Task) -> int:
        """The block whose randomness draws the committee."""
        first = task.posted_at + 2 * DELAY + CLAIM_WINDOW
        return next(n for n in itertools.count(first) if n % (2 * LOOKAHEAD + 2) == 0)

    def draw_call(self, task: Task, accept: bool = False) -> ContractFunction:
        """The call `draw` with the right header."""
        header = self.header_of(self.entropy_block(task))
        return self.market.functions.draw(task.as_tuple(), header, accept)

    def draw(self, task: Task) -> Task:
        """Anyone draws the committee."""
        self.mine_to(self.entropy_block(task))
        return self.fold(task, self.send(self.outsider, self.draw_call(task)))

    def draw_accepting(self, task: Task) -> Task:
        """The leader draws the committee and accepts."""
        self.mine_to(self.entropy_block(task))
        return self.fold(task, self.send(task.executor, self.draw_call(task, accept=True)))

    def accept(self, task: Task) -> Task:
        """The executor accepts."""
        call = self.market.functions.accept(task.as_tuple())
        return self.fold(task, self.send(task.executor, call))

    def header(self, task: Task, phase: int, **changed: Any) -> Header:
        """An attestation header of the task's executor."""
        return replace(Header(task.id, task.commitment, task.executor, phase), **changed)

    def digest(self, header: Header) -> bytes:
        """Digest of a header at this ledger."""
        return header.digest(self.chain.w3.eth.chain_id, self.attestation.address)

    def sign_header(self, header: Header, keys: NodeKeys | None = None) -> tuple[int, int]:
        """Root signature of a header by its node, or by another one's root."""
        return (keys or self.nodes[header.node]).root_sign(self.digest(header))

    def sign_vote(self, vote: Vote, keys: NodeKeys) -> tuple[int, int]:
        """Compact signature of a vote."""
        return vote.sign(self.chain.w3.eth.chain_id, self.attestation.address, keys.account)

    def ballot(self, task: Task, vote: Vote, seats: Sequence[int] | None = None) -> Ballot:
        """Votes of some seats (all by default) that agree."""
        chosen = range(len(task.members)) if seats is None else seats
        signatures = [self.sign_vote(vote, self.nodes[task.members[seat]]) for seat in chosen]
        voters = sum(1 << seat for seat in chosen)
        return vote.valid_until, voters, signatures

    def record_call(
        self, task: Task, phase: int, seats: Sequence[int] | None = None, **changed: Any
    ) -> ContractFunction:
        """The call `admit` or `finish` with a signed header and votes of some seats."""
        header = self.header(task, phase, **changed)
        vote = Vote(task.id, phase, self.digest(header), header.attempt, AFFIRMING)
        step = self.market.functions.admit if phase == BEFORE else self.market.functions.finish
        return step(
            task.as_tuple(),
            list(task.members),
            header.statement(self.sign_header(header)),
            self.ballot(task, vote, seats),
        )

    def admit(self, task: Task, seats: Sequence[int] | None = None) -> Task:
        """The executor brings the BEFORE record."""
        call = self.record_call(task, BEFORE, seats)
        return self.fold(task, self.send(task.executor, call))

    def finish(self, task: Task, seats: Sequence[int] | None = None) -> Task:
        """The executor brings the AFTER record."""
        call = self.record_call(task, AFTER, seats)
        return self.fold(task, self.send(task.executor, call))

    def refuse_call(
        self, task: Task, phase: int, seats: Sequence[int] | None = None, **changed: Any
    ) -> ContractFunction:
        """The call `refuse` with contraindicating votes of some seats."""
        vote = replace(Vote(task.id, phase, bytes(32), 1, CONTRAINDICATED), **changed)
        return self.market.functions.refuse(
            task.as_tuple(),
            list(task.members),
            phase,
            vote.attempt,
            vote.header,
            self.ballot(task, vote, seats),
        )

    def expire_call(self, task: Task) -> ContractFunction:
        """The call `expire`."""
        return self.market.functions.expire(task.as_tuple())

    def equivocate(self, keys: NodeKeys, task: int = 77) -> TxReceipt:
        """A node signs two votes that contradict each other, and the outsider proves it."""
        pair = [Vote(task, BEFORE, b"\x01" * 32, verdict=v) for v in (AFFIRMING, CONTRAINDICATED)]
        signed = [part for vote in pair for part in (vote.as_tuple(), self.sign_vote(vote, keys))]
        return self.send(self.outsider, self.attestation.functions.prove_double_vote(*signed))

    def free_node(self) -> NodeKeys:
        """The first node that may claim."""
        status = self.registry.functions.status
        engaged = self.reputation.functions.engaged
        return next(
            keys
            for keys in self.nodes.values()
            if status(keys.address).call() == 2 and not engaged(keys.address).call()
        )

    def reach(self, state: str, k: int = 3, class_id: int = 0) -> Task:
        """A new task in a state: posted, claimed, drawn, accepted, admitted or settled."""
        steps = {
            "claimed": lambda task: self.claim(task, self.free_node()),
            "drawn": self.draw,
            "accepted": self.accept,
            "admitted": self.admit,
            "settled": self.finish,
        }
        task = self.post(k=k, class_id=class_id)
        for name, step in steps.items():
            if state == "posted":
                break
            task = step(task)
            if name == state:
                break
        return task

    def state(self, task: Task) -> int:
        """The task's state on chain."""
        return int(self.market.functions.state(task.id).call())

    def owed(self, account: str) -> int:
        """What `withdraw` would pay, in wei."""
        return int(self.market.functions.owed(account).call())

    def balance(self, account: str) -> int:
        """Wei of an account."""
        return int(self.chain.w3.eth.get_balance(Web3.to_checksum_address(account)))
