"""A chain inside the test's own process: titanoboa's py-evm behind the face of `anvil.Chain`.

About ten times faster than a process behind HTTP, so it serves what needs many calls: the stateful
properties and the mutation tests, which run the ordinary contract tests on it. It has what the
contracts ask of a chain: blocks, real RLP headers behind the EIP-2935 address, P256VERIFY at 0x100
(by `cryptography`), one transaction a block. It has no fees: balances move by value alone.

What depends on the gas schedule, on the real precompile or on the real history contract stays on
anvil. A block's header is a function of its number and of the number of roll-backs so far, so
that proofs over its randomness can be cached across tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import rlp  # type: ignore[import-untyped]
from boa.environment import Env
from boa.util.abi import Address
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from eth.exceptions import InsufficientFunds, VMError
from eth_utils import keccak, to_checksum_address
from web3 import Web3
from web3.providers.base import BaseProvider

from tests.contracts.anvil import Chain

CHAIN_ID: Final = 31337
SECONDS_PER_BLOCK: Final = 12
GENESIS_TIME: Final = 1_700_000_000
GAS_LIMIT: Final = 30_000_000
# As high as on a real chain: small numbers fit any field, and would hide one that is too narrow.
FIRST_BLOCK: Final = 22_345_678
HISTORY: Final = bytes.fromhex("0000F90827F1C53a10cb7A02335B175320002935")
HISTORY_BLOCKS: Final = 8191
P256VERIFY: Final = (0x100).to_bytes(20, "big")
ACCOUNTS: Final = tuple(
    to_checksum_address(keccak(text=f"in-process account {number}")[12:]) for number in range(10)
)
Point = tuple[Any, int, int, tuple[tuple[int, int], ...]]
_EMPTY_LIST: Final = bytes.fromhex(
    "1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"
)


@lru_cache(maxsize=100_000)
def header_of(number: int, epoch: int) -> bytes:
    """RLP header of a block, with the fields and sizes that prague has."""

    def some(part: str, size: int = 32) -> bytes:
        return hashlib.sha256(f"{part}/{number}/{epoch}".encode()).digest()[:size]

    def integer(value: int) -> bytes:
        return value.to_bytes((value.bit_length() + 7) // 8, "big")

    fields = (
        some("parent"), _EMPTY_LIST, some("miner", 20), some("state"), some("transactions"),
        some("receipts"), bytes(256), b"", integer(number), integer(GAS_LIMIT),
        integer(number * 1000), integer(GENESIS_TIME + number * SECONDS_PER_BLOCK), b"sealrun",
        some("randao"), bytes(8), integer(7), some("withdrawals"), b"", b"", some("beacon"),
        some("requests"),
    )  # fmt: skip
    return bytes(rlp.encode(fields))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one message did: output (or revert data), logs as (address, topics, data), gas."""

    failed: bool
    output: bytes
    logs: tuple[tuple[bytes, tuple[int, ...], bytes], ...]
    gas: int
    created: bytes | None = None

    @property
    def reason(self) -> str:
        """The reason string of a revert; the raw data where there is none."""
        if self.output[:4] != bytes.fromhex("08c379a0"):
            return f"no reason ({self.output.hex()})"
        return self.output[68 : 68 + int.from_bytes(self.output[36:68], "big")].decode()


