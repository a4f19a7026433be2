"""`contracts/modules/ecvrf.vy`: it agrees with the Python reference and refuses forgeries."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import boa
import pytest
from eth_hash.auto import keccak

from nodeclient.core import ecvrf, vrf_witness
from nodeclient.core.curves import SECP256K1, Point, compress
from nodeclient.core.ecvrf import SECP256K1_TAI
from nodeclient.core.vrf_witness import OnChainProof
from tests.contracts.anvil import ROOT, Chain

SECRET: Final = hashlib.sha256(b"executor's VRF key").digest()
PUBLIC: Final = ecvrf.public_key(SECP256K1_TAI, SECRET)
P, N = SECP256K1.p, SECP256K1.n
WORDS: Final = [field.name for field in fields(OnChainProof) if field.name != "roots"]
U_ADDRESS: Final = "<< 96\n    ) | ("
U_ON_CURVE: Final = """
        unsafe_sub(uint256_mulmod(proof.u_y, proof.u_y, P), 7)
        ^ uint256_mulmod(uint256_mulmod(proof.u_x, proof.u_x, P), proof.u_x, P)
    )"""
ROOT_CHECK: Final = 'assert x >= P and root == 0, "ecvrf: counter not proved invalid"'


def alpha_with(rejected: int) -> bytes:
    """An alpha whose first valid counter is `rejected`."""
    for number in range(10_000):
        alpha = number.to_bytes(27, "big")
        if len(ecvrf.encode_to_curve(SECP256K1_TAI, PUBLIC, alpha).rejected) == rejected:
            return alpha
    raise AssertionError("no such alpha")


def call(contract: Any, alpha: bytes, proof: OnChainProof, public: bytes = PUBLIC) -> bytes:
    arguments = (int.from_bytes(public[1:], "big"), public[0], word(alpha), *proof.as_arguments())
    return bytes(contract.verify(*arguments))


def word(alpha: bytes) -> bytes:
    """The argument in which the contract expects the VRF input: what follows does not count."""
    return alpha + b"\xa5" * (32 - len(alpha))


def hash_at(alpha: bytes, counter: int) -> int:
    """The candidate x of one counter, as an integer."""
    data = b"\xfe\x01" + PUBLIC + alpha + bytes((counter, 0))
    return int.from_bytes(hashlib.sha256(data).digest(), "big")


def prove_over(h: Point, roots: tuple[int, ...] = ()) -> OnChainProof:
    """An honest proof, except that the prover chooses H and the roots. Perfect otherwise."""
    secret, nonce = int.from_bytes(SECRET, "big"), 0xC0FFEE
    key = ecvrf.decode_key(SECP256K1_TAI, PUBLIC)
    gamma, u = SECP256K1.combine((secret, h)), SECP256K1.combine((nonce, SECP256K1.generator))
    v = SECP256K1.combine((nonce, h))
    assert gamma is not None
    assert u is not None
    assert v is not None
    c = ecvrf.challenge(SECP256K1_TAI, key, h, gamma, u, v)
    s = (nonce + c * secret) % N
    sh, cg = SECP256K1.combine((s, h)), SECP256K1.combine((c, gamma))
    assert sh is not None
    assert cg is not None
    slope = (sh[1] + cg[1]) * pow(cg[0] - sh[0], -1, P) % P
    return with_line(gamma, s, slope, u, sh[0], cg, roots)


def with_line(
    gamma: Point, s: int, slope: int, u: Point, sh_x: int, cg: Point, roots: tuple[int, ...] = ()
) -> OnChainProof:
    """The contract's form of a proof: -U, and the line of that slope through cGamma."""
    offset = (cg[1] - slope * cg[0]) % P
    prefix = 2 | gamma[1] & 1
    return OnChainProof(gamma[0], prefix, s, slope, offset, u[0], P - u[1], sh_x, cg[0], roots)


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


