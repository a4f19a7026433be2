"""Steps of admission in the contract tests: PENDING nodes, motions, rounds, votes, vouches.

Signed by eth-account from the words of the contract's docstrings, so that contract and test cannot
share a mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, Final

from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.logs import DISCARD
from web3.types import TxReceipt

from tests.contracts.network import DRAW_WINDOW, MOTION_FEE, SIZE, UNIT, Ballot, Network
from tests.contracts.signing import AFFIRMING, NodeKeys

ADMIT, BAR, BAR_MAKER, NAME, DISMISS = range(1, 6)
OPEN, CARRIED, REJECTED = range(1, 4)
SOFTWARE, ZYMKEY, TPM2 = range(1, 4)
NONE, PENDING, ACTIVE, PAUSED, EXITING, EXITED, BARRED = range(7)
MAKER: Final = b"\xaa" * 32
OTHER_MAKER: Final = b"\xbb" * 32
EVIDENCE: Final = b"\xee" * 32
NO_VOUCH: Final = (0, (0, 0))
_WORDS: Final = {
    "MotionVote": (
        "motion uint256", "kind uint8", "proposer address", "number uint256", "subject bytes32",
        "maker bytes32", "evidence bytes32", "verdict uint8", "validUntil uint64",
    ),
    "Vouch": (
        "node address", "number uint256", "hardwareId bytes32", "maker bytes32",
        "evidence bytes32", "validUntil uint64",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Motion:
    """The struct `Motion`, as the event tells it."""

    id: int
    kind: int
    proposer: str
    number: int
    subject: bytes
    maker: bytes
    evidence: bytes
    round: int


def bootstrap(network: Network) -> str:
    """Who deployed, and admits the first nodes."""
    return str(network.chain.w3.eth.accounts[0])


# --- what is signed -----------------------------------------------------------------------------


def sign(network: Network, account: LocalAccount, kind: str, values: Sequence[Any]) -> Any:
    """EIP-2098 signature (r, vs) of an EIP-712 message to the ledger."""
    words = [dict(zip(("name", "type"), word.split(), strict=True)) for word in _WORDS[kind]]
    message = {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            kind: words,
        },
        "primaryType": kind,
        "domain": {
            "name": "sealrun",
            "version": "1",
            "chainId": network.chain.w3.eth.chain_id,
            "verifyingContract": network.admission.address,
        },
        "message": {word["name"]: value for word, value in zip(words, values, strict=True)},
    }
    signed = account.sign_message(encode_typed_data(full_message=message))
    return int(signed.r), int(signed.s) | (int(signed.v) - 27) << 255


def ballot(
    network: Network,
    motion: Motion,
    members: Sequence[str],
    seats: Sequence[int],
    verdict: int = AFFIRMING,
    valid_until: int = 2**63,
) -> Ballot:
    """Votes of some seats that agree."""
    values = (
        motion.id, motion.kind, motion.proposer, motion.number, motion.subject, motion.maker,
        motion.evidence, verdict, valid_until,
    )  # fmt: skip
    signed = [
        sign(network, network.nodes[members[seat]].account, "MotionVote", values) for seat in seats
    ]
    return valid_until, sum(1 << seat for seat in seats), signed


def vouch(
    network: Network,
    keys: NodeKeys,
    admitter: LocalAccount,
    maker: bytes = MAKER,
    valid_until: int = 2**63,
) -> Any:
    """What an admitter says of a Zymkey."""
    node = network.registry.functions.node(keys.address).call()
    values = (keys.address, node[0], node[7], maker, EVIDENCE, valid_until)
    return valid_until, sign(network, admitter, "Vouch", values)


# --- nodes --------------------------------------------------------------------------------------


def hardware_id(keys: NodeKeys, root_class: int) -> bytes:
    """Of a Zymkey the hash of its key; of a TPM that of its EK, here made up from the label's."""
    x, y = (word.to_bytes(32, "big") for word in keys.root_public)
    return bytes(Web3.keccak((b"" if root_class == ZYMKEY else b"EK of ") + x + y))


def register_call(
    network: Network,
    keys: NodeKeys,
    root_class: int = TPM2,
    join: bool = True,
    hardware: bytes | None = None,
) -> ContractFunction:
    """The call `register` of a hardware root."""
    row, contact, _ = network.registration(keys)
    chosen = hardware_id(keys, root_class) if hardware is None else hardware
    row = (*row[:2], root_class, *row[3:5], chosen, row[6])
    signature = network.sign_registration(keys, row, contact)
    return network.registry.functions.register(row, contact, join, *signature)


def pending(
    network: Network,
    label: str,
    root_class: int = TPM2,
    deposit: int = UNIT,
    join: bool = True,
    hardware: bytes | None = None,
) -> NodeKeys:
    """A node with a hardware root that nobody has checked."""
    keys = NodeKeys.derive(label)
    network.fund(keys.address)
    network.send(keys.address, register_call(network, keys, root_class, join, hardware), deposit)
    network.nodes[keys.address] = keys
    return keys


