"""Every parser of foreign bytes, under random and under slightly broken input: FormatError only."""

import io
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.formats import archive, capsule, cbor, evidence, hpke, p256
from agent.formats.cbor import FormatError
from agent.formats.cid import digest_of
from agent.formats.evidence import Evidence
from agent.formats.protocol import Frame, FrameKind
from agent.formats.taskspec import TaskSpec
from tests.formats.test_taskspec import SPEC

# The same examples in every run, and however long one takes on a busy computer.
QUICK = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
SIGNER = p256.SigningKey.generate()
PRIVATE, PUBLIC = hpke.generate()

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 256), (1 << 256) - 1)
    | st.binary(max_size=64)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
keys = st.integers(-(1 << 64), (1 << 64) - 1) | st.binary(max_size=8) | st.text("abc", max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


def header_block():
    """A valid header block of a small Capsule."""
    blocks = {}
    sealed = capsule.seal_stream(
        io.BytesIO(b"payload"),
        blocks.__setitem__,
        kind=capsule.Kind.DATA,
        owner=SIGNER.public,
        sign=SIGNER.sign,
        content_key=bytes(32),
    )
    return blocks[sealed.cid]


def small_archive():
    """A valid archive of one file."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a").write_bytes(b"x" * 600)
        sink = io.BytesIO()
        archive.pack(Path(folder), sink)
    return sink.getvalue()


def unpack(data):
    with tempfile.TemporaryDirectory() as folder:
        archive.unpack(io.BytesIO(data), Path(folder) / "out", max_bytes=1 << 20, max_files=10)


def verify_evidence(data):
    Evidence.decode(data).verify(bytes(32))


PARSERS = {
    "cbor": (lambda data: cbor.decode(data, 1 << 16), cbor.encode({"a": [1, b"x", "y"]})),
    "capsule": (capsule.parse_header, header_block()),
    "taskspec": (TaskSpec.decode, SPEC.encode()),
    "evidence": (
        verify_evidence,
        evidence.build(
            {"session": {"hpke": PUBLIC, "signing": SIGNER.public}}, bytes(32), SIGNER.sign
        ).encode(),
    ),
    "frame": (Frame.decode, Frame(1, FrameKind.ERROR, None, ["code", "message"]).encode()),
    "hpke": (lambda data: hpke.open(PRIVATE, b"", data), hpke.seal(PUBLIC, b"", b"text")),
    "archive": (unpack, small_archive()),
}
everywhere = pytest.mark.parametrize("name", PARSERS)


@everywhere
@QUICK
@given(data=st.binary(max_size=300))
def test_parse__random_bytes__nothing_but_format_error(name, data):
    parse, _ = PARSERS[name]
    try:
        parse(data)
    except FormatError:
        return
    assert name == "cbor"  # the only one of which short random bytes may be an instance


@everywhere
@QUICK
@given(data=st.data())
def test_parse__valid_bytes_damaged__nothing_but_format_error(name, data):
    parse, good = PARSERS[name]
    parse(good)
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        action = data.draw(st.sampled_from(["set", "cut", "insert", "delete"]))
        if action == "set":
            damaged[position] = data.draw(st.integers(0, 255))
        elif action == "cut":
            del damaged[max(1, position) :]
        elif action == "insert":
            damaged[position:position] = data.draw(st.binary(min_size=1, max_size=9))
        elif len(damaged) > 1:
            del damaged[position]
    try:
        parse(bytes(damaged))
    except FormatError:
        return
    unsigned = ("cbor", "taskspec", "frame", "archive")
    assert bytes(damaged) == good or name in unsigned, "altered bytes passed a signature or a tag"


@everywhere
@QUICK
@given(value=values)
def test_parse__well_formed_cbor_of_any_shape__nothing_but_format_error(name, value):
    parse, _ = PARSERS[name]
    try:
        parse(cbor.encode(value))
    except FormatError:
        return
    assert name == "cbor"


@QUICK
@given(value=values)
def test_cbor__any_value__comes_back_and_has_one_encoding(value):
    encoded = cbor.encode(value)
    again = cbor.decode(encoded, 1 << 20)
    assert again == value
    assert cbor.encode(again) == encoded


@QUICK
@given(data=st.binary(max_size=60))
def test_cbor__whatever_decodes__encodes_to_the_same_bytes(data):
    try:
        value = cbor.decode(data, 1 << 16)
    except FormatError:
        return
    assert cbor.encode(value) == data


@QUICK
@given(text=st.text(max_size=70) | st.text("abcdefghijklmnopqrstuvwxyz234567", max_size=70))
def test_digest_of__any_text__nothing_but_format_error(text):
    with pytest.raises(FormatError):
        digest_of(text)


@QUICK
@given(payload=st.binary(max_size=2000), key=st.binary(min_size=32, max_size=32))
def test_capsule__any_payload__comes_back(payload, key):
    blocks, sink = {}, io.BytesIO()
    sealed = capsule.seal_stream(
        io.BytesIO(payload), blocks.__setitem__, kind=capsule.Kind.DATA, owner=SIGNER.public,
        sign=SIGNER.sign, content_key=key,
    )  # fmt: skip
    capsule.open_stream(
        sealed.cid, blocks.__getitem__, key, sink, expect_owner=SIGNER.public,
        expect_digest=sealed.digest,
    )  # fmt: skip
    assert sink.getvalue() == payload


def test_archive__random_trees__come_back(tmp_path):
    for number in range(10):
        tree = tmp_path / f"tree{number}"
        tree.mkdir()
        for _ in range(number):
            folder = tree / os.urandom(1).hex() / os.urandom(1).hex()
            folder.mkdir(parents=True, exist_ok=True)
            (folder / os.urandom(4).hex()).write_bytes(os.urandom(number * 300))
        sink = io.BytesIO()
        archive.pack(tree, sink)
        archive.unpack(io.BytesIO(sink.getvalue()), tmp_path / f"out{number}")
        again = io.BytesIO()
        archive.pack(tmp_path / f"out{number}", again)
        assert again.getvalue() == sink.getvalue()
