"""`contracts/modules/ecvrf.vy`: it agrees with the Python reference and refuses forgeries."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import boa
import pytest

from nodeclient.core import ecvrf, vrf_witness
from nodeclient.core.curves import SECP256K1, Point, compress
from nodeclient.core.ecvrf import SECP256K1_TAI
from nodeclient.core.vrf_witness import OnChainProof
from tests.contracts.anvil import ROOT, Chain

SECRET: Final = hashlib.sha256(b"executor's VRF key").digest()
PUBLIC: Final = ecvrf.public_key(SECP256K1_TAI, SECRET)
P, N = SECP256K1.p, SECP256K1.n
WORDS: Final = [field.name for field in fields(OnChainProof) if field.name != "roots"]
ROOT_CHECK: Final = 'assert x >= P and root == 0, "ecvrf: counter not proved invalid"'


def alpha_with(rejected: int) -> bytes:
    """An alpha whose first valid counter is `rejected`."""
    for number in range(10_000):
        alpha = number.to_bytes(32, "big")
        if len(ecvrf.encode_to_curve(SECP256K1_TAI, PUBLIC, alpha).rejected) == rejected:
            return alpha
    raise AssertionError("no such alpha")


def call(contract: Any, alpha: bytes, proof: OnChainProof, public: bytes = PUBLIC) -> bytes:
    return bytes(
        contract.verify(int.from_bytes(public[1:], "big"), public[0], alpha, proof.as_tuple())
    )


def hash_at(alpha: bytes, counter: int) -> int:
    """The candidate x of one counter, as an integer."""
    data = b"\xfe\x01" + PUBLIC + alpha + bytes((counter, 0))
    return int.from_bytes(hashlib.sha256(data).digest(), "big")


def prove_over(h: Point, roots: tuple[int, ...] = (), lift: int = 0) -> OnChainProof:
    """An honest proof, except that the prover chooses H and the roots, and adds `lift` to c before
    s and the witnesses are made. Perfect otherwise."""
    secret, nonce = int.from_bytes(SECRET, "big"), 0xC0FFEE
    key = ecvrf.decode_key(SECP256K1_TAI, PUBLIC)
    gamma, u = SECP256K1.combine((secret, h)), SECP256K1.combine((nonce, SECP256K1.generator))
    v = SECP256K1.combine((nonce, h))
    assert gamma is not None
    assert u is not None
    assert v is not None
    c = ecvrf.challenge(SECP256K1_TAI, key, h, gamma, u, v) + lift
    s = (nonce + c * secret) % N
    sh, cg = SECP256K1.combine((s, h)), SECP256K1.combine((c, gamma))
    assert sh is not None
    assert cg is not None
    slope = (sh[1] + cg[1]) * pow(sh[0] - cg[0], -1, P) % P
    return OnChainProof(gamma[0], 2 | gamma[1] & 1, c, s, slope, *u, *sh, *cg, roots)


def later_counter_proof(alpha: bytes, forged: int) -> OnChainProof:
    """A proof over the SECOND valid counter; `forged` stands where no witness exists."""
    roots: list[int] = []
    skipped = False
    for counter in range(256):
        x = hash_at(alpha, counter)
        point = SECP256K1.decompress(2, x)
        if point is not None and skipped:
            return prove_over(point, tuple(roots))
        skipped = skipped or point is not None
        roots.append(forged if point is not None else vrf_witness.non_residue_root(x))
    raise AssertionError("no second valid counter")


@pytest.fixture(scope="module")
def verifier() -> Any:
    return boa.load(str(ROOT / "contracts/mocks/EcvrfMock.vy"))


@pytest.fixture(scope="module")
def honest() -> tuple[bytes, OnChainProof]:
    """An alpha with two rejected counters and its proof."""
    alpha = alpha_with(2)
    return alpha, vrf_witness.prove(SECRET, alpha)


@pytest.fixture
def without_root_check(tmp_path: Path) -> Any:
    """The verifier with its root check cut out, to show that the check is what refuses."""
    for folder in ("modules", "mocks"):
        (tmp_path / folder).mkdir()
    source = (ROOT / "contracts/modules/ecvrf.vy").read_text()
    assert source.count(ROOT_CHECK) == 1
    (tmp_path / "modules/ecvrf.vy").write_text(source.replace(ROOT_CHECK, "pass"))
    mock = (ROOT / "contracts/mocks/EcvrfMock.vy").read_text()
    (tmp_path / "mocks/EcvrfMock.vy").write_text(mock)
    return boa.load(str(tmp_path / "mocks/EcvrfMock.vy"))


@pytest.mark.parametrize("rejected", range(6))
def test_verify__honest_proof__gives_the_reference_beta(verifier: Any, rejected: int) -> None:
    alpha = alpha_with(rejected)
    proof = ecvrf.prove(SECP256K1_TAI, SECRET, alpha)
    on_chain = vrf_witness.build(PUBLIC, alpha, proof)
    assert call(verifier, alpha, on_chain) == ecvrf.verify(SECP256K1_TAI, PUBLIC, alpha, proof)


def test_verify__many_keys__both_parities_agree(verifier: Any) -> None:
    seen = set()
    for number in range(8):
        secret = hashlib.sha256(bytes((number,))).digest()
        public, alpha = ecvrf.public_key(SECP256K1_TAI, secret), bytes((number,)) * 32
        proof = vrf_witness.prove(secret, alpha)
        beta = ecvrf.proof_to_hash(SECP256K1_TAI, ecvrf.prove(SECP256K1_TAI, secret, alpha))
        assert call(verifier, alpha, proof, public) == beta
        seen.add((public[0], proof.gamma_prefix))
    assert {prefix for prefix, _ in seen} == {2, 3}
    assert {prefix for _, prefix in seen} == {2, 3}


@pytest.mark.parametrize("word", WORDS)
def test_verify__bit_of_a_field_flipped__reverts(
    verifier: Any, honest: tuple[bytes, OnChainProof], word: str
) -> None:
    alpha, proof = honest
    for bit in (0, 1, 77, 127, 128, 255):
        flipped = replace(proof, **{word: getattr(proof, word) ^ 1 << bit})
        with pytest.raises(boa.BoaError, match="ecvrf: "):
            call(verifier, alpha, flipped)


def test_verify__bit_of_a_root_flipped__reverts(
    verifier: Any, honest: tuple[bytes, OnChainProof]
) -> None:
    alpha, proof = honest
    for index in range(len(proof.roots)):
        roots = list(proof.roots)
        roots[index] ^= 1
        with boa.reverts("ecvrf: counter not proved invalid"):
            call(verifier, alpha, replace(proof, roots=tuple(roots)))


def test_verify__negated_root__same_beta(verifier: Any, honest: tuple[bytes, OnChainProof]) -> None:
    """A proof's bytes are malleable, its output is not: nothing may key on the bytes."""
    alpha, proof = honest
    negated = replace(proof, roots=tuple(P - root for root in proof.roots))
    assert call(verifier, alpha, negated) == call(verifier, alpha, proof)


