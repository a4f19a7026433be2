"""`modules/p256_signature.vy` by precompile (anvil osaka) and in software (py-evm: no 0x100)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import boa
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from web3.contract import Contract

from nodeclient.core.curves import P256, Point
from tests.contracts.anvil import ROOT, Chain

N, P = P256.n, P256.p
PRECOMPILE: Final = "0x0000000000000000000000000000000000000100"
KEY: Final = ec.derive_private_key(
    int.from_bytes(hashlib.sha256(b"root key").digest(), "big") % N, ec.SECP256R1()
)
X, Y = KEY.public_key().public_numbers().x, KEY.public_key().public_numbers().y
DIGEST: Final = hashlib.sha256(b"header").digest()
R, _S = decode_dss_signature(KEY.sign(DIGEST, ec.ECDSA(Prehashed(hashes.SHA256()))))
S: Final = min(_S, N - _S)

# A point with a y so small that y + P fits a word (found as a root of x^3 - 3x + b - 25).
SMALL_Y: Final = (0xD7325D7646CD60D80A92738CEB345F844CFFAF35841022CAB176F692DE8DE1D7, 5)

# What is no signature or no key, whatever was signed.
MALFORMED: Final = {
    "high_s": (DIGEST, R, N - S, X, Y),
    "zero_r": (DIGEST, 0, S, X, Y),
    "zero_s": (DIGEST, R, 0, X, Y),
    "order_as_r": (DIGEST, N, S, X, Y),
    "zero_key": (DIGEST, R, S, 0, 0),
    "off_curve": (DIGEST, R, S, X, Y ^ 1),
    "x_off_curve": (DIGEST, R, S, X ^ 1, Y),
    "y_not_reduced": (DIGEST, R, S, SMALL_Y[0], SMALL_Y[1] + P),
}

# What both paths must refuse: these and well-formed signatures of something else.
REFUSED: Final = MALFORMED | {
    "other_key": (DIGEST, R, S, X, P - Y),
    "other_digest": (bytes(32), R, S, X, Y),
    "other_r": (DIGEST, R ^ 1, S, X, Y),
    "other_s": (DIGEST, R, S ^ 1, X, Y),
}


@pytest.fixture(scope="module")
def software() -> Any:
    verifier = boa.load(str(ROOT / "contracts/P256Verifier.vy"))
    return boa.load(str(ROOT / "contracts/mocks/P256Mock.vy"), verifier.address)


@pytest.fixture(scope="module")
def verifier() -> Any:
    return boa.load(str(ROOT / "contracts/P256Verifier.vy"))


@pytest.fixture(scope="module")
def precompiled(chain: Chain) -> Contract:
    verifier = chain.deploy("contracts/P256Verifier.vy")
    return chain.deploy("contracts/mocks/P256Mock.vy", verifier.address)


@pytest.fixture
def answering() -> Iterator[Any]:
    """Installs code at 0x100 that answers one fixed word, for the length of a test."""
    with boa.env.anchor():

        def install(word: int, size: int) -> None:
            # PUSH1 word PUSH0 MSTORE PUSH1 size PUSH0 RETURN
            code = bytes((0x60, word, 0x5F, 0x52, 0x60, size, 0x5F, 0xF3))
            boa.env.set_code(boa.util.abi.Address(PRECOMPILE), code)

        yield install


def test_verify__valid_signature_in_software__true(software: Any) -> None:
    assert boa.env.get_code(PRECOMPILE) == b""
    assert software.verify(DIGEST, R, S, X, Y) is True


def test_verify__valid_signature_by_precompile__true_and_cheap(
    chain: Chain, precompiled: Contract
) -> None:
    call = precompiled.functions.verify(DIGEST, R, S, X, Y)
    assert call.call() is True
    assert chain.execution_gas(call) < 9_000  # software needs at least 375,000


@pytest.mark.parametrize("case", REFUSED)
def test_verify__refused_case__false_on_both_paths(
    software: Any, precompiled: Contract, case: str
) -> None:
    assert software.verify(*REFUSED[case]) is False
    assert precompiled.functions.verify(*REFUSED[case]).call() is False


def test_verify__high_s__is_refused_here_and_not_by_the_precompile(
    chain: Chain, precompiled: Contract
) -> None:
    """EIP-7951 takes both halves; the module must not."""
    words = b"".join(value.to_bytes(32, "big") for value in (R, N - S, X, Y))
    answer = chain.rpc("eth_call", [{"to": PRECOMPILE, "data": "0x" + (DIGEST + words).hex()}])
    assert int(answer, 16) == 1
    assert precompiled.functions.verify(DIGEST, R, N - S, X, Y).call() is False


def test_verify__empty_answer_to_a_bad_signature__is_not_taken_for_yes(
    software: Any,
) -> None:
    """Without the precompile the call to 0x100 succeeds with nothing: the software must decide."""
    assert software.verify(hashlib.sha256(b"never signed").digest(), R, S, X, Y) is False


def test_verify__answer_of_32_bytes__decides(software: Any, answering: Any) -> None:
    answering(word=0, size=32)
    assert software.verify(DIGEST, R, S, X, Y) is False
    answering(word=2, size=32)
    assert software.verify(DIGEST, R, S, X, Y) is False
    answering(word=1, size=32)
    assert software.verify(bytes(32), R, S, X, Y) is True


@pytest.mark.parametrize("case", MALFORMED)
def test_verifier__malformed_case__false_and_no_revert(verifier: Any, case: str) -> None:
    assert verifier.verify(DIGEST, R, S, X, Y) is True
    assert verifier.verify(*MALFORMED[case]) is False


@pytest.mark.parametrize("point", [(5, 1), (5, 2), (P - 3, 7)])
def test_verifier__key_off_the_curve_that_would_fit__false(
    verifier: Any, point: tuple[int, int]
) -> None:
    """With the digest 0 and r = s = x every point fits itself: only the curve refuses it."""
    x, y = point
    low = x % N if x % N <= N // 2 else N - x % N
    assert verifier.verify(bytes(32), x % N, low, x, y) is False


def test_verifier__digest_zero_on_the_curve__fits_itself(verifier: Any) -> None:
    """What the test above relies on."""
    x = next(x for x in range(5, 99) if P256.decompress(2, x) is not None)
    point = P256.decompress(2, x)
    assert point is not None
    assert verifier.verify(bytes(32), x, x, *point) is True


def fitting(s: int, key_times_s: Point) -> tuple[bytes, int, int, int, int]:
    """A true signature of the digest 0 with this s: any point is s/r times the key that fits it."""
    r = key_times_s[0] % N
    key = P256.combine((s * pow(r, -1, N) % N, key_times_s))
    assert key is not None
    return bytes(32), r, s, *key


@pytest.mark.parametrize(("s", "valid"), [(1, True), (N // 2, True), (N // 2 + 1, False)])
def test_verifier__s_from_one_to_half_the_order__is_read(
    verifier: Any, s: int, valid: bool
) -> None:
    assert verifier.verify(*fitting(s, (X, Y))) is valid


@pytest.mark.parametrize(("s", "valid"), [(1, True), (N // 2, True), (N // 2 + 1, False)])
def test_verify__s_from_one_to_half_the_order__is_asked_of_the_precompile(
    precompiled: Contract, s: int, valid: bool
) -> None:
    assert precompiled.functions.verify(*fitting(s, (X, Y))).call() is valid


def test_verifier__x_not_reduced__false(verifier: Any) -> None:
    """P is 0 for who computes with it, and a point with x = 0 there is."""
    root = P256.decompress(2, 0)
    assert root is not None
    double = P256.add(root, root)
    assert double is not None
    r = double[0] % N
    s = r * pow(2, -1, N) % N
    s, y = (s, root[1]) if s <= N // 2 else (N - s, P - root[1])
    assert verifier.verify(bytes(32), r, s, 0, y) is True
    assert verifier.verify(bytes(32), r, s, P, y) is False


def test_verify__high_s__false_even_if_the_precompile_says_yes(
    software: Any, answering: Any
) -> None:
    answering(word=1, size=32)
    assert software.verify(*MALFORMED["high_s"]) is False


def test_init__verifier_without_code__reverts() -> None:
    with boa.reverts("p256: verifier is not a contract"):
        boa.load(str(ROOT / "contracts/mocks/P256Mock.vy"), boa.env.generate_address())


def test_verify__precompile_that_reverts_with_a_word__software_decides(software: Any) -> None:
    with boa.env.anchor():
        code = bytes.fromhex("60015f5260205ffd")  # revert with the number 1
        boa.env.set_code(boa.util.abi.Address(PRECOMPILE), code)
        assert software.verify(bytes(32), R, S, X, Y) is False


def test_verify__answer_of_31_bytes__software_decides(software: Any, answering: Any) -> None:
    answering(word=1, size=31)
    assert software.verify(bytes(32), R, S, X, Y) is False
    assert software.verify(DIGEST, R, S, X, Y) is True


def test_verify__reverting_precompile__software_decides(software: Any) -> None:
    with boa.env.anchor():
        boa.env.set_code(boa.util.abi.Address(PRECOMPILE), bytes.fromhex("5f5ffd"))
        assert software.verify(DIGEST, R, S, X, Y) is True
        assert software.verify(bytes(32), R, S, X, Y) is False


@pytest.mark.parametrize(
    ("key", "good"),
    [
        ((X, Y), True),
        ((X, Y ^ 1), False),
        (SMALL_Y, True),
        ((SMALL_Y[0], SMALL_Y[1] + P), False),
    ],
    ids=["point", "off the curve", "small y", "y not reduced"],
)
def test_verifier__only_what_the_key_is_decides(
    verifier: Any, key: tuple[int, int], good: bool
) -> None:
    """For digest 0 and s = r (or -r) the equation holds whatever the key: R is the key itself."""
    r = key[0] % N
    assert verifier.verify(bytes(32), r, min(r, N - r), *key) is good