def forge(alpha: bytes, check: str, gamma_x: int = 0, prefix: int = 0) -> OnChainProof:
    """A proof for a Gamma that is not secret*H, which nothing but one check can refuse.

    Challenge first, as every forger has to: U and V are fixed, c is their hash, and s and the line
    are made to fit everything but the point that `check` looks at. Gamma may be given as the two
    numbers of its encoding, then on no curve.
    """
    secret, nonce, h = int.from_bytes(SECRET, "big"), 0xC0FFEE, first_h(alpha)
    log = secret + 1
    gamma = known(SECP256K1.combine((log, h)))
    gamma_x, prefix = gamma_x or gamma[0], prefix or 2 | gamma[1] & 1
    u = known(SECP256K1.combine((nonce + (check == "U"), SECP256K1.generator)))
    v = known(SECP256K1.combine((nonce, h)))
    points = (
        PUBLIC,
        compress(h),
        bytes((prefix,)) + gamma_x.to_bytes(32, "big"),
        *map(compress, (u, v)),
    )
    digest = hashlib.sha256(b"\xfe\x02" + b"".join(points) + b"\x00").digest()
    c = int.from_bytes(digest[:16], "big")
    s = (nonce + c * (log if check == "U" else secret)) % N
    minus_sh, cg = known(SECP256K1.combine((-s, h))), known(SECP256K1.combine((c, gamma)))
    first = cg if check == "sH" else minus_sh
    slope = (v[1] - first[1]) * pow(v[0] - first[0], -1, P) % P
    third = (slope**2 - v[0] - first[0]) % P
    sh_x, cg_x = (third, cg[0]) if check == "sH" else (minus_sh[0], third)
    offset = (v[1] - slope * v[0]) % P
    return OnChainProof(gamma_x, prefix, s, slope, offset, u[0], P - u[1], sh_x, cg_x, ())


def pooled(alpha: bytes) -> OnChainProof:
    """A proof for Gamma = 7*H by a birthday search over 16 bits of U's address.

    c depends on U's x and on one bit of its y. So one table over y serves every c: it meets one of
    the points that U would have to be, each of which follows from a V of the prover's choice.
    """
    h, log, u_x = first_h(alpha), 7, 5
    gamma, key = known(SECP256K1.combine((log, h))), ecvrf.decode_key(SECP256K1_TAI, PUBLIC)
    table = {_address16((u_x, y)): y for y in range(0, 2**14, 2)}
    for nonce in range(1, 2**10):
        v = known(SECP256K1.combine((nonce, h)))
        # -U is (u_x, even), so U is (u_x, odd).
        c = ecvrf.challenge(SECP256K1_TAI, key, h, gamma, (u_x, 1), v)
        s = (nonce + c * log) % N
        minus_u = known(SECP256K1.combine((c, key), (-s, SECP256K1.generator)))
        y = table.get(_address16(minus_u))
        if y is not None:
            sh, cg = known(SECP256K1.combine((s, h))), known(SECP256K1.combine((c, gamma)))
            slope = (sh[1] + cg[1]) * pow(cg[0] - sh[0], -1, P) % P
            return with_line(gamma, s, slope, (u_x, P - y), sh[0], cg)
    raise AssertionError("no point met")


def _address16(point: Point) -> bytes:
    return keccak(point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big"))[-2:]


def first_h(alpha: bytes) -> Point:
    return ecvrf.encode_to_curve(SECP256K1_TAI, PUBLIC, alpha).point


def known(point: Point | None) -> Point:
    assert point is not None
    return point


@pytest.fixture(scope="module")
def verifier() -> Any:
    return boa.load(str(ROOT / "contracts/mocks/EcvrfMock.vy"))


@pytest.fixture(scope="module")
def honest() -> tuple[bytes, OnChainProof]:
    """An alpha with two rejected counters and its proof."""
    alpha = alpha_with(2)
    return alpha, vrf_witness.prove(SECRET, alpha)


def without(folder: Path, check: str, replacement: str) -> Any:
    """The verifier with one check changed, to show that the check is what refuses."""
    for name in ("modules", "mocks"):
        (folder / name).mkdir()
    source = (ROOT / "contracts/modules/ecvrf.vy").read_text()
    assert source.count(check) == 1
    (folder / "modules/ecvrf.vy").write_text(source.replace(check, replacement))
    mock = (ROOT / "contracts/mocks/EcvrfMock.vy").read_text()
    (folder / "mocks/EcvrfMock.vy").write_text(mock)
    return boa.load(str(folder / "mocks/EcvrfMock.vy"))


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
        public, alpha = ecvrf.public_key(SECP256K1_TAI, secret), bytes((number,)) * 27
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
    tmp_path: Path,
) -> None:
    """What the root check is for: the forgery is perfect in everything else."""
    alpha, without_root_check = alpha_with(1), without(tmp_path, ROOT_CHECK, "pass")
    honest = call(without_root_check, alpha, vrf_witness.prove(SECRET, alpha))
    assert call(without_root_check, alpha, later_counter_proof(alpha, 0)) != honest