def test_verify__later_counter_with_forged_witness__reverts(verifier: Any) -> None:
    alpha = alpha_with(1)
    valid = hash_at(alpha, 1)
    y = SECP256K1.square_root(SECP256K1.right_side(valid))
    assert y is not None
    for forged in (y, P - y, 0, 1, P, 2**256 - 1):
        with boa.reverts("ecvrf: counter not proved invalid"):
            call(verifier, alpha, later_counter_proof(alpha, forged))


def test_verify__later_counter_without_the_root_check__would_choose_another_beta(
    without_root_check: Any,
) -> None:
    """What the root check is for: the forgery is perfect in everything else."""
    alpha = alpha_with(1)
    honest = call(without_root_check, alpha, vrf_witness.prove(SECRET, alpha))
    assert call(without_root_check, alpha, later_counter_proof(alpha, 0)) != honest


def test_verify__missing_witness__reverts(
    verifier: Any, honest: tuple[bytes, OnChainProof]
) -> None:
    """H would then be at an x that is on no point."""
    alpha, proof = honest
    for roots in ((), proof.roots[:1], proof.roots[1:]):
        with pytest.raises(boa.BoaError, match=r"ecvrf: (sH|counter not proved invalid)"):
            call(verifier, alpha, replace(proof, roots=roots))