def admitted(
    network: Network, label: str, maker: bytes = MAKER, deposit: int = UNIT, **given: Any
) -> NodeKeys:
    """A node with a hardware root that the bootstrap admitter has let in."""
    keys = pending(network, label, deposit=deposit, **given)
    call = network.admission.functions.admit_bootstrap(keys.address, maker)
    network.send(bootstrap(network), call)
    return keys


def status(network: Network, keys: NodeKeys) -> int:
    """The node's status."""
    return int(network.registry.functions.status(keys.address).call())


# --- motions ------------------------------------------------------------------------------------


def opened(network: Network, receipt: TxReceipt) -> Motion:
    """The motion that a transaction opened."""
    (event,) = network.admission.events.MotionOpened().process_receipt(receipt, DISCARD)
    args = event["args"]
    return Motion(args["motion"], *(args[name] for name in Motion.__slots__[1:]))


def request_call(
    network: Network, maker: bytes = MAKER, vouched: Any = NO_VOUCH
) -> ContractFunction:
    """The call `request`."""
    return network.admission.functions.request(maker, EVIDENCE, vouched)


def request(
    network: Network, keys: NodeKeys, maker: bytes = MAKER, vouched: Any = NO_VOUCH
) -> Motion:
    """A PENDING node asks for its admission."""
    call = request_call(network, maker, vouched)
    return opened(network, network.send(keys.address, call, MOTION_FEE))


def propose(network: Network, kind: int, subject: bytes, proposer: str = "") -> Motion:
    """A node moves to bar something, or about an admitter."""
    call = network.admission.functions.propose(kind, subject, EVIDENCE)
    return opened(network, network.send(proposer or next(iter(network.nodes)), call, MOTION_FEE))


def draw_call(network: Network, round: int) -> ContractFunction:
    """The call `draw` with the right header."""
    return network.admission.functions.draw(network.header_of(round))


def draw(network: Network, motion: Motion) -> tuple[str, ...]:
    """Anyone draws the motion's round; its members by seat."""
    network.mine_to(motion.round)
    receipt = network.send(network.outsider, draw_call(network, motion.round))
    (event,) = network.admission.events.RoundDrawn().process_receipt(receipt, DISCARD)
    return tuple(event["args"]["members"])


def decide_call(
    network: Network,
    motion: Motion,
    members: Sequence[str],
    seats: Sequence[int] | None = None,
    verdict: int = AFFIRMING,
    valid_until: int = 2**63,
) -> ContractFunction:
    """The call `decide` with the votes of some seats; without any, of all that decide."""
    number = min(SIZE, len(members)) if motion.kind == ADMIT else len(members)
    chosen = list(range(number)) if seats is None else seats
    votes = ballot(network, motion, members, chosen, verdict, valid_until)
    return network.admission.functions.decide(astuple(motion), list(members), verdict, votes)


def decide(
    network: Network,
    motion: Motion,
    seats: Sequence[int] | None = None,
    verdict: int = AFFIRMING,
) -> tuple[str, ...]:
    """Draw the motion's round and bring its votes; its members by seat."""
    members = draw(network, motion)
    network.send(network.outsider, decide_call(network, motion, members, seats, verdict))
    return members


def state(network: Network, motion: Motion) -> int:
    """OPEN, CARRIED or REJECTED."""
    return int(network.admission.functions.state(motion.id).call())


def bar(network: Network, hardware: bytes) -> tuple[str, ...]:
    """Bar a piece of hardware, by all who may vote on it."""
    return _vote_on(network, propose(network, BAR, hardware, _other(network, hardware)))


def bar_maker(network: Network, maker: bytes) -> tuple[str, ...]:
    """Bar a maker, by all who may vote on it."""
    return _vote_on(network, propose(network, BAR_MAKER, maker))


def _other(network: Network, hardware: bytes) -> str:
    holder = network.registry.functions.holder(hardware).call()
    return next(one for one in network.nodes if one != holder)


def _vote_on(network: Network, motion: Motion) -> tuple[str, ...]:
    members = draw(network, motion)
    registry = network.registry.functions
    seats = [
        seat
        for seat, member in enumerate(members)
        if not registry.barred_by_vote(member).call()
        and registry.holder(motion.subject).call() != member
        and registry.maker_of(member).call() != motion.subject
    ]
    network.send(network.outsider, decide_call(network, motion, members, seats))
    return members


def changed(motion: Motion, **fields: Any) -> Motion:
    """A motion that says something else."""
    return replace(motion, **fields)


def last_vote(motion: Motion, window: int) -> int:
    """The last block in which a motion is decided."""
    return motion.round + DRAW_WINDOW + window