def test_verify__u_from_a_table__refused_by_the_curve(tmp_path: Path) -> None:
    """What the curve check is for: a table meets addresses of 16 bits as 2^80 tries would 160."""
    alpha = alpha_with(0)
    forged = pooled(alpha)
    for folder in ("with", "without"):
        (tmp_path / folder).mkdir()
    with boa.reverts("ecvrf: U"):
        call(without(tmp_path / "with", U_ADDRESS, "<< 240\n    ) | ("), alpha, forged)
    unguarded = without(tmp_path / "without", U_ADDRESS + U_ON_CURVE, "<< 240\n    )")
    honest = call(unguarded, alpha, vrf_witness.prove(SECRET, alpha))
    assert call(unguarded, alpha, forged) != honest


def test_verify__missing_witness__reverts(
    verifier: Any, honest: tuple[bytes, OnChainProof]
) -> None:
    """H would then be at an x that is on no point."""
    alpha, proof = honest
    for roots in ((), proof.roots[:1], proof.roots[1:]):
        with pytest.raises(boa.BoaError, match=r"ecvrf: (U|counter not proved invalid)"):
            call(verifier, alpha, replace(proof, roots=roots))


def test_verify__h_at_an_earlier_valid_x_of_another_curve__reverts(verifier: Any) -> None:
    """Fewer roots than rejected counters, with points of the twist as witnesses."""
    alpha = alpha_with(1)
    proof = vrf_witness.prove(SECRET, alpha)
    off_curve = hash_at(alpha, 0)
    twisted = replace(proof, roots=(), sh_x=off_curve % P)
    with boa.reverts("ecvrf: U"):
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


def test_verify__alpha_word__only_27_bytes_count(
    verifier: Any, honest: tuple[bytes, OnChainProof]
) -> None:
    alpha, proof = honest
    key = int.from_bytes(PUBLIC[1:], "big"), PUBLIC[0]
    betas = {
        bytes(verifier.verify(*key, alpha + rest, *proof.as_arguments()))
        for rest in (bytes(5), b"\xff" * 5)
    }
    assert len(betas) == 1
    other = alpha[:-1] + bytes((alpha[-1] ^ 1,))
    with pytest.raises(boa.BoaError, match="ecvrf: "):
        verifier.verify(*key, word(other), *proof.as_arguments())


@pytest.mark.parametrize("prefix", [0, 1, 4, 27, 2**8 + 2, 2**255 + 2, 2**256 - 25])
def test_verify__prefix_other_than_2_or_3__reverts(
    verifier: Any, honest: tuple[bytes, OnChainProof], prefix: int
) -> None:
    alpha, proof = honest
    with pytest.raises(boa.BoaError, match="ecvrf: "):
        call(verifier, alpha, replace(proof, gamma_prefix=prefix))
    # another key prefix makes other counters, so none are given
    words = replace(proof, roots=()).as_arguments()
    with boa.reverts("ecvrf: U"):
        verifier.verify(int.from_bytes(PUBLIC[1:], "big"), prefix, word(alpha), *words)


@pytest.mark.parametrize("prefix", [1, 4, 27, 255])
def test_verify__gamma_prefix_hashed_as_it_is__reverts(verifier: Any, prefix: int) -> None:
    """Each prefix would give another beta, were it taken: the proof is made for it."""
    alpha = alpha_with(0)
    with boa.reverts("ecvrf: cGamma"):
        call(verifier, alpha, forge(alpha, "cGamma", prefix=prefix))


