"""What other nodes, the chain's RPC and a TPM's owner send."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from eth_hash.auto import keccak

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.hashes import sha256
from nodeclient.chain import abi, deployment
from nodeclient.chain.decode import _TABLE, Decoder
from nodeclient.chain.errors import (
    AbiMismatch,
    ChainUnavailable,
    DeploymentInvalid,
    HeaderMismatch,
    RpcRefused,
)
from nodeclient.chain.headers import build_header
from nodeclient.chain.reverts import ERROR_SELECTOR, PANIC_SELECTOR, REASON_LIMIT, reason_of
from nodeclient.core import ecvrf
from nodeclient.core.ecvrf import SECP256K1_TAI, EcvrfError
from nodeclient.core.policy_file import PolicyError, policy_from_dict, policy_to_dict
from nodeclient.duties.appraising import read_summary
from nodeclient.p2p import messages
from nodeclient.p2p.certificate import check_certificate
from nodeclient.p2p.contact import MAX_RECORD, contact_digest, verify_record
from nodeclient.p2p.errors import ContactInvalid
from nodeclient.p2p.messages import pack, unpack
from tests.core.evidence_kit import OUTCOME
from tests.core.test_policy import POLICY
from tests.fuzz.check import Target, only
from tests.p2p.conftest import CHAIN_ID, REGISTRY, make_node

STATEMENT = messages.StatementFields(1, b"\1" * 32, b"\2" * 32, b"\3" * 32, 5, 1 << 255)
MESSAGES: tuple[object, ...] = (
    messages.ConsentRequest(b"spec", 7),
    messages.Brief(b"\1" * 32, b"sealed"),
    messages.NonceRequest(b"\1" * 32, 1, 0),
    messages.AppraisalRequest(b"\1" * 32, 1, STATEMENT, b"evidence", ((b"\4" * 20, b"\5" * 32),)),
    messages.VoteMessage(
        *(b"\1" * 32, 9, 1, 0, b"\2" * 32, 1, 1000, b"\3" * 20, b"\4" * 32, b"\5" * 32)
    ),
    messages.Question(b"\1" * 32, b"\2" * 32, True),
    messages.EvidenceRequest(b"\1" * 32),
    messages.IncidentReport(b"\1" * 32, 2, 1, "stray", "udp to 8.8.8.8:53", True),
    messages.KeyRelease(b"\1" * 32, "bafkrei", b"sealed"),
    messages.ResultNotice(b"\1" * 32),
    messages.ResultQuestion(b"\1" * 32),
    messages.ResultAnswer(b"outcome", b"\1" * 64),
    messages.BlockRequest("bafkrei"),
    messages.RunningRequest(b"\1" * 32),
    messages.RunningAnswer(b"statement", b"\2" * 64),
)
NODE = make_node(1)
OTHERS = make_node(2)


def message(sample: object) -> Target:
    kind = type(sample)
    return Target(
        f"message {kind.__name__}",
        (pack(sample),),
        lambda data: unpack(kind, data),
        (FormatError,),
        lambda data, value: pack(value) == data,
        ("nodeclient.p2p.messages:unpack",),
    )


def hostile_contact(data: bytes) -> object:
    """A Node publishes a body of its own making: root signature and digest are right."""
    record = cbor.encode([data, NODE.root.sign(sha256(b"sealrun/contact/v1" + data))])
    known = {"chain_id": CHAIN_ID, "registry": REGISTRY, "node": NODE.address}
    return verify_record(
        record,
        root_public=NODE.root.public,
        digest=contact_digest(record),
        **known,  # type: ignore[arg-type]
    )


def stolen_contact(digest: bytes) -> Callable[[bytes], object]:
    """Somebody alters the record that the registry names."""
    return lambda data: verify_record(
        data,
        chain_id=CHAIN_ID,
        registry=REGISTRY,
        node=NODE.address,
        root_public=NODE.root.public,
        digest=digest,
    )


def body_again(data: bytes, value: Any) -> bool:
    return cbor.encode({f.name: getattr(value, f.name) for f in fields(value)}) == data


def certificate(data: bytes) -> bytes:
    check_certificate(data, NODE.address)
    return data


def json_of(parse: Callable[[Any], object]) -> Callable[[bytes], object]:
    """A parser of decoded JSON as one of bytes."""

    def run(data: bytes) -> object:
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise FormatError("no JSON") from error
        if not isinstance(found, dict):  # whoever calls these has looked at that
            raise FormatError("no object")
        return parse(found)

    return run


_TYPES = {
    "task": "uint256", "requester": "address", "commitment": "bytes32", "executor_fee": "uint256",
    "member_fee": "uint256", "committee_size": "uint256", "class_id": "uint256",
    "leader": "address", "ticket": "uint256", "beta": "bytes32", "executor": "address",
    "members": "address[]", "accepted": "bool", "root_x": "uint256", "root_y": "uint256",
    "evidence_root": "bytes32", "voters": "uint256", "cause": "uint256", "node": "address",
    "id": "uint256", "contact": "bytes", "status": "uint8", "image": "bytes32",
    "hardware_id": "bytes32", "maker": "bytes32", "holder": "address",
}  # fmt: skip
_FIELDS = {
    "TaskPosted": ("task", "requester", "commitment", "executor_fee", "member_fee",
                   "committee_size", "class_id"),
    "TaskClaimed": ("task", "leader", "ticket", "beta"),
    "CommitteeDrawn": ("task", "executor", "members", "accepted", "root_x", "root_y"),
    "TaskAccepted": ("task",), "TaskAdmitted": ("task", "evidence_root"),
    "TaskSettled": ("task", "evidence_root", "voters"), "TaskFailed": ("task", "cause"),
    "TaskExpired": ("task",), "NodeRegistered": ("node", "id"),
    "ContactPublished": ("node", "contact"), "StatusChanged": ("node", "status"),
    "ImageRevoked": ("image",), "ImageLoaded": ("node", "image"),
    "NodeAdmitted": ("node", "maker"), "HardwareBarred": ("hardware_id", "holder"),
    "MakerBarred": ("maker",),
}  # fmt: skip


def deployment_json() -> dict[str, Any]:
    """A deployment whose contracts have the events that the Node reads, and nothing else."""
    contracts = {}
    for number, name in enumerate(deployment.CONTRACTS, 1):
        events = [
            {"type": "event", "name": event, "anonymous": False,
             "inputs": [{"name": f, "type": _TYPES[f], "indexed": f in ("task", "node", "image")}
                        for f in _FIELDS[event]]}
            for contract, event in _TABLE if contract == name
        ]  # fmt: skip
        contracts[name] = {
            "address": "0x" + bytes([number] * 20).hex(), "tx": "0x" + "11" * 32, "block": 1,
            "gas_used": 5, "arguments": [], "abi": events,
        }  # fmt: skip
    return {"format": deployment.FORMAT, "network": "test", "chain_id": CHAIN_ID,
            "deploy_block": 1, "contracts": contracts, "parameters": {}}  # fmt: skip


def logs(deployed: deployment.Deployment) -> Iterator[dict[str, Any]]:
    """One log of each event, as an RPC words it."""
    values = {"uint256": 7, "uint8": 1, "address": "0x" + "22" * 20, "bytes32": b"\3" * 32,
              "bool": True, "bytes": b"record", "address[]": ["0x" + "22" * 20] * 3}  # fmt: skip
    for contract, event in _TABLE:
        made = deployed[contract]
        layout = next(one for one in made.interface.logs.values() if one.name == event)
        topics = [layout.topic, *(abi.CODEC.encode([k], [values[k]]) for _, k in layout.indexed)]
        kinds = [kind for _, kind in layout.plain]
        yield {
            "address": "0x" + made.address.hex(),
            "topics": ["0x" + topic.hex() for topic in topics],
            "data": "0x" + abi.CODEC.encode(kinds, [values[kind] for kind in kinds]).hex(),
            "blockNumber": "0x10", "blockHash": "0x" + "44" * 32, "logIndex": "0x0",
            "transactionHash": "0x" + "55" * 32, "blockTimestamp": "0x5",
        }  # fmt: skip


def block() -> dict[str, Any]:
    """A block whose fields hash to its own hash."""
    words = {name: "0x" + bytes([7] * size).hex() for name, size in (
        ("parentHash", 32), ("sha3Uncles", 32), ("miner", 20), ("stateRoot", 32),
        ("transactionsRoot", 32), ("receiptsRoot", 32), ("logsBloom", 256), ("mixHash", 32),
        ("nonce", 8), ("extraData", 3), ("withdrawalsRoot", 32), ("parentBeaconBlockRoot", 32),
        ("requestsHash", 32))}  # fmt: skip
    words |= dict.fromkeys(("difficulty", "number", "gasLimit", "gasUsed", "timestamp",
                            "baseFeePerGas", "blobGasUsed", "excessBlobGas"), "0x5")  # fmt: skip
    hashed: list[bytes] = []

    def remember(data: bytes) -> bytes:
        hashed.append(keccak(data))
        return hashed[-1]

    import nodeclient.chain.headers as headers

    plain, headers.keccak = headers.keccak, remember
    try:
        build_header({**words, "hash": "0x" + "00" * 32})
    except HeaderMismatch:
        pass
    finally:
        headers.keccak = plain
    return {**words, "hash": "0x" + hashed[0].hex()}


def revert_text(data: bytes) -> str:
    return reason_of(RpcRefused("eth_call", 3, "execution reverted", data))


def all_targets() -> Iterator[Target]:
    """Every parser of this side."""
    yield from (message(sample) for sample in MESSAGES)
    record = NODE.record()
    inner = cbor.decode(record, MAX_RECORD)
    assert isinstance(inner, list)
    yield Target(
        "contact record, altered",
        (record, OTHERS.record()),
        stolen_contact(contact_digest(record)),
        (ContactInvalid,),
        only((record,)),
        ("nodeclient.p2p.contact:verify_record",),
    )
    yield Target(
        "contact record, of a hostile node",
        (inner[0],),
        hostile_contact,
        (ContactInvalid,),
        body_again,
        ("nodeclient.p2p.contact:verify_record",),
        steps=8_000,
    )
    yield Target(
        "certificate",
        (NODE.identity.certificate, OTHERS.identity.certificate),
        certificate,
        (ContactInvalid,),
        only((NODE.identity.certificate,)),
        ("nodeclient.p2p.certificate:check_certificate",),
        codec="bytes",
    )
    yield Target(
        "results summary",
        (cbor.encode([OUTCOME.to_body(), b"\1" * 64]),),
        read_summary,
        (FormatError,),
        lambda data, value: cbor.encode([value[0].to_body(), value[1]]) == data,  # type: ignore[index]
        ("nodeclient.duties.appraising:read_summary",),
    )
    yield from chain_targets()
    secret, alpha = b"\7" * 32, b"\1" * 27
    public = ecvrf.public_key(SECP256K1_TAI, secret)
    proof = ecvrf.prove(SECP256K1_TAI, secret, alpha)
    yield Target(
        "ecvrf proof",
        (proof,),
        lambda data: ecvrf.verify(SECP256K1_TAI, public, alpha, data),
        (EcvrfError,),
        only((proof,)),
        ("nodeclient.core.ecvrf:verify", "nodeclient.core.ecvrf:decode_proof"),
        codec="bytes",
    )
    yield Target(
        "ecvrf key",
        (public,),
        lambda data: ecvrf.decode_key(SECP256K1_TAI, data),
        (EcvrfError,),
        lambda data, value: len(data) == 33 and data[0] in (2, 3),
        ("nodeclient.core.ecvrf:decode_key",),
        codec="bytes",
    )
    policy = json.dumps(policy_to_dict(POLICY)).encode()
    yield Target(
        "owner policy",
        (policy,),
        json_of(policy_from_dict),
        (FormatError, PolicyError),
        lambda _, value: policy_from_dict(policy_to_dict(value)) == value,  # type: ignore[arg-type]
        ("nodeclient.core.policy_file:policy_from_dict",),
        codec="json",
    )


def chain_targets() -> Iterator[Target]:
    """What an RPC endpoint answers."""
    plain = deployment_json()
    deployed = deployment.parse(plain)
    decoder = Decoder(deployed)
    errors = (FormatError, AbiMismatch, ChainUnavailable)
    yield Target(
        "deployment file",
        (json.dumps(plain).encode(),),
        json_of(deployment.parse),
        (FormatError, DeploymentInvalid),
        lambda _, value: len(value.contracts) == len(deployment.CONTRACTS),  # type: ignore[attr-defined]
        ("nodeclient.chain.deployment:parse", "nodeclient.chain.abi:parse"),
        codec="json",
        memory=1 << 20,
        steps=20_000,
    )
    yield Target(
        "log",
        tuple(json.dumps(log).encode() for log in logs(deployed)),
        json_of(decoder.decode),
        errors,
        lambda _, value: value is None or is_dataclass(value),
        (
            "nodeclient.chain.decode:Decoder.decode",
            "nodeclient.chain.abi:LogLayout.decode",
            "nodeclient.chain.abi:Function.decode",
        ),
        codec="json",
    )
    mined = json.dumps(block()).encode()
    own = json.loads(mined)["hash"]
    yield Target(
        "block header",
        (mined,),
        json_of(build_header),
        (FormatError, HeaderMismatch),
        lambda _, value: keccak(value).hex() == own[2:],  # type: ignore[arg-type]
        ("nodeclient.chain.headers:build_header",),
        codec="json",
    )
    reasons = (
        ERROR_SELECTOR + abi.CODEC.encode(["string"], ["market: too late"]),
        PANIC_SELECTOR + struct.pack(">32s", b"\x11".rjust(32, b"\0")),
    )
    yield Target(
        "revert data",
        reasons,
        revert_text,
        (),
        lambda _, value: isinstance(value, str) and len(value) <= REASON_LIMIT,
        ("nodeclient.chain.reverts:reason_of",),
        codec="bytes",
    )
