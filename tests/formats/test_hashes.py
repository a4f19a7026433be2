"""Keccak, the Merkle tree of RFC 6962 and its paths."""

import hashlib

import pytest

from agent.formats.cbor import FormatError
from agent.formats.hashes import keccak256, merkle_path, merkle_root, truncate, verify_path


def test_keccak256__empty_input__is_ethereums():
    # the code hash of every account without code (EIP-1052)
    assert keccak256(b"").hex() == (
        "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    )


def reference_root(leaves):
    """RFC 6962, §2.1, word for word: split at the largest power of two below the size."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = reference_root(leaves[:split]), reference_root(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


@pytest.mark.parametrize("size", [*range(1, 18), 31, 33])
def test_merkle_root__any_size__is_rfc6962_with_a_zero_last_byte(size):
    leaves = [bytes([i]) * (i % 5) for i in range(size)]
    root = merkle_root(leaves)
    assert root == reference_root(leaves)[:31] + b"\x00"
    for index, leaf in enumerate(leaves):
        path = merkle_path(leaves, index)
        assert verify_path(leaf, path, root)
        assert not verify_path(leaf + b"x", path, root)


def test_merkle_root__published_vector_of_certificate_transparency__matches():
    # the seven-leaf tree of the RFC 6962 reference implementation
    leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
    root = merkle_root([bytes.fromhex(leaf) for leaf in leaves])
    published = "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"
    assert root == truncate(bytes.fromhex(published))


def test_verify_path__inner_node_shown_as_leaf__refused():
    leaves = [b"a", b"b", b"c", b"d"]
    root = merkle_root(leaves)
    left = hashlib.sha256(b"\x00a").digest() + hashlib.sha256(b"\x00b").digest()
    assert not verify_path(left, merkle_path(leaves, 0)[1:], root)


def test_verify_path__malformed_or_endless_path__is_a_plain_no():
    root = merkle_root([b"a"])
    assert verify_path(b"a", (), root)
    assert not verify_path(b"a", (b"\x02" + bytes(32),), root)
    assert not verify_path(b"a", (b"\x00" + bytes(31),), root)
    assert not verify_path(b"a", (b"\x00" + bytes(32),) * 1000, root)


def test_merkle_root__without_leaves__refused():
    with pytest.raises(FormatError):
        merkle_root([])
    with pytest.raises(FormatError):
        merkle_path([b"a"], 1)