def test_verify__gamma_off_the_curve__reverts(verifier: Any) -> None:
    """At infinity, too: the only point of low order has no encoding, and x = 0 is on no point."""
    alpha = alpha_with(0)
    off = next(x for x in range(1, 99) if SECP256K1.decompress(2, x) is None)
    for x in (off, P, N, 2**256 - 1):
        with boa.reverts("ecvrf: cGamma"):
            call(verifier, alpha, forge(alpha, "cGamma", gamma_x=x))
    with boa.reverts("ecvrf: U"):
        call(verifier, alpha, replace(vrf_witness.prove(SECRET, alpha), gamma_x=0))


@pytest.mark.parametrize("check", ["U", "sH", "cGamma"])
def test_verify__gamma_not_secret_times_h__one_check_refuses_it(
    verifier: Any, tmp_path: Path, check: str
) -> None:
    """Gamma is the prover's choice, hence beta: each of the three addresses stands against it."""
    alpha = alpha_with(0)
    forged = forge(alpha, check)
    with boa.reverts(f"ecvrf: {check}"):
        call(verifier, alpha, forged)
    # what is shifted out of the word is always 0: the check is gone
    end = U_ADDRESS if check == "U" else f'<< 96 == 0, "ecvrf: {check}"'
    gone = without(tmp_path, end, end.replace("96", "256"))
    assert call(gone, alpha, forged) != call(gone, alpha, vrf_witness.prove(SECRET, alpha))


def test_verify__s_is_zero__reverts(verifier: Any, honest: tuple[bytes, OnChainProof]) -> None:
    alpha, proof = honest
    with boa.reverts("ecvrf: U"):
        call(verifier, alpha, replace(proof, s=0))


def test_verify__line_moved__reverts(verifier: Any, honest: tuple[bytes, OnChainProof]) -> None:
    """Another V is another challenge."""
    alpha, proof = honest
    for moved in ({"slope": (proof.slope + 1) % P}, {"offset": (proof.offset + 1) % P}):
        with boa.reverts("ecvrf: U"):
            call(verifier, alpha, replace(proof, **moved))


@pytest.mark.parametrize("slope", [0, 1, P - 1])
def test_verify__sh_is_minus_c_gamma__v_is_free_but_c_is_not(verifier: Any, slope: int) -> None:
    """With -sH = cGamma any line through that point passes, so V is the prover's choice. It would
    have to choose a V whose hash is the one c for which that holds: 128 bits."""
    alpha, c, log = alpha_with(0), 5, 7  # Gamma = log*H is false: the secret is not 7
    h, s, key = first_h(alpha), -c * log % N, ecvrf.decode_key(SECP256K1_TAI, PUBLIC)
    gamma, cg = known(SECP256K1.combine((log, h))), known(SECP256K1.combine((c * log, h)))
    u = known(SECP256K1.combine((s, SECP256K1.generator), (-c, key)))
    with boa.reverts("ecvrf: U"):
        call(verifier, alpha, with_line(gamma, s, slope, u, cg[0], cg))


def test_verify__other_alpha__reverts(verifier: Any) -> None:
    alpha = alpha_with(0)
    proof = vrf_witness.prove(SECRET, alpha)
    for number in range(1, 5):
        other = (int.from_bytes(alpha, "big") ^ number).to_bytes(27, "big")
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


def test_gas__usual_proofs_on_anvil__within_13_000(chain: Chain) -> None:
    """One counter in two is rejected: half of all proofs have no root (500 gas each)."""
    contract = chain.deploy("contracts/mocks/EcvrfMock.vy")
    gas = {}
    for rejected in (0, 1, 2):
        alpha = alpha_with(rejected)
        words = vrf_witness.prove(SECRET, alpha).as_arguments()
        x, prefix = int.from_bytes(PUBLIC[1:], "big"), PUBLIC[0]
        call = contract.functions.verify(x, prefix, word(alpha), *words)
        gas[rejected] = chain.execution_gas(call)
    assert gas[0] <= 13_000
    assert gas[1] <= 13_150
    assert gas[2] - gas[1] <= 500
