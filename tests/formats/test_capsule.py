"""Capsules: every way to alter one, and that none of them opens."""

import io
import os
from dataclasses import replace

import pytest

from agent.formats import capsule, cbor
from agent.formats.capsule import CHUNK, CapsuleError, Kind
from agent.formats.cbor import FormatError
from agent.formats.cid import BlockMismatch, cid_of
from agent.formats.hashes import sha256
from agent.formats.p256 import SigningKey

OWNER, STRANGER = SigningKey.generate(), SigningKey.generate()
KEY = os.urandom(32)
SEALED_KEY = os.urandom(capsule.SEALED_KEY)


def seal(payload, blocks, *, kind=Kind.DATA, owner=OWNER, key=KEY, **more):
    return capsule.seal_stream(
        io.BytesIO(payload),
        blocks.__setitem__,
        kind=kind,
        owner=owner.public,
        sign=owner.sign,
        content_key=key,
        **more,
    )


def open_(cid, blocks, *, key=KEY, owner=OWNER.public, digest=None, kind=None):
    sink = io.BytesIO()
    header = capsule.open_stream(
        cid, blocks.__getitem__, key, sink, expect_owner=owner, expect_digest=digest,
        expect_kind=kind,
    )  # fmt: skip
    return sink.getvalue(), header


def forge(cid, blocks, *, signer=STRANGER, **changes):
    """A header that somebody signed anew: consistent, but not what was sealed."""
    header = capsule.parse_header(blocks[cid])
    header = replace(header, owner=signer.public, **changes)
    header = replace(header, signature=signer.sign(header.signed_digest()))
    block = header.encode()
    blocks[cid_of(block)] = block
    return cid_of(block)


