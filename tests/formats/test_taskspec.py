"""TaskSpec: the commitment, and every bound that a stranger could push."""

import os
from dataclasses import replace

import pytest
from eth_abi.abi import encode

from agent.formats import cbor, hpke, taskspec
from agent.formats.cbor import FormatError
from agent.formats.cid import cid_of
from agent.formats.hashes import keccak256
from agent.formats.taskspec import FunctionRef, Input, Limits, Receiver, TaskSpec

KEY = hpke.generate()[1]
SPEC = TaskSpec(
    salt=bytes(range(32)),
    requester=b"\x01" * 20,
    number=300,
    function=FunctionRef(cid_of(b"function"), b"\x02" * 20, b"\x03" * 32),
    command=("python3", "/capsule/function/main.py"),
    runtime_image=b"\x04" * 32,
    inputs=(
        Input("list-b", cid_of(b"b"), b"\x05" * 20),
        Input("list-c", cid_of(b"c"), b"\x06" * 20),
    ),
    receivers=(Receiver("b", b"\x05" * 20, KEY),),
    connections=("example.org:443",),
    devices=("/dev/ttyUSB0", "usb:1d6b:0002", "/dev/bus/usb/001"),
    limits=Limits(60, 64 << 20, 64 << 20, 64, 1000),
)


def body():
    """The encoded map of SPEC, to be altered."""
    return cbor.decode(SPEC.encode(), taskspec.MAX_TASKSPEC)[1]


def test_encode_and_decode__spec__comes_back():
    assert TaskSpec.decode(SPEC.encode()) == SPEC
    minimal = replace(SPEC, inputs=(), connections=(), devices=())
    assert TaskSpec.decode(minimal.encode()) == minimal


def test_commitment__encoded_spec__starts_with_the_salt_and_is_the_contracts():
    encoded = SPEC.encode()
    assert encoded[:3] == bytes.fromhex("825820")  # array of two, bytes of 32
    assert encoded[3:35] == SPEC.salt
    values = [keccak256(b"sealrun/commitment/v1"), keccak256(encoded), "0x" + "01" * 20, 300]
    committed = keccak256(encode(["bytes32", "bytes32", "address", "uint256"], values))
    assert taskspec.commitment_of(encoded) == committed
    assert taskspec.open_commitment(encoded, committed) == SPEC


def test_commitment__other_salt_requester_or_number__differs():
    others = ({"salt": os.urandom(32)}, {"requester": b"\x02" * 20}, {"number": 301})
    commitments = {taskspec.commitment_of(replace(SPEC, **other).encode()) for other in others}
    assert len(commitments | {taskspec.commitment_of(SPEC.encode())}) == 4


def test_commit__same_hash_for_another_account_or_number__differs():
    """What the contract computes, of a hash that somebody saw."""
    spec_hash = keccak256(SPEC.encode())
    mine = taskspec.commit(spec_hash, SPEC.requester, SPEC.number)
    assert mine != taskspec.commit(spec_hash, b"\x02" * 20, SPEC.number)
    assert mine != taskspec.commit(spec_hash, SPEC.requester, SPEC.number + 1)


@pytest.mark.parametrize("number", [-1, 2**63, "1"])
def test_number__out_of_bounds__refused(number):
    with pytest.raises(FormatError, match="number"):
        replace(SPEC, number=number)


def test_open_commitment__other_spec__refused():
    other = replace(SPEC, command=("other",)).encode()
    with pytest.raises(FormatError, match="commitment"):
        taskspec.open_commitment(other, taskspec.commitment_of(SPEC.encode()))


