"""What Pi and eraser say to each other, and the proof that is left of it.

The eraser (nodeclient/images/eraser) is a boot image of its own. Over one TCP connection it states
its firmware's memory map, gets ranges and a random fill for all of them, says that it stored it,
gets two Poly1305 keys (RFC 8439, §2.5) that nobody could know before, and answers with both tags
over what it reads back from memory; its TPM quotes that. Integers on the wire are little-endian.
What the answer proves, and to whom: docs/erasure.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.hashes import sha256
from agent.formats.quote import MAX_EVENT_LOG, Quote
from agent.formats.shape import as_bytes, as_int, as_list, as_map

PAGE = 4096
WINDOW = 16 << 20  # bytes of low memory that the eraser lives in, and so does not erase
MAX_RANGES = 256
# One ChaCha20 key and nonce: 2^32 blocks of 64 bytes (RFC 8439, §2.4).
MAX_FILL = (1 << 38) - PAGE
MAX_COMMAND = 1024  # bytes of TPM2_CreatePrimary; ours has 72
MAX_SELECTION = 64
MAX_TPM_RESPONSE = 4096  # bytes; the largest that the TCG's PC profile permits
MAX_REFUSAL = 200
MAX_PROOF = MAX_EVENT_LOG + (16 << 10)
HELLO, STORED, BYE, REFUSED = b"SEALERA1", b"STORED__", b"BYE_____", b"REFUSED_"
WORD = 8  # bytes of each of these
HELLO_HEAD = WORD + 8 + 4  # bytes of a hello in front of its rows
HELLO_ROW = 8 + 8 + 4
KEYS, ANSWER = 64, 32  # bytes: two one-time keys, two tags
_VERSION = 1
_DOMAIN = b"sealrun/erasure/v1"
_FIELDS = (
    *("version", "image", "nonce", "ranges", "window", "seed", "keys", "answer"),
    *("quote", "event_log"),
)

Range = tuple[int, int]
"""(start, length) in bytes of physical memory."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What the eraser says first. It decides nothing: a prover could say anything here.

    window: bytes of low memory that it keeps. rows: (start, end exclusive, type) of its map.
    """

    window: int
    rows: tuple[tuple[int, int, int], ...]

    @classmethod
    def decode(cls, data: bytes) -> Hello:
        """Parse a whole hello. Raises FormatError."""
        rows = data[HELLO_HEAD:]
        if hello_rows(data[:HELLO_HEAD]) * HELLO_ROW != len(rows):
            raise FormatError("eraser's hello: cut off; boot it again")
        fields = [rows[at : at + HELLO_ROW] for at in range(0, len(rows), HELLO_ROW)]
        return cls(
            int.from_bytes(data[WORD : WORD + 8], "little"),
            tuple((_le(row[:8]), _le(row[8:16]), _le(row[16:])) for row in fields),
        )

    def encode(self) -> bytes:
        """Bytes for `decode`."""
        head = HELLO + _u64(self.window) + _u32(len(self.rows))
        return head + b"".join(_u64(a) + _u64(b) + _u32(kind) for a, b, kind in self.rows)


def hello_rows(head: bytes) -> int:
    """How many rows follow the first HELLO_HEAD bytes of a hello. Raises FormatError."""
    if len(head) != HELLO_HEAD or not head.startswith(HELLO):
        raise FormatError("eraser's hello: of another protocol; use the eraser of this release")
    count = _le(head[-4:])
    if count > MAX_RANGES:
        raise FormatError(f"eraser's hello: {count} rows exceed {MAX_RANGES}")
    return count


def check_ranges(ranges: tuple[Range, ...]) -> None:
    """1 to MAX_RANGES whole pages, ascending, apart, above the window, at most MAX_FILL bytes.

    Raises FormatError.
    """
    if not 1 <= len(ranges) <= MAX_RANGES:
        raise FormatError(f"erasure: 1 to {MAX_RANGES} ranges, not {len(ranges)}")
    end = WINDOW
    for start, length in ranges:
        if start % PAGE or length % PAGE or length <= 0:
            raise FormatError("erasure: a range is not of whole pages")
        if start < end:
            raise FormatError("erasure: ranges overlap, are out of order or in the window")
        end = start + length
    if end > 1 << 64 or sum(length for _, length in ranges) > MAX_FILL:
        raise FormatError("erasure: more memory than one key stream fills")


def encode_ranges(ranges: tuple[Range, ...]) -> bytes:
    """As they stand in an order, and as they are hashed: count, then start and length of each."""
    return _u32(len(ranges)) + b"".join(_u64(start) + _u64(size) for start, size in ranges)


def encode_order(
    nonce: bytes, ranges: tuple[Range, ...], create_key: bytes, selection: bytes
) -> bytes:
    """What the eraser is told: both last are empty where no TPM shall quote. Raises FormatError."""
    check_ranges(ranges)
    as_bytes(nonce, 32, "nonce")
    as_bytes(create_key, 0, "command", MAX_COMMAND)
    as_bytes(selection, 0, "PCR selection", MAX_SELECTION)
    parts = (_u32(len(part)) + part for part in (create_key, selection))
    return nonce + encode_ranges(ranges) + b"".join(parts)


def qualifying_data(nonce: bytes, ranges: tuple[Range, ...], keys: bytes, answer: bytes) -> bytes:
    """What the eraser's quote is over beside the PCRs (32 bytes)."""
    return sha256(
        _DOMAIN
        + as_bytes(nonce, 32, "nonce")
        + sha256(encode_ranges(ranges))
        + as_bytes(keys, KEYS, "keys")
        + as_bytes(answer, ANSWER, "answer")
    )