@pytest.fixture(scope="module")
def three():
    """A Capsule of three chunks: (payload, blocks, sealed)."""
    blocks = {}
    payload = os.urandom(2 * CHUNK + 1000)
    return payload, blocks, seal(payload, blocks)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_seal_and_open__sizes_around_a_chunk__come_back(size):
    blocks = {}
    payload = os.urandom(size)
    sealed = seal(payload, blocks)
    assert sealed.size == size
    assert sealed.digest == sha256(payload)
    assert len(blocks) == 1 + max(1, -(-size // CHUNK))
    assert all(len(block) <= 1 << 20 for block in blocks.values())
    assert open_(sealed.cid, blocks, digest=sealed.digest)[0] == payload


def test_seal__source_with_short_reads__is_the_same_payload():
    class Trickle:
        def __init__(self, payload):
            self.stream = io.BytesIO(payload)

        def read(self, size):
            return self.stream.read(min(size, 70_001))

    payload, blocks = os.urandom(CHUNK + 5), {}
    sealed = capsule.seal_stream(
        Trickle(payload), blocks.__setitem__, kind=Kind.DATA, owner=OWNER.public, sign=OWNER.sign,
        content_key=KEY,
    )  # fmt: skip
    assert open_(sealed.cid, blocks)[0] == payload


def test_seal__header__is_put_last():
    blocks = {}  # keeps the order in which they were put
    sealed = seal(os.urandom(CHUNK + 1), blocks)
    assert list(blocks)[-1] == sealed.cid
    assert len(blocks) == 3


def test_seal__same_payload_twice__shares_no_block():
    first, second = {}, {}
    one = seal(b"x" * 100, first)
    two = seal(b"x" * 100, second, key=os.urandom(32))
    assert not set(first) & set(second)
    headers = capsule.parse_header(first[one.cid]), capsule.parse_header(second[two.cid])
    assert headers[0].salted_digest != headers[1].salted_digest  # says nothing without the key


def test_inspect__blocks__show_nothing_of_the_payload(three):
    payload, blocks, sealed = three
    header = capsule.inspect(sealed.cid, blocks.__getitem__)
    assert header.size == len(payload)
    assert set(header.chunks) | {sealed.cid} == set(blocks)
    everything = b"".join(blocks.values())
    assert payload[:32] not in everything
    assert sealed.digest not in everything  # a guess of the payload cannot be confirmed


@pytest.mark.parametrize("position", [0, 17, 500, -1])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_open__chunk_bit_flipped__refused_before_it_is_written(three, which, position):
    payload, blocks, sealed = three
    blocks = dict(blocks)
    cid = capsule.parse_header(blocks[sealed.cid]).chunks[which]
    altered = bytearray(blocks[cid])
    altered[position] ^= 1
    blocks[cid] = bytes(altered)
    sink = io.BytesIO()
    with pytest.raises(BlockMismatch):
        capsule.open_stream(
            sealed.cid, blocks.__getitem__, KEY, sink, expect_owner=None, expect_digest=None
        )
    assert sink.getvalue() == payload[: which * CHUNK]


def test_open__any_bit_of_the_header_flipped__refused(three):
    _, blocks, sealed = three
    header = blocks[sealed.cid]
    for position in range(len(header)):
        altered = bytearray(header)
        altered[position] ^= 1 << position % 8
        with pytest.raises(BlockMismatch):
            open_(sealed.cid, {**blocks, sealed.cid: bytes(altered)})
        cid = cid_of(bytes(altered))  # even under the CID of the altered bytes
        with pytest.raises(FormatError):
            open_(cid, {**blocks, cid: bytes(altered)}, owner=None)


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_open__header_or_chunk_truncated__refused(three, keep):
    _, blocks, sealed = three
    for cid in blocks:
        with pytest.raises(FormatError):
            open_(sealed.cid, {**blocks, cid: blocks[cid][:keep]})
    cid = cid_of(blocks[sealed.cid][:keep])
    with pytest.raises(FormatError):
        open_(cid, {cid: blocks[sealed.cid][:keep]})


def test_open__empty_block__refused():
    with pytest.raises(FormatError):
        open_(cid_of(b""), {cid_of(b""): b""})


def test_open__block_of_another_cid__refused(three):
    _, blocks, sealed = three
    other = {}
    seal(b"other", other)
    with pytest.raises(BlockMismatch):
        open_(sealed.cid, {**blocks, sealed.cid: next(reversed(other.values()))})


def test_open__wrong_content_key__refused(three):
    _, blocks, sealed = three
    with pytest.raises(CapsuleError, match="key"):
        open_(sealed.cid, blocks, key=os.urandom(32))
    with pytest.raises(FormatError):
        open_(sealed.cid, blocks, key=b"short")


def test_open__wrong_owner_digest_or_kind__refused(three):
    _, blocks, sealed = three
    with pytest.raises(CapsuleError, match="owner"):
        open_(sealed.cid, blocks, owner=STRANGER.public)
    with pytest.raises(CapsuleError, match="content"):
        open_(sealed.cid, blocks, digest=sha256(b"another function"))
    with pytest.raises(CapsuleError, match="DATA"):
        open_(sealed.cid, blocks, kind=Kind.FUNCTION)


def test_open__chunks_passed_off_as_a_strangers__refused(three):
    _, blocks, sealed = three
    blocks = dict(blocks)
    cid = forge(sealed.cid, blocks)
    with pytest.raises(CapsuleError, match="does not open"):
        open_(cid, blocks, owner=STRANGER.public)


def test_open__chunks_passed_off_as_another_kind__refused(three):
    _, blocks, sealed = three
    blocks = dict(blocks)
    cid = forge(sealed.cid, blocks, signer=OWNER, kind=Kind.FUNCTION)
    with pytest.raises(CapsuleError, match="does not open"):
        open_(cid, blocks)


def test_open__chunks_reordered_under_the_owners_own_signature__refused():
    blocks = {}
    sealed = seal(os.urandom(3 * CHUNK), blocks)
    first, second, third = capsule.parse_header(blocks[sealed.cid]).digests
    for order in ((second, first, third), (first, first, third), (first, third, second)):
        cid = forge(sealed.cid, blocks, signer=OWNER, digests=order)
        with pytest.raises(CapsuleError, match="does not open"):
            open_(cid, blocks)


def test_open__last_chunk_dropped_under_the_owners_own_signature__refused():
    blocks = {}
    sealed = seal(os.urandom(3 * CHUNK), blocks)
    digests = capsule.parse_header(blocks[sealed.cid]).digests
    cid = forge(sealed.cid, blocks, signer=OWNER, digests=digests[:2], size=2 * CHUNK)
    with pytest.raises(CapsuleError, match="chunk 1 does not open"):
        open_(cid, blocks)


@pytest.mark.parametrize("size", [0, CHUNK, CHUNK + 1, 3 * CHUNK + 1, capsule.MAX_PAYLOAD, -1])
def test_inspect__chunk_count_that_belies_the_size__refused(three, size):
    _, blocks, sealed = three
    blocks = dict(blocks)
    cid = forge(sealed.cid, blocks, signer=OWNER, size=size)
    with pytest.raises(FormatError):
        capsule.inspect(cid, blocks.__getitem__)


def test_open__size_that_belies_the_last_chunk__refused(three):
    payload, blocks, sealed = three
    blocks = dict(blocks)
    cid = forge(sealed.cid, blocks, signer=OWNER, size=len(payload) - 1)
    with pytest.raises(CapsuleError, match="wrong size"):
        open_(cid, blocks)


def test_open__salted_digest_of_other_content__refused(three):
    _, blocks, sealed = three
    blocks = dict(blocks)
    cid = forge(sealed.cid, blocks, signer=OWNER, salted_digest=os.urandom(32))
    with pytest.raises(CapsuleError, match="promises"):
        open_(cid, blocks)


def test_inspect__oversized_header__refused_before_it_is_parsed():
    block = bytes(capsule.MAX_HEADER + 1)
    with pytest.raises(CapsuleError, match="1 MiB"):
        capsule.inspect(cid_of(block), {cid_of(block): block}.__getitem__)


def test_inspect__signature_by_another_key__refused(three):
    _, blocks, sealed = three
    header = capsule.parse_header(blocks[sealed.cid])
    stolen = replace(header, signature=STRANGER.sign(header.signed_digest())).encode()
    with pytest.raises(CapsuleError, match="signed"):
        capsule.inspect(cid_of(stolen), {cid_of(stolen): stolen}.__getitem__)


@pytest.mark.parametrize(
    "change",
    [{"kind": 4}, {"kind": 0}, {"version": 2}, {"prefix": b""}, {"owner": bytes(63)}, {"more": 1}],
)
def test_parse_header__field_out_of_bounds__refused(three, change):
    _, blocks, sealed = three
    fields = cbor.decode(blocks[sealed.cid], capsule.MAX_HEADER)
    with pytest.raises(FormatError):
        capsule.parse_header(cbor.encode({**fields, **change}))


def test_seal__result_with_sealed_key__carries_it_and_other_kinds_may_not():
    blocks = {}
    sealed = seal(b"r", blocks, kind=Kind.RESULT, sealed_key=SEALED_KEY)
    assert capsule.inspect(sealed.cid, blocks.__getitem__).sealed_key == SEALED_KEY
    for kind, key in ((Kind.DATA, SEALED_KEY), (Kind.RESULT, SEALED_KEY[:-1])):
        with pytest.raises(FormatError):
            seal(b"r", {}, kind=kind, sealed_key=key)


def test_seal__signer_that_signs_with_another_key__publishes_no_header():
    blocks = {}
    with pytest.raises(CapsuleError):
        capsule.seal_stream(
            io.BytesIO(b"x"), blocks.__setitem__, kind=Kind.DATA, owner=OWNER.public,
            sign=STRANGER.sign, content_key=KEY,
        )  # fmt: skip
    assert len(blocks) == 1  # the chunk alone, which nobody can find


def test_seal__payload_beyond_the_bound__refused(monkeypatch):
    monkeypatch.setattr(capsule, "MAX_CHUNKS", 2)
    with pytest.raises(CapsuleError, match="exceeds"):
        seal(bytes(2 * CHUNK + 1), {})
    assert seal(bytes(2 * CHUNK), {}).size == 2 * CHUNK


def test_header__at_the_largest_payload__fits_in_a_block():
    header = capsule.CapsuleHeader(
        Kind.RESULT, bytes(64), bytes(32), capsule.MAX_PAYLOAD, bytes(7),
        (bytes(32),) * capsule.MAX_CHUNKS, SEALED_KEY, bytes(64),
    )  # fmt: skip
    assert len(header.encode()) <= capsule.MAX_HEADER