class _Ancestors(Sequence[bytes]):
    """What BLOCKHASH answers of the last 256 blocks: at depth 0 the hash of the block before."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def __len__(self) -> int:
        return min(256, self._machine.block)

    def __getitem__(self, depth: Any) -> Any:
        return keccak(self._machine.header(self._machine.block - 1 - depth))


class Machine:
    """Blocks, accounts and messages on a py-evm of its own. Numbers are wei, blocks, gas."""

    def __init__(self) -> None:
        self.env = Env()
        self.block = FIRST_BLOCK
        self.shift = 0
        # (first block, epoch): a roll-back gives the blocks after it new headers
        self.epochs: tuple[tuple[int, int], ...] = ((0, 0),)
        state = self.env.evm.vm.state
        kind = state.computation_class
        kind._precompiles = {
            **kind._precompiles,
            HISTORY: self._history,
            P256VERIFY: _p256verify,
        }
        self.env.evm.patch.chain_id = CHAIN_ID
        self.env.evm.patch.prev_hashes = _Ancestors(self)
        for account in ACCOUNTS:
            self.set_balance(account, 10**22)

    # --- blocks -------------------------------------------------------------------------------

    def header(self, number: int) -> bytes:
        """RLP header of a block."""
        epoch = next(epoch for first, epoch in reversed(self.epochs) if first <= number)
        return header_of(number, epoch)

    def time(self) -> int:
        """Unix time of the latest block."""
        return GENESIS_TIME + self.block * SECONDS_PER_BLOCK + self.shift

    def mine(self, blocks: int = 1) -> None:
        """Blocks without transactions."""
        self.block += blocks

    def snapshot(self) -> Point:
        """A point to which `revert` returns; worth nothing after that."""
        return self.env.evm.snapshot(), self.block, self.shift, self.epochs

    def revert(self, point: Point) -> None:
        """Undo everything since a snapshot."""
        state, self.block, self.shift, self.epochs = point
        self.env.evm.revert(state)

    # --- accounts -----------------------------------------------------------------------------

    def balance(self, account: str) -> int:
        """Wei of an account."""
        return int(self.env.evm.get_balance(Address(account)))

    def set_balance(self, account: str, wei: int) -> None:
        """Forced ether, up or down."""
        self.env.evm.set_balance(Address(account), wei)

    def nonce(self, account: str) -> int:
        """Transactions sent by an account so far."""
        return int(self.env.evm.vm.state.get_nonce(Address(account).canonical_address))

    # --- messages -----------------------------------------------------------------------------

    def send(self, sender: str, to: str | None, data: bytes, value: int = 0) -> Outcome:
        """A transaction in a block of its own; `to` None creates a contract."""
        self.block += 1
        return self.include(sender, to, data, value)

    def include(self, sender: str, to: str | None, data: bytes, value: int = 0) -> Outcome:
        """A transaction in the latest block, which stands open."""
        self._open()
        origin = Address(sender)
        if to is None:
            target = self.env.evm.generate_create_address(origin)
            done = self.env.evm.deploy_code(origin, origin, target, GAS_LIMIT, 0, value, data)
            return _outcome(done, target.canonical_address)
        self.env.evm.vm.state.increment_nonce(origin.canonical_address)
        return self._execute(origin, Address(to), data, value)

    def call(self, to: str, data: bytes, sender: str = ACCOUNTS[0], value: int = 0) -> Outcome:
        """A call in the latest block that leaves no trace."""
        self._open()
        point = self.env.evm.snapshot()
        try:
            return self._execute(Address(sender), Address(to), data, value)
        finally:
            self.env.evm.revert(point)

    def view(self, to: str, data: bytes) -> Outcome:
        """A static call in the latest block: quicker than `call`, which may write."""
        self._open()
        return self._execute(Address(ACCOUNTS[0]), Address(to), data, 0, static=True)

    def _open(self) -> None:
        patch = self.env.evm.patch
        patch.block_number = self.block
        patch.timestamp = self.time()
        self.env.sha3_trace.clear()
        self.env.sstore_trace.clear()

    def _execute(
        self, sender: Any, to: Any, data: bytes, value: int, static: bool = False
    ) -> Outcome:
        evm = self.env.evm
        done = evm.execute_code(
            sender, to, GAS_LIMIT, 0, value, evm.get_code(to), data, static, None, 0, None, None
        )
        return _outcome(done)

    def _history(self, computation: Any) -> Any:
        """EIP-2935: the hash of one of the last 8,191 blocks; reverts for any other."""
        number = int.from_bytes(computation.msg.data_as_bytes, "big")
        now = computation.state.block_number
        if len(computation.msg.data_as_bytes) != 32 or not now - HISTORY_BLOCKS <= number < now:
            raise VMError("block not in the history")
        computation.output = keccak(self.header(number))
        return computation


def _outcome(done: Any, created: bytes | None = None) -> Outcome:
    failed = bool(done.is_error)
    logs = () if failed else tuple(done.get_log_entries())
    return Outcome(failed, bytes(done.output), logs, int(done.get_gas_used()), created)


def _p256verify(computation: Any) -> Any:
    """EIP-7951: 32 bytes with the number 1 for a valid signature, nothing for any other."""
    computation.consume_gas(6900, reason="P256VERIFY")
    data = computation.msg.data_as_bytes
    computation.output = b""
    if len(data) == 160 and _p256_valid(data):
        computation.output = (1).to_bytes(32, "big")
    return computation


@lru_cache(maxsize=10_000)
def _p256_valid(data: bytes) -> bool:
    r, s, x, y = (int.from_bytes(data[at : at + 32], "big") for at in range(32, 160, 32))
    try:
        key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        key.verify(encode_dss_signature(r, s), data[:32], ec.ECDSA(Prehashed(hashes.SHA256())))
    except (InvalidSignature, ValueError):
        return False
    return True


class NeedsAnvil(RuntimeError):
    """Asked for something that only a chain of its own answers truly."""


class Provider(BaseProvider):
    """The JSON-RPC methods that web3 and the contract tests use, answered by a `Machine`."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine
        self.automine = True
        self.pending: list[dict[str, Any]] = []
        self.points: dict[str, Point] = {}
        self.before: Point | None = None
        self.done: dict[str, tuple[dict[str, Any], Outcome, int]] = {}
        self.methods: dict[str, Callable[..., Any]] = {
            "eth_chainId": lambda: hex(CHAIN_ID),
            "eth_accounts": lambda: list(ACCOUNTS),
            "eth_blockNumber": lambda: hex(machine.block),
            "eth_getBalance": lambda who, _=None: hex(machine.balance(who)),
            "eth_getTransactionCount": lambda who, _=None: hex(machine.nonce(who)),
            "eth_getCode": lambda who, _=None: _hex(machine.env.evm.get_code(Address(who))),
            "eth_getStorageAt": self._storage_at,
            "eth_getBlockByNumber": self._block,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "eth_sendTransaction": self._send,
            "eth_getTransactionReceipt": self._receipt,
            "debug_traceTransaction": self._trace,
            "anvil_mine": self._mine,
            "evm_mine": self._mine,
            "anvil_setBalance": lambda who, wei: machine.set_balance(who, int(wei, 16)),
            "anvil_setStorageAt": self._set_storage,
            "anvil_autoImpersonateAccount": lambda _: None,
            "anvil_impersonateAccount": lambda _: None,
            "anvil_rollback": self._rollback,
            "evm_setAutomine": self._set_automine,
            "evm_increaseTime": self._increase_time,
            "evm_snapshot": self._snapshot,
            "evm_revert": self._revert,
        }

    def make_request(self, method: Any, params: Any) -> Any:
        """Answer one request; errors have the shape that anvil gives them."""
        if method not in self.methods:
            raise NeedsAnvil(f"{method} is not answered in process")
        try:
            return {"jsonrpc": "2.0", "id": 1, "result": self.methods[method](*params)}
        except _Reverted as reverted:
            outcome = reverted.args[0]
            return _error(3, f"execution reverted: {outcome.reason}", _hex(outcome.output))
        except InsufficientFunds as error:
            return _error(-32003, f"Insufficient funds: {error}")

    def is_connected(self, show_traceback: bool = False) -> bool:
        """Always."""
        return True

    def _call(self, call: dict[str, Any], *_: Any) -> str:
        outcome = self.machine.call(
            call["to"], _bytes(call), call.get("from", ACCOUNTS[0]), _value(call)
        )
        if outcome.failed:
            raise _Reverted(outcome)
        return _hex(outcome.output)

    def _estimate(self, call: dict[str, Any], *_: Any) -> str:
        if call.get("to"):
            self._call(call)
        return hex(GAS_LIMIT // 2)

    def _send(self, transaction: dict[str, Any]) -> str:
        key = _hex(keccak(text=f"transaction {len(self.done)}"))
        transaction["key"] = key
        if self.automine:
            self.before = self.machine.snapshot()
            self.machine.mine()
            self._include(transaction)
        else:
            self.pending.append(transaction)
            self.done[key] = (transaction, Outcome(True, b"", (), 0), 0)
        return key

    def _include(self, sent: dict[str, Any]) -> None:
        machine = self.machine
        outcome = machine.include(sent["from"], sent.get("to"), _bytes(sent), _value(sent))
        self.done[sent["key"]] = (sent, outcome, machine.block)

    def _mine(self, blocks: str = "0x1", *_: Any) -> None:
        self.machine.mine()
        for transaction in self.pending:
            self._include(transaction)
        self.pending = []
        self.machine.mine(int(str(blocks), 16) - 1)

    def _receipt(self, key: str) -> dict[str, Any]:
        sent, outcome, number = self.done[key]
        where = {"blockNumber": hex(number), "blockHash": self._hash(number)}
        where |= {"transactionHash": key, "transactionIndex": "0x0"}
        logs = [
            {
                "address": to_checksum_address(address),
                "topics": [f"0x{topic:064x}" for topic in topics],
                "data": _hex(data),
                "logIndex": hex(index),
                "removed": False,
                **where,
            }
            for index, (address, topics, data) in enumerate(outcome.logs)
        ]
        return {
            **where,
            "status": hex(not outcome.failed),
            "from": sent["from"],
            "to": sent.get("to"),
            "contractAddress": to_checksum_address(outcome.created) if outcome.created else None,
            "gasUsed": hex(outcome.gas),
            "cumulativeGasUsed": hex(outcome.gas),
            "effectiveGasPrice": "0x0",
            "logs": logs,
            "logsBloom": "0x" + "00" * 256,
            "type": "0x2",
        }

    def _trace(self, key: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
        if options != {"tracer": "callTracer"}:
            raise NeedsAnvil("gas and steps are not what they are on a real chain")
        return {"output": _hex(self.done[key][1].output)}

    def _block(self, number: str, *_: Any) -> dict[str, Any]:
        at = self.machine.block if number in ("latest", "pending") else int(number, 16)
        if at < FIRST_BLOCK:
            raise NeedsAnvil("this chain has no blocks with small numbers")
        words = rlp.decode(self.machine.header(at))
        names = (
            "parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot",
            "logsBloom", "difficulty", "number", "gasLimit", "gasUsed", "timestamp", "extraData",
            "mixHash", "nonce", "baseFeePerGas", "withdrawalsRoot", "blobGasUsed",
            "excessBlobGas", "parentBeaconBlockRoot", "requestsHash",
        )  # fmt: skip
        numbers = {7, 8, 9, 10, 11, 15, 17, 18}
        fields = {
            name: hex(int.from_bytes(word, "big")) if index in numbers else _hex(word)
            for index, (name, word) in enumerate(zip(names, words, strict=True))
        }
        return {**fields, "hash": self._hash(at), "transactions": [], "uncles": [], "size": "0x0"}

    def _hash(self, number: int) -> str:
        return _hex(keccak(self.machine.header(number)))

    def _storage_at(self, account: str, slot: str, *_: Any) -> str:
        value = self.machine.env.evm.get_storage(Address(account), int(slot, 16))
        return f"0x{value:064x}"

    def _set_storage(self, account: str, slot: str, value: str) -> bool:
        self.machine.env.evm.set_storage(Address(account), int(slot, 16), int(value, 16))
        return True

    def _set_automine(self, on: bool) -> None:
        self.automine = on

    def _increase_time(self, seconds: int) -> None:
        self.machine.shift += int(seconds)

    def _snapshot(self) -> str:
        key = hex(len(self.points) + 1)
        self.points[key] = self.machine.snapshot()
        return key

    def _revert(self, key: str) -> bool:
        self.before = None
        self.machine.revert(self.points.pop(key))
        return True

    def _rollback(self, blocks: int) -> None:
        """Take back the latest block, empty or the latest transaction's; more needs anvil."""
        last = max((number for _, _, number in self.done.values()), default=0)
        if blocks != 1 or (self.before is None and last >= self.machine.block):
            raise NeedsAnvil("only one block can be taken back in process")
        if self.before is not None and last == self.machine.block:
            self.machine.revert(self.before)
        else:
            self.machine.block -= 1
        self.before = None
        self.machine.epochs += ((self.machine.block + 1, len(self.machine.epochs)),)


class _Reverted(Exception):
    """A call that the EVM reverted."""


def _error(code: int, message: str, data: str | None = None) -> dict[str, Any]:
    shown = {"code": code, "message": message}
    return {"jsonrpc": "2.0", "id": 1, "error": shown if data is None else shown | {"data": data}}


def _hex(data: bytes) -> str:
    return "0x" + bytes(data).hex()


def _bytes(call: dict[str, Any]) -> bytes:
    return bytes.fromhex(call.get("data", call.get("input", "0x"))[2:])


def _value(call: dict[str, Any]) -> int:
    value = call.get("value", 0)
    return int(value, 16) if isinstance(value, str) else int(value)


def new_chain() -> Chain:
    """A fresh chain in this process, with what `anvil.Chain` offers."""
    return Chain(Web3(Provider(Machine())), "in process")