def test_verify__h_at_an_earlier_valid_x_of_another_curve__reverts(verifier: Any) -> None:
    """Fewer roots than rejected counters, with points of the twist as witnesses."""
    alpha = alpha_with(1)
    proof = vrf_witness.prove(SECRET, alpha)
    off_curve = hash_at(alpha, 0)
    twisted = replace(proof, roots=(), sh_x=off_curve % P, sh_y=0)
    with boa.reverts("ecvrf: sH"):
        call(verifier, alpha, twisted)


@pytest.mark.parametrize("extra", [0, 1, 7, P])
def test_verify__extra_witness__reverts(
    verifier: Any, honest: tuple[bytes, OnChainProof], extra: int
) -> None:
    alpha, proof = honest
    with boa.reverts("ecvrf: counter not proved invalid"):
        call(verifier, alpha, replace(proof, roots=(*proof.roots, extra)))


def test_verify__s_not_below_the_order__reverts(
    verifier: Any, honest: tuple[bytes, OnChainProof]
) -> None:
    alpha, proof = honest
    for s in (N, 2**256 - 1):
        with boa.reverts("ecvrf: s out of range"):
            call(verifier, alpha, replace(proof, s=s))


def test_verify__same_s_beyond_the_order__reverts(verifier: Any) -> None:
    """s + N fits a word only for s < 2^256 - N: such a proof is made from s = 1, not found.

    With s = 1, c and Gamma chosen freely, the proof cannot hold; the range check must come first,
    otherwise the reduced s would be judged.
    """
    alpha = alpha_with(0)
    proof = replace(vrf_witness.prove(SECRET, alpha), s=N + 1)
    with boa.reverts("ecvrf: s out of range"):
        call(verifier, alpha, proof)


def test_verify__c_beyond_128_bits__reverts(verifier: Any) -> None:
    """U, V and the low 128 bits are right: a free upper half would be 2^128 more proofs."""
    alpha = alpha_with(0)
    h = ecvrf.encode_to_curve(SECP256K1_TAI, PUBLIC, alpha).point
    call(verifier, alpha, prove_over(h))
    with boa.reverts("ecvrf: challenge"):
        call(verifier, alpha, prove_over(h, lift=2**128))


@pytest.mark.parametrize("prefix", [0, 1, 4, 27, 2**8 + 2, 2**255 + 2, 2**256 - 25])
def test_verify__prefix_other_than_2_or_3__reverts(
    verifier: Any, honest: tuple[bytes, OnChainProof], prefix: int
) -> None:
    alpha, proof = honest
    with boa.reverts("ecvrf: cGamma"):
        call(verifier, alpha, replace(proof, gamma_prefix=prefix))
    # another key prefix makes other counters, so none are given
    words = replace(proof, roots=()).as_tuple()
    with boa.reverts("ecvrf: U"):
        verifier.verify(int.from_bytes(PUBLIC[1:], "big"), prefix, alpha, words)


def test_verify__gamma_off_the_curve__reverts(
    verifier: Any, honest: tuple[bytes, OnChainProof]
) -> None:
    alpha, proof = honest
    off = next(x for x in range(1, 99) if SECP256K1.decompress(2, x) is None)
    for x in (off, 0, P, N, 2**256 - 1):
        with boa.reverts("ecvrf: cGamma"):
            call(verifier, alpha, replace(proof, gamma_x=x))


def test_verify__gamma_as_infinity__reverts(
    verifier: Any, honest: tuple[bytes, OnChainProof]
) -> None:
    """The group has prime order; infinity is the only point of low order. It has no encoding."""
    alpha, proof = honest
    for x, y in ((0, 0), (proof.sh_x, proof.sh_y)):
        with boa.reverts("ecvrf: cGamma"):
            call(verifier, alpha, replace(proof, gamma_x=0, cg_x=x, cg_y=y))


def test_verify__zero_scalars__reverts(verifier: Any, honest: tuple[bytes, OnChainProof]) -> None:
    """ecrecover answers the zero address, which no supplied point hashes to."""
    alpha, proof = honest
    with boa.reverts("ecvrf: U"):
        call(verifier, alpha, replace(proof, c=0, s=0, u_x=0, u_y=0))
    key = ecvrf.decode_key(SECP256K1_TAI, PUBLIC)
    minus_key = SECP256K1.combine((-proof.c, key))
    assert minus_key is not None
    with boa.reverts("ecvrf: sH"):
        u = {"u_x": minus_key[0], "u_y": minus_key[1]}
        call(verifier, alpha, replace(proof, s=0, sh_x=0, sh_y=0, **u))


