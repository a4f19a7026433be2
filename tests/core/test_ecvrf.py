"""ECVRF against RFC 9381 appendix B.1, and what it must refuse."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pytest

from nodeclient.core import ecvrf, vrf_witness
from nodeclient.core.curves import (
    P256,
    SECP256K1,
    Curve,
    compress,
    secret_multiple,
    secret_to_public,
)
from nodeclient.core.ecvrf import P256_TAI, SECP256K1_TAI, EcvrfError, Suite

SUITES = pytest.mark.parametrize("suite", [P256_TAI, SECP256K1_TAI], ids=["p256", "secp256k1"])
CURVES = pytest.mark.parametrize("curve", [P256, SECP256K1], ids=lambda curve: curve.name)
SECRET = hashlib.sha256(b"a node's VRF key").digest()
ALPHA = hashlib.sha256(b"alpha").digest()[:27]


@dataclass(frozen=True)
class Vector:
    """One example of RFC 9381 appendix B.1 (ECVRF-P256-SHA256-TAI)."""

    secret: str
    public: str
    alpha: bytes
    counter: int
    h: str
    proof: str
    beta: str


VECTORS = [
    Vector(
        secret="c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721",
        public="0360fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6",
        alpha=b"sample",
        counter=1,
        h="0272a877532e9ac193aff4401234266f59900a4a9e3fc3cfc6a4b7e467a15d06d4",
        proof="035b5c726e8c0e2c488a107c600578ee75cb702343c153cb1eb8dec77f4b5071b4"
        "a53f0a46f018bc2c56e58d383f2305e0"
        "975972c26feea0eb122fe7893c15af376b33edf7de17c6ea056d4d82de6bc02f",
        beta="a3ad7b0ef73d8fc6655053ea22f9bede8c743f08bbed3d38821f0e16474b505e",
    ),
    Vector(
        secret="c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721",
        public="0360fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6",
        alpha=b"test",
        counter=3,
        h="02173119b4fff5e6f8afed4868a29fe8920f1b54c2cf89cc7b301d0d473de6b974",
        proof="034dac60aba508ba0c01aa9be80377ebd7562c4a52d74722e0abae7dc3080ddb56"
        "c19e067b15a8a8174905b13617804534"
        "214f935b94c2287f797e393eb0816969d864f37625b443f30f1a5a33f2b3c854",
        beta="a284f94ceec2ff4b3794629da7cbafa49121972671b466cab4ce170aa365f26d",
    ),
    Vector(
        secret="2ca1411a41b17b24cc8c3b089cfd033f1920202a6c0de8abb97df1498d50d2c8",
        public="03596375e6ce57e0f20294fc46bdfcfd19a39f8161b58695b3ec5b3d16427c274d",
        alpha=b"Example using ECDSA key from Appendix L.4.2 of ANSI.X9-62-2005",
        counter=1,
        h="0258055c26c4b01d01c00fb57567955f7d39cd6f6e85fd37c58f696cc6b7aa761d",
        proof="03d03398bf53aa23831d7d1b2937e005fb0062cbefa06796579f2a1fc7e7b8c667"
        "d091c00b0f5c3619d10ecea44363b5a5"
        "99cadc5b2957e223fec62e81f7b4825fc799a771a3d7334b9186bdbee87316b1",
        beta="90871e06da5caa39a3c61578ebb844de8635e27ac0b13e829997d0d95dd98c19",
    ),
]


@pytest.mark.parametrize("vector", VECTORS, ids=["example10", "example11", "example12"])
class TestRfcVectors:
    def test_public_key__rfc_secret__matches(self, vector: Vector) -> None:
        assert ecvrf.public_key(P256_TAI, bytes.fromhex(vector.secret)).hex() == vector.public

    def test_encode_to_curve__rfc_alpha__gives_h_at_the_rfc_counter(self, vector: Vector) -> None:
        encoded = ecvrf.encode_to_curve(P256_TAI, bytes.fromhex(vector.public), vector.alpha)
        assert len(encoded.rejected) == vector.counter
        assert compress(encoded.point)[1:].hex() == vector.h[2:]

    def test_prove__rfc_secret__gives_the_rfc_proof(self, vector: Vector) -> None:
        proof = ecvrf.prove(P256_TAI, bytes.fromhex(vector.secret), vector.alpha)
        assert proof.hex() == vector.proof

    def test_verify__rfc_proof__gives_beta(self, vector: Vector) -> None:
        public, proof = bytes.fromhex(vector.public), bytes.fromhex(vector.proof)
        assert ecvrf.verify(P256_TAI, public, vector.alpha, proof).hex() == vector.beta

    def test_proof_to_hash__rfc_proof__gives_beta(self, vector: Vector) -> None:
        assert ecvrf.proof_to_hash(P256_TAI, bytes.fromhex(vector.proof)).hex() == vector.beta


@SUITES
class TestRoundTrip:
    def test_prove_verify__agree_on_beta(self, suite: Suite) -> None:
        public, proof = ecvrf.public_key(suite, SECRET), ecvrf.prove(suite, SECRET, ALPHA)
        assert ecvrf.verify(suite, public, ALPHA, proof) == ecvrf.proof_to_hash(suite, proof)

    def test_prove__twice__same_bytes(self, suite: Suite) -> None:
        assert ecvrf.prove(suite, SECRET, ALPHA) == ecvrf.prove(suite, SECRET, ALPHA)

    def test_verify__any_byte_changed__refused(self, suite: Suite) -> None:
        public, proof = ecvrf.public_key(suite, SECRET), ecvrf.prove(suite, SECRET, ALPHA)
        for index in range(len(proof)):
            changed = bytearray(proof)
            changed[index] ^= 1
            with pytest.raises(EcvrfError):
                ecvrf.verify(suite, public, ALPHA, bytes(changed))

    def test_verify__other_alpha__refused(self, suite: Suite) -> None:
        public, proof = ecvrf.public_key(suite, SECRET), ecvrf.prove(suite, SECRET, ALPHA)
        with pytest.raises(EcvrfError, match="does not hold"):
            ecvrf.verify(suite, public, ALPHA + b"\x00", proof)

    def test_verify__other_key__refused(self, suite: Suite) -> None:
        other = ecvrf.public_key(suite, hashlib.sha256(b"another key").digest())
        with pytest.raises(EcvrfError, match="does not hold"):
            ecvrf.verify(suite, other, ALPHA, ecvrf.prove(suite, SECRET, ALPHA))

    def test_verify__s_plus_order__refused(self, suite: Suite) -> None:
        """s = 2^256 - 1 is the only way to reach beyond the order for most proofs."""
        public, proof = ecvrf.public_key(suite, SECRET), ecvrf.prove(suite, SECRET, ALPHA)
        with pytest.raises(EcvrfError, match="s out of range"):
            ecvrf.verify(suite, public, ALPHA, proof[:49] + suite.curve.n.to_bytes(32, "big"))

    def test_decode_proof__wrong_length__refused(self, suite: Suite) -> None:
        proof = ecvrf.prove(suite, SECRET, ALPHA)
        for wrong in (b"", proof[:-1], proof + b"\x00"):
            with pytest.raises(EcvrfError, match="must be 81 bytes"):
                ecvrf.decode_proof(suite, wrong)

    def test_decode__x_not_below_the_prime__refused(self, suite: Suite) -> None:
        """x + p names the same residue: accepting it would give one point two encodings."""
        x = next(x for x in range(1, 99) if suite.curve.decompress(2, x))
        if x + suite.curve.p < 2**256:
            with pytest.raises(EcvrfError, match="key is no curve point"):
                ecvrf.decode_key(suite, b"\x02" + (x + suite.curve.p).to_bytes(32, "big"))

    def test_decode_key__off_the_curve_or_malformed__refused(self, suite: Suite) -> None:
        public = ecvrf.public_key(suite, SECRET)
        bad_x = next(x for x in range(1, 99) if suite.curve.decompress(2, x) is None)
        off_curve = b"\x02" + bad_x.to_bytes(32, "big")
        for wrong in (b"", public[1:], public + b"\x00", b"\x04" + public[1:], off_curve):
            with pytest.raises(EcvrfError, match="key is no curve point"):
                ecvrf.decode_key(suite, wrong)

    def test_prove__secret_out_of_range__refused(self, suite: Suite) -> None:
        order = suite.curve.n.to_bytes(32, "big")
        for wrong in (bytes(32), order, b"\xff" * 32, b"\x01", b""):
            with pytest.raises(EcvrfError, match="secret is no scalar"):
                ecvrf.prove(suite, wrong, ALPHA)


def test_suites__same_secret_and_alpha__different_outputs() -> None:
    """The octet separates the suites even where everything else is equal."""
    renamed = Suite(b"\x01", SECP256K1)
    assert ecvrf.prove(renamed, SECRET, ALPHA) != ecvrf.prove(SECP256K1_TAI, SECRET, ALPHA)


@CURVES
def test_secret_multiple__any_scalar__equals_public_arithmetic(curve: Curve) -> None:
    point = secret_to_public(curve, 0xABCDEF)
    drawn = [int.from_bytes(hashlib.sha256(bytes((i,))).digest(), "big") for i in range(6)]
    for scalar in [1, 2, 3, curve.n - 2, curve.n - 1, *(value % curve.n for value in drawn)]:
        assert secret_multiple(curve, scalar, point) == curve.combine((scalar, point))
        assert secret_to_public(curve, scalar) == curve.combine((scalar, curve.generator))


@CURVES
def test_combine__opposite_terms__infinity(curve: Curve) -> None:
    assert curve.combine((5, curve.generator), (-5, curve.generator)) is None
    assert curve.combine((curve.n, curve.generator)) is None
    assert curve.add(None, curve.generator) == curve.generator
    assert curve.is_on_curve(*curve.generator)
    assert not curve.is_on_curve(curve.generator[0], curve.generator[1] + 1)


class TestWitnesses:
    def test_build__proof__satisfies_every_relation(self) -> None:
        """The relations that the contract checks, here with plain curve arithmetic."""
        public = ecvrf.public_key(SECP256K1_TAI, SECRET)
        h = ecvrf.encode_to_curve(SECP256K1_TAI, public, ALPHA).point
        proof = vrf_witness.prove(SECRET, ALPHA)
        gamma = SECP256K1.decompress(proof.gamma_prefix, proof.gamma_x)
        assert gamma is not None
        key = ecvrf.decode_key(SECP256K1_TAI, public)
        u, p = (proof.u_x, SECP256K1.p - proof.u_y), SECP256K1.p

        def on_line(x: int) -> int:
            return (proof.slope * x + proof.offset) % p

        v_x = (proof.slope**2 - proof.sh_x - proof.cg_x) % p
        v = (v_x, on_line(v_x))
        c = ecvrf.challenge(SECP256K1_TAI, key, h, gamma, u, v)
        assert u == SECP256K1.combine((proof.s, SECP256K1.generator), (-c, key))
        assert v == SECP256K1.combine((proof.s, h), (-c, gamma))
        assert (proof.sh_x, on_line(proof.sh_x)) == SECP256K1.combine((-proof.s, h))
        assert (proof.cg_x, on_line(proof.cg_x)) == SECP256K1.combine((c, gamma))

    def test_build__rejected_counters__one_root_each(self) -> None:
        seen = set()
        for number in range(12):
            alpha = bytes((number,)) * 27
            public = ecvrf.public_key(SECP256K1_TAI, SECRET)
            rejected = ecvrf.encode_to_curve(SECP256K1_TAI, public, alpha).rejected
            roots = vrf_witness.prove(SECRET, alpha).roots
            assert len(roots) == len(rejected)
            for root, x in zip(roots, rejected, strict=True):
                assert (root**2 + x**3 + 7) % SECP256K1.p == 0
            seen.add(len(roots))
        assert len(seen) > 1  # both with and without rejected counters

    def test_non_residue_root__x_of_a_point__refused(self) -> None:
        with pytest.raises(EcvrfError, match="counter was valid"):
            vrf_witness.non_residue_root(SECP256K1.generator[0])

    def test_non_residue_root__x_not_below_the_prime__zero_word(self) -> None:
        for x in (SECP256K1.p, SECP256K1.p + SECP256K1.b, 2**256 - 1):
            assert vrf_witness.non_residue_root(x) == 0

    @pytest.mark.parametrize("length", [0, 26, 28, 32])
    def test_prove__alpha_of_another_length__refused(self, length: int) -> None:
        """The contract reads 27 bytes: a proof over others would only cost gas there."""
        with pytest.raises(EcvrfError, match="alpha needs 27 bytes"):
            vrf_witness.prove(SECRET, bytes(length))

    def test_build__malformed_key__refused(self) -> None:
        proof = ecvrf.prove(SECP256K1_TAI, SECRET, ALPHA)
        with pytest.raises(EcvrfError, match="key is no curve point"):
            vrf_witness.build(bytes(33), ALPHA, proof)

    def test_build__zero_challenge__has_no_on_chain_form(self) -> None:
        """c = 0 makes c*Gamma infinity, which no witness can state."""
        public = ecvrf.public_key(SECP256K1_TAI, SECRET)
        proof = ecvrf.prove(SECP256K1_TAI, SECRET, ALPHA)
        with pytest.raises(EcvrfError, match="no on-chain form"):
            vrf_witness.build(public, ALPHA, proof[:33] + bytes(16) + proof[49:])
