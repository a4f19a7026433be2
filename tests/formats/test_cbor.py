"""Deterministic CBOR: what it takes, and everything it refuses before a decoder sees it."""

import cbor2
import pytest

from agent.formats import cbor
from agent.formats.cbor import FormatError

LIMIT = 1 << 22


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1,
        (1 << 64) - 1,
        1 << 64,
        -(1 << 64) - 1,
        (1 << 256) - 1,
        b"",
        "é",
        [],
        {},
        {"a": [1, {b"k": None, 5: "x"}]},
    ],
)
def test_round_trip__permitted_value__comes_back(value):
    assert cbor.decode(cbor.encode(value), LIMIT) == value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("f97e00", "a float"),
        ("f7", "undefined"),
        ("f8ff", "a simple value"),
        ("9fff", "an indefinite array"),
        ("bfff", "an indefinite map"),
        ("5f4100ff", "an indefinite byte string"),
        ("1817", "an integer longer than needed"),
        ("190017", "an integer longer than needed"),
        ("a2616201616102", "map keys out of order"),
        ("a2616101616102", "a duplicate key"),
        ("a1810001", "an array as map key"),
        ("a1f500", "a boolean as map key"),
        ("c11a514b67b0", "a date"),
        ("d81c80", "a shared reference"),
        ("d8238161ff", "a regular expression"),
        ("d9010080", "a string-reference namespace"),
        ("c2420001", "a bignum with a leading zero"),
        ("c24101", "a bignum that fits an integer"),
        ("c25821" + "ff" * 33, "a bignum above 256 bits"),
        ("61ff", "text that is not UTF-8"),
        ("0000", "bytes after the item"),
        ("", "nothing"),
        ("42ff", "a truncated string"),
        ("8201", "a truncated array"),
        ("1c", "a reserved length"),
        ("9bffffffffffffffff", "a length beyond all memory"),
    ],
)
def test_decode__foreign_encoding__refused(data, why):
    with pytest.raises(FormatError):
        cbor.decode(bytes.fromhex(data), LIMIT)


@pytest.mark.parametrize("opening", [b"\x81", b"\xa1\x00"])
def test_decode__nested_hundred_thousand_deep__refused_without_recursion(opening):
    with pytest.raises(FormatError, match="nested deeper"):
        cbor.decode(opening * 100_000 + b"\x00", LIMIT)


def test_decode__depth_at_the_bound__taken_and_one_more_refused():
    deep = b"\x81" * (cbor.MAX_DEPTH - 1) + b"\x00"
    assert cbor.encode(cbor.decode(deep, LIMIT)) == deep
    with pytest.raises(FormatError, match="nested"):
        cbor.decode(b"\x81" + deep, LIMIT)
    nested: object = 0
    for _ in range(cbor.MAX_DEPTH):
        nested = [nested]
    with pytest.raises(FormatError, match="nested"):
        cbor.encode(nested)


def test_decode__more_items_than_the_bound__refused():
    count = cbor.MAX_ITEMS
    with pytest.raises(FormatError, match="items"):
        cbor.decode(b"\x9a" + count.to_bytes(4, "big") + bytes(count), LIMIT)


def test_decode__longer_than_the_limit__refused():
    with pytest.raises(FormatError, match="limit"):
        cbor.decode(cbor.encode(b"x" * 100), 100)


@pytest.mark.parametrize(
    "value", [1.5, {1, 2}, object(), {(1, 2): 3}, {True: 1}, 1 << 256, "\ud800", [{"a": 0.0}]]
)
def test_encode__value_without_a_deterministic_form__refused(value):
    with pytest.raises(FormatError):
        cbor.encode(value)


def test_encode__bytes__are_cbor2_canonical():
    value = {"bb": 1, "a": [b"x", None, True, -5]}
    assert cbor.encode(value) == cbor2.dumps(value, canonical=True)