def test_verify__gamma_not_secret_times_h__reverts(verifier: Any) -> None:
    """A wrong Gamma with every witness right: only the challenge can tell."""
    alpha = alpha_with(0)
    h = ecvrf.encode_to_curve(SECP256K1_TAI, PUBLIC, alpha).point
    proof = vrf_witness.prove(SECRET, alpha)
    wrong = SECP256K1.combine((int.from_bytes(SECRET, "big") + 1, h))
    assert wrong is not None
    encoded = compress(wrong) + proof.c.to_bytes(16, "big") + proof.s.to_bytes(32, "big")
    with boa.reverts("ecvrf: challenge"):
        call(verifier, alpha, vrf_witness.build(PUBLIC, alpha, encoded))


def test_verify__v_moved_by_its_slope__reverts(
    verifier: Any, honest: tuple[bytes, OnChainProof]
) -> None:
    alpha, proof = honest
    with boa.reverts("ecvrf: slope"):
        call(verifier, alpha, replace(proof, slope=(proof.slope + 1) % P))


def test_verify__vertical_chord__reverts(verifier: Any) -> None:
    """With sH = -cGamma every slope satisfies the chord: V would be the prover's choice."""
    alpha, c, log = alpha_with(0), 5, 7  # Gamma = log*H is false: the secret is not 7
    h = ecvrf.encode_to_curve(SECP256K1_TAI, PUBLIC, alpha).point
    gamma, cg = SECP256K1.combine((log, h)), SECP256K1.combine((c * log, h))
    assert gamma is not None
    assert cg is not None
    for s in (-c * log % N, c * log):
        key = ecvrf.decode_key(SECP256K1_TAI, PUBLIC)
        u, sh = SECP256K1.combine((s, SECP256K1.generator), (-c, key)), SECP256K1.combine((s, h))
        assert u is not None
        assert sh is not None
        proof = OnChainProof(gamma[0], 2 | gamma[1] & 1, c, s, 0, *u, *sh, *cg, ())
        with boa.reverts("ecvrf: chord is vertical"):
            call(verifier, alpha, proof)


def test_verify__other_alpha__reverts(verifier: Any) -> None:
    alpha = alpha_with(0)
    proof = vrf_witness.prove(SECRET, alpha)
    for number in range(1, 5):
        other = (int.from_bytes(alpha, "big") ^ number).to_bytes(32, "big")
        with pytest.raises(boa.BoaError, match="ecvrf: "):
            call(verifier, other, proof)


def test_verify__other_key__reverts(verifier: Any, honest: tuple[bytes, OnChainProof]) -> None:
    alpha, proof = honest
    other = ecvrf.public_key(SECP256K1_TAI, hashlib.sha256(b"outsider").digest())
    negated = bytes((PUBLIC[0] ^ 1,)) + PUBLIC[1:]
    for public in (other, negated):
        with pytest.raises(boa.BoaError, match="ecvrf: "):
            call(verifier, alpha, proof, public)


def test_verify__key_off_the_curve__reverts(
    verifier: Any, honest: tuple[bytes, OnChainProof]
) -> None:
    """ecrecover fails; the counters of another key are other ones, so none are given."""
    alpha, proof = honest
    off = next(x for x in range(1, 99) if SECP256K1.decompress(2, x) is None)
    for x in (off, 0, N, P):
        with boa.reverts("ecvrf: U"):
            call(verifier, alpha, replace(proof, roots=()), b"\x02" + x.to_bytes(32, "big"))


def test_gas__usual_proofs_on_anvil__within_14_000(chain: Chain) -> None:
    """One counter in two is rejected, so the mean proof has one root (625 gas each)."""
    contract = chain.deploy("contracts/mocks/EcvrfMock.vy")
    gas = {}
    for rejected in (0, 1, 2):
        alpha = alpha_with(rejected)
        words = vrf_witness.prove(SECRET, alpha).as_tuple()
        x, prefix = int.from_bytes(PUBLIC[1:], "big"), PUBLIC[0]
        gas[rejected] = chain.execution_gas(contract.functions.verify(x, prefix, alpha, words))
    assert gas[1] <= 14_000
    assert gas[2] - gas[1] <= 650