GOOD = SPEC.limits
OUT_OF_BOUNDS = {
    "salt too short": {"salt": bytes(31)},
    "requester no address": {"requester": bytes(32)},
    "runtime image no digest": {"runtime_image": bytes(31)},
    "function cid malformed": {"function": replace(SPEC.function, cid="bafy")},
    "function digest short": {"function": replace(SPEC.function, digest=b"")},
    "function owner long": {"function": replace(SPEC.function, owner=bytes(21))},
    "no command": {"command": ()},
    "command of 65": {"command": ("x",) * 65},
    "empty argument": {"command": ("",)},
    "argument with a nul": {"command": ("a\0b",)},
    "argument too long": {"command": ("x" * 4097,)},
    "no receiver": {"receivers": ()},
    "receiver without a key": {"receivers": (Receiver("b", bytes(20), bytes(32)),)},
    "receiver with half a key": {"receivers": (Receiver("b", bytes(20), bytes(16)),)},
    "receiver named twice": {"receivers": SPEC.receivers * 2},
    "17 receivers": {
        "receivers": tuple(replace(SPEC.receivers[0], name=f"r{i}") for i in range(17))
    },
    "17 inputs": {"inputs": tuple(replace(SPEC.inputs[0], name=f"i{i}") for i in range(17))},
    "input named twice": {"inputs": (SPEC.inputs[0], replace(SPEC.inputs[1], name="list-b"))},
    "input owner short": {"inputs": (replace(SPEC.inputs[0], owner=bytes(19)),)},
    "17 connections": {"connections": tuple(f"h{i}:1" for i in range(17))},
    "connection twice": {"connections": ("h:1", "h:1")},
    "17 devices": {"devices": tuple(f"/dev/x{i}" for i in range(17))},
    "no time": {"limits": replace(GOOD, seconds=0)},
    "a month": {"limits": replace(GOOD, seconds=31 * 86400)},
    "no memory": {"limits": replace(GOOD, memory_bytes=1 << 20)},
    "all memory": {"limits": replace(GOOD, memory_bytes=1 << 60)},
    "no scratch": {"limits": replace(GOOD, scratch_bytes=0)},
    "no process": {"limits": replace(GOOD, pids=0)},
    "forks without end": {"limits": replace(GOOD, pids=1 << 20)},
    "no core": {"limits": replace(GOOD, cpu_milli=0)},
    "limit as boolean": {"limits": replace(GOOD, pids=True)},
}


@pytest.mark.parametrize("change", OUT_OF_BOUNDS.values(), ids=OUT_OF_BOUNDS)
def test_spec__value_out_of_bounds__refused_when_made(change):
    with pytest.raises(FormatError):
        replace(SPEC, **change)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "...", "A", "a/b", "a b", "../a", "a\n", "ä", "x" * 65, "a\0"]
)
def test_spec__name_that_is_no_plain_file_name__refused(name):
    with pytest.raises(FormatError):
        replace(SPEC, inputs=(replace(SPEC.inputs[0], name=name),))
    with pytest.raises(FormatError):
        replace(SPEC, receivers=(replace(SPEC.receivers[0], name=name),))
    altered = {**body(), "inputs": [[name, cid_of(b"b"), bytes(20)]]}
    with pytest.raises(FormatError):
        TaskSpec.decode(cbor.encode([SPEC.salt, altered]))


@pytest.mark.parametrize(
    "connection",
    [
        "host", "host:", ":443", "host:0", "host:65536", "host:-1", "host:443 ", "Host:443",
        "http://host:443", "*:443", "-host:443", "host..name:443", "host:٤٤٣", "[::1]:443",
        "a" * 64 + ":443", ".".join(["a" * 60] * 5) + ":443", "host:443\n",
    ],
)  # fmt: skip
def test_spec__connection_that_is_not_host_and_port__refused(connection):
    with pytest.raises(FormatError):
        replace(SPEC, connections=(connection,))


@pytest.mark.parametrize("connection", ["10.0.0.1:80", "a:1", "xn--bcher-kva.example:65535"])
def test_spec__connection_by_name_or_address__taken(connection):
    assert replace(SPEC, connections=(connection,)).connections == (connection,)


@pytest.mark.parametrize(
    "device",
    ["", "/dev/", "/dev/../etc/passwd", "/etc/passwd", "/dev/.", "dev/null", "/dev//sda", "usb:1:2",
     "usb:1D6B:0002", "/dev/a/b/c/d/e", "/dev/sda\n", "scsi:0000:0000"],
)  # fmt: skip
def test_spec__device_of_another_form__refused(device):
    with pytest.raises(FormatError):
        replace(SPEC, devices=(device,))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": True},
        {"more": 1},
        {"command": "python3"},
        {"function": ["a", b""]},
        {"function": None},
        {"inputs": [["a"]]},
        {"inputs": {}},
        {"receivers": [[1, bytes(20), KEY]]},
        {"limits": {"seconds": 1}},
        {"limits": [1, 2, 3, 4, 5]},
        {"devices": [1]},
        {"connections": [b"h:1"]},
    ],
)
def test_decode__field_of_another_shape__refused(change):
    with pytest.raises(FormatError):
        TaskSpec.decode(cbor.encode([SPEC.salt, {**body(), **change}]))


@pytest.mark.parametrize("missing", list(body()))
def test_decode__missing_field__refused(missing):
    fields = body()
    del fields[missing]
    with pytest.raises(FormatError):
        TaskSpec.decode(cbor.encode([SPEC.salt, fields]))


def test_encode__arguments_that_add_up_beyond_the_bound__refused():
    with pytest.raises(FormatError, match="exceed"):
        replace(SPEC, command=("x" * 4096,) * 20).encode()
    with pytest.raises(FormatError):
        TaskSpec.decode(bytes(taskspec.MAX_TASKSPEC + 1))
