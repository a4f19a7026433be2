"""CIDs: known ones, and one spelling only."""

import pytest
from cid import make_cid

from agent.formats.cbor import FormatError
from agent.formats.cid import BlockMismatch, check_block, cid_from_digest, cid_of, digest_of

# published CIDs: the empty raw block, and "hello world" (ipfs add --cid-version=1 --raw-leaves)
VECTORS = [
    (b"", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
    (b"hello world", "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"),
]


@pytest.mark.parametrize(("block", "cid"), VECTORS)
def test_cid_of__published_block__has_its_published_cid(block, cid):
    assert cid_of(block) == cid
    assert cid_from_digest(digest_of(cid)) == cid
    check_block(cid, block)


def test_cid_of__random_blocks__agree_with_py_cid():
    for block in (b"\x00" * 33, b"\xff" * 64):
        ours = cid_of(block)
        theirs = make_cid(ours)
        assert theirs.version == 1
        assert theirs.codec == "raw"
        assert theirs.multihash == b"\x12\x20" + digest_of(ours)


@pytest.mark.parametrize(
    "cid",
    [
        "",
        "b",
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnLzxK",
        VECTORS[0][1].upper(),
        "B" + VECTORS[0][1][1:],
        VECTORS[0][1] + "a",
        VECTORS[0][1][:-1],
        VECTORS[0][1][:-1] + "1",
        # the last character carries two unused bits: another spelling of the same digest
        VECTORS[0][1][:-1] + "v",
        "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",  # dag-pb
        "../" + VECTORS[0][1][3:],
        "b" + "é" * 58,
        None,
        VECTORS[0][1].encode(),
    ],
)
def test_digest_of__any_other_spelling__refused(cid):
    with pytest.raises(FormatError):
        digest_of(cid)


def test_check_block__other_bytes__mismatch():
    with pytest.raises(BlockMismatch):
        check_block(VECTORS[0][1], b"\x00")


def test_cid_from_digest__wrong_size__refused():
    with pytest.raises(FormatError):
        cid_from_digest(bytes(31))
