"""Evidence: what cannot be altered, replayed or passed off as another session's."""

import os
from dataclasses import replace

import pytest

from agent.formats import cbor, evidence, hpke
from agent.formats.cbor import FormatError
from agent.formats.evidence import Evidence, EvidenceError
from agent.formats.hashes import sha256, verify_path
from agent.formats.p256 import SigningKey

SESSION = SigningKey.generate()
HPKE = hpke.generate()[1]
NONCE = os.urandom(32)
CLAIMS = {
    "session": {"hpke": HPKE, "signing": SESSION.public},
    "function": {"cid": "bafkrei", "digest": None},
    "counters": {"boot": 3, "evidence": 1, "clock_ms": 12},
    "simulated": ["machine", "root"],
}


def build(claims=CLAIMS, nonce=NONCE, key=SESSION):
    return evidence.build(claims, nonce, key.sign)


def parts():
    return cbor.decode(build().encode(), evidence.MAX_EVIDENCE)


def test_build_and_decode__claims__come_back_and_verify():
    made = build()
    seen = Evidence.decode(made.encode())
    seen.verify(NONCE, evidence.session_key_hash(HPKE, SESSION.public))
    assert seen.claims() == CLAIMS
    assert seen.names == tuple(sorted(CLAIMS))
    assert seen.root == made.root
    assert seen.root[-1] == 0
    assert seen.session() == (HPKE, SESSION.public)


def test_build__same_claims_twice__roots_differ_by_salt():
    assert build().root != build().root


def test_claim__returned_value__is_a_copy():
    made = build()
    made.claim("counters")["boot"] = 99
    assert made.claim("counters")["boot"] == 3


def test_claim__missing__is_an_error_and_not_none():
    with pytest.raises(EvidenceError, match="erasure"):
        build().claim("erasure")
    with pytest.raises(EvidenceError):
        build().disclose("erasure")


def test_verify__old_nonce__refused():
    with pytest.raises(EvidenceError, match="nonce"):
        build().verify(os.urandom(32))


def test_verify__nonce_swapped_in__refused():
    fresh = os.urandom(32)
    with pytest.raises(EvidenceError, match="signature"):
        replace(build(), nonce=fresh).verify(fresh)


def test_verify__claim_altered_added_or_removed__refused():
    made = build()
    altered = made.leaves[0][:16] + cbor.encode(["counters", {"boot": 4}])
    added = os.urandom(16) + cbor.encode(["zzz", 1])
    for leaves in ((altered, *made.leaves[1:]), (*made.leaves, added), made.leaves[1:]):
        forged = Evidence.decode(replace(made, leaves=leaves).encode())
        with pytest.raises(EvidenceError):
            forged.verify(NONCE)


def test_verify__signed_by_another_key_than_its_session_claim__refused():
    with pytest.raises(EvidenceError, match="signature"):
        build(key=SigningKey.generate()).verify(NONCE)


def test_verify__another_session_than_the_header_names__refused():
    other = SigningKey.generate()
    made = build({**CLAIMS, "session": {"hpke": HPKE, "signing": other.public}}, key=other)
    made.verify(NONCE)
    with pytest.raises(EvidenceError, match="header"):
        made.verify(NONCE, evidence.session_key_hash(HPKE, SESSION.public))


@pytest.mark.parametrize("session", [None, {}, {"hpke": HPKE}, {"hpke": b"", "signing": b""}])
def test_verify__session_claim_of_another_shape__refused(session):
    with pytest.raises(FormatError):
        build({**CLAIMS, "session": session}).verify(NONCE)


def test_disclose__one_claim__verifies_against_the_root_and_no_other():
    made = build()
    leaf, path = made.disclose("counters")
    assert evidence.verify_claim(leaf, path, made.root) == ("counters", CLAIMS["counters"])
    for root in (build().root, sha256(b"")):
        with pytest.raises(EvidenceError):
            evidence.verify_claim(leaf, path, root)
    assert sum(name.encode() in leaf for name in CLAIMS) == 1


def test_decode__deep_cbor_in_a_claim__refused():
    made = build()
    bomb = os.urandom(16) + b"\x82\x61\x61" + b"\x81" * 50_000 + b"\x00"
    encoded = cbor.encode([1, [bomb], made.nonce, made.signature])
    with pytest.raises(FormatError, match="nested"):
        Evidence.decode(encoded)


def test_decode__above_the_bound__refused():
    with pytest.raises(FormatError, match="limit"):
        Evidence.decode(bytes(evidence.MAX_EVIDENCE + 1))
    with pytest.raises(FormatError):
        build({"a": bytes(evidence.MAX_EVIDENCE)}).encode()
    with pytest.raises(FormatError):
        build({f"c{i}": i for i in range(evidence.MAX_CLAIMS + 1)})
    with pytest.raises(FormatError):
        build({})


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, 2),
        (1, []),
        (1, [b"short"]),
        (1, b""),
        (1, [bytes(16) + b"\x01"]),
        (1, [bytes(16) + cbor.encode([1, 2])]),
        (1, [bytes(16) + cbor.encode(["a"])]),
        (1, [bytes(16) + cbor.encode(["a", 1]), bytes(16) + cbor.encode(["a", 2])]),
        (1, [bytes(16) + cbor.encode(["b", 1]), bytes(16) + cbor.encode(["a", 2])]),
        (2, bytes(31)),
        (3, bytes(63)),
    ],
)
def test_decode__part_of_another_shape__refused(index, value):
    fields = parts()
    fields[index] = value
    with pytest.raises(FormatError):
        Evidence.decode(cbor.encode(fields))


def test_build__value_without_a_deterministic_form__refused():
    with pytest.raises(FormatError):
        build({"seconds": 1.5})


def test_fold_nonces__every_member__finds_its_own_and_no_other():
    nonces = {bytes([i]) * 20: os.urandom(32) for i in range(5)}
    root = evidence.fold_nonces(nonces)
    assert root == evidence.fold_nonces(dict(reversed(nonces.items())))
    for member, nonce in nonces.items():
        path = evidence.nonce_path(nonces, member)
        assert verify_path(evidence.nonce_leaf(member, nonce), path, root)
        assert not verify_path(evidence.nonce_leaf(member, os.urandom(32)), path, root)
    with pytest.raises(FormatError):
        evidence.nonce_path(nonces, bytes(20)[:-1] + b"\xff")


def test_session_key_hash__keys_of_wrong_size__refused():
    with pytest.raises(FormatError):
        evidence.session_key_hash(HPKE + b"x", SESSION.public[1:])
