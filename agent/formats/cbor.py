"""Deterministic CBOR for every byte string that two parties must agree on (RFC 8949, §4.2).

A scanner walks the foreign bytes first and refuses everything the formats here never use: floats,
indefinite lengths, tags (except the bignums of §3.4.3), simple values other than false, true and
null, deep nesting and absurd item counts. Only then does cbor2 decode, and the result must encode
to the very same bytes again. cbor2 alone would accept shared references, regular expressions,
string references and duplicate keys: several readings of one message, and memory bombs.

Floats are refused on both sides, so quantities carry a unit in their name (`milliseconds`).
"""

from __future__ import annotations

import cbor2

MAX_DEPTH = 16  # the deepest of our formats, a mount list inside Evidence inside a frame, has 9
MAX_ITEMS = 1 << 18  # bounds the objects that few foreign bytes can make us allocate
_MAX_BIGNUM = 32  # bytes: a uint256 (amounts in wei do not fit in 64 bits)

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_BIGNUM_TAGS = (2, 3)
_FALSE, _TRUE, _NULL = 20, 21, 22


class FormatError(ValueError):
    """Foreign bytes, or values about to become bytes, that no format here permits."""


def encode(obj: object) -> bytes:
    """Encode None, bool, int, bytes, str, list, tuple and dict deterministically.

    Raises FormatError for any other type, for integers beyond 256 bits and for nesting that
    `decode` would refuse.
    """
    _check_encodable(obj, 1)
    try:
        return cbor2.dumps(obj, canonical=True)
    except (cbor2.CBOREncodeError, ValueError, TypeError) as error:
        raise FormatError(f"cbor: cannot encode: {error}") from error


def decode(data: bytes, limit: int, items: int = MAX_ITEMS) -> object:
    """Decode exactly one deterministic item of at most `limit` bytes; arrays become lists.

    `items` bounds how many items may be nested in it: they, and not the bytes, are what decoding
    costs (about a microsecond each). Raises FormatError for anything that `encode` could not have
    produced.
    """
    return decode_counted(data, limit, items)[0]


def decode_counted(data: bytes, limit: int, items: int) -> tuple[object, int]:
    """As `decode`, and how many items were nested in it: for parts that are bounded together."""
    if len(data) > limit:
        raise FormatError(f"cbor: {len(data)} bytes exceed the limit of {limit}; send less")
    end, count = _scan(data, items)
    if end != len(data):
        raise FormatError("cbor: bytes after the end of the item")
    try:
        obj: object = cbor2.loads(data)
        again = cbor2.dumps(obj, canonical=True)
    except (cbor2.CBORError, ValueError, TypeError, RecursionError, EOFError) as error:
        raise FormatError(f"cbor: malformed: {error}") from error
    if again != data:
        raise FormatError("cbor: not the deterministic encoding of its content")
    return obj, count


def decode_again(data: bytes) -> object:
    """A fresh copy of what `decode` made of the same bytes before: only for those."""
    obj: object = cbor2.loads(data)
    return obj


def _check_encodable(obj: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise FormatError(f"cbor: nested deeper than {MAX_DEPTH}")
    if obj is None or isinstance(obj, bool | bytes | str):
        return
    if isinstance(obj, int):
        if not -(1 << 256) <= obj < 1 << 256:
            raise FormatError("cbor: integer of more than 256 bits")
    elif isinstance(obj, list | tuple):
        for item in obj:
            _check_encodable(item, depth + 1)
    elif isinstance(obj, dict):
        for key, value in obj.items():
            if isinstance(key, bool) or not isinstance(key, int | bytes | str):
                raise FormatError(f"cbor: {type(key).__name__} is no map key")
            _check_encodable(key, depth + 1)
            _check_encodable(value, depth + 1)
    else:
        raise FormatError(f"cbor: {type(obj).__name__} has no deterministic encoding here")


def _scan(data: bytes, limit: int) -> tuple[int, int]:
    """Walk one item without recursion; return the offset behind it and the number of items."""
    offset = items = 0
    # One frame per open container: [items still to come, is it a map]. A map counts keys and values
    stack: list[list[int]] = [[1, 0]]
    while stack:
        remaining, is_map = stack[-1]
        if remaining == 0:
            stack.pop()
            continue
        stack[-1][0] = remaining - 1
        items += 1
        if items > limit:
            raise FormatError(f"cbor: more than {limit} items")
        major, value, offset = _head(data, offset)
        if is_map and remaining % 2 == 0 and major not in (_UNSIGNED, _NEGATIVE, _BYTES, _TEXT):
            raise FormatError("cbor: map keys must be integers, bytes or text")
        if major in (_BYTES, _TEXT):
            offset += value
        elif major in (_ARRAY, _MAP):
            if len(stack) >= MAX_DEPTH:
                raise FormatError(f"cbor: nested deeper than {MAX_DEPTH}")
            stack.append([value * 2 if major == _MAP else value, int(major == _MAP)])
        elif major == _TAG:
            offset = _bignum(data, offset, value)
        elif major == _SIMPLE and value not in (_FALSE, _TRUE, _NULL):
            raise FormatError("cbor: floats and simple values are not used here")
        if offset > len(data):
            raise FormatError("cbor: truncated")
    return offset, items


def _head(data: bytes, offset: int) -> tuple[int, int, int]:
    """Read one initial byte and its argument: (major type, argument, next offset)."""
    if offset >= len(data):
        raise FormatError("cbor: truncated")
    major, info = data[offset] >> 5, data[offset] & 0x1F
    offset += 1
    if info < 24:
        return major, info, offset
    if info > 27:
        raise FormatError("cbor: indefinite or reserved length")
    if major == _SIMPLE:
        raise FormatError("cbor: floats and simple values are not used here")
    end = offset + (1 << (info - 24))
    if end > len(data):
        raise FormatError("cbor: truncated")
    return major, int.from_bytes(data[offset:end], "big"), end


def _bignum(data: bytes, offset: int, tag: int) -> int:
    """Accept tags 2 and 3 around a byte string of at most a uint256; return the next offset."""
    major, size, offset = _head(data, offset)
    if tag not in _BIGNUM_TAGS or major != _BYTES or size > _MAX_BIGNUM:
        raise FormatError("cbor: only integers of up to 256 bits may carry a tag")
    return offset + size