@dataclass(frozen=True, slots=True)
class ErasureProof:
    """One erasure that the Pi found right, for those who were not there.

    image: ID of the eraser's boot image. window: what it said in its hello. seed: of the fill
    (ChaCha20 key, nonce zero). keys, answer: both Poly1305 keys and tags. quote: of its TPM over
    `qualifying`; None, with an empty event_log, where there is none.
    """

    image: bytes
    nonce: bytes
    ranges: tuple[Range, ...]
    window: int
    seed: bytes
    keys: bytes
    answer: bytes
    quote: Quote | None = None
    event_log: bytes = b""

    @property
    def qualifying(self) -> bytes:
        """What the quote must be over (32 bytes)."""
        return qualifying_data(self.nonce, self.ranges, self.keys, self.answer)

    @property
    def covered(self) -> int:
        """Bytes that were filled."""
        return sum(length for _, length in self.ranges)

    def encode(self) -> bytes:
        """Bytes for `decode`. Raises FormatError for ranges that no eraser takes."""
        check_ranges(self.ranges)
        body: dict[str, object] = {name: getattr(self, name) for name in _FIELDS[1:]}
        body |= {
            "version": _VERSION,
            "ranges": [list(each) for each in self.ranges],
            "quote": None if self.quote is None else self.quote.to_body(),
        }
        return cbor.encode(body)

    @classmethod
    def decode(cls, data: bytes) -> ErasureProof:
        """Parse foreign bytes: shape only, the appraisal judges. Raises FormatError."""
        body = as_map(cbor.decode(data, MAX_PROOF, 4 * MAX_RANGES), _FIELDS, "erasure proof")
        as_int(body["version"], _VERSION, _VERSION, "erasure proof version")
        listed = as_list(body["ranges"], 1, MAX_RANGES, "erased ranges")
        ranges = tuple(_range(each) for each in listed)
        check_ranges(ranges)
        return cls(
            as_bytes(body["image"], 32, "eraser image"),
            as_bytes(body["nonce"], 32, "nonce"),
            ranges,
            as_int(body["window"], 0, (1 << 64) - 1, "window"),
            as_bytes(body["seed"], 32, "seed"),
            as_bytes(body["keys"], KEYS, "keys"),
            as_bytes(body["answer"], ANSWER, "answer"),
            None if body["quote"] is None else Quote.from_body(body["quote"]),
            as_bytes(body["event_log"], 0, "event log", MAX_EVENT_LOG),
        )


def _range(obj: object) -> Range:
    start, length = as_list(obj, 2, 2, "erased range")
    top = (1 << 64) - 1
    return as_int(start, 0, top, "start of a range"), as_int(length, 1, top, "length of a range")


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


def _le(data: bytes) -> int:
    return int.from_bytes(data, "little")
