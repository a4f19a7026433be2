"""One suite for every root of trust: what the port promises, and how each fault ends.

A root is added by its kit (`tests/roots/kits.py`); no test here knows which one it runs against.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.formats import cbor, p256
from agent.formats.hashes import sha256
from nodeclient.ports import Root
from nodeclient.roots.base import (
    BREACH_FILE,
    RootAbsent,
    RootBusy,
    RootError,
    RootLocked,
    RootTampered,
    UnsealError,
)
from tests.roots.kits import KITS, Bench, Fault, Kit

DIGEST = sha256(b"header")
LABEL = "node-keys"
SECRET = b"canary: thirty-two secret bytes."
LARGE = 200_000  # bytes; more than any device takes at once
ERRORS = {
    Fault.ABSENT: RootAbsent,
    Fault.BUSY: RootBusy,
    Fault.LOCKED: RootLocked,
    Fault.TAMPERED: RootTampered,
}


def faulty(*faults: Fault) -> pytest.MarkDecorator:
    """Runs a test for every kit whose device can have the fault."""
    rows = [(name, fault) for name in sorted(KITS) for fault in faults
            if fault in KITS[name]().faults]  # fmt: skip
    return pytest.mark.parametrize(("kit", "fault"), rows, indirect=["kit"])


@pytest.fixture(params=sorted(KITS))
def kit(request: pytest.FixtureRequest) -> Kit:
    return KITS[request.param]()


@pytest.fixture
def bench(kit: Kit, tmp_path: Path) -> Iterator[Bench]:
    with kit.bench(tmp_path) as bench:
        yield bench


@pytest.fixture
def root(bench: Bench) -> Iterator[Root]:
    root = bench.create()
    yield root
    bench.heal()
    root.close()


CALLS = {
    "sign": lambda root: root.sign(DIGEST),
    "random": lambda root: root.random(32),
    "seal": lambda root: root.seal(SECRET, LABEL),
    "unseal": lambda root: root.unseal(SEALED[id(root)], LABEL),
}
SEALED: dict[int, bytes] = {}  # by root: what `unseal` is given


# ------------------------------------------------------------------------------- what is promised


def test_create__class_and_keys__are_what_the_registry_takes(kit: Kit, root: Root) -> None:
    assert (root.class_id, root.simulated) == (kit.root_class, kit.simulated)
    assert len(root.public_key()) == 64
    assert len(root.hardware_id()) == 32


def test_load__after_create__is_the_same_root(bench: Bench, root: Root) -> None:
    sealed, public, hardware = root.seal(SECRET, LABEL), root.public_key(), root.hardware_id()
    root.close()
    again = bench.load()
    assert (again.public_key(), again.hardware_id()) == (public, hardware)
    assert again.unseal(sealed, LABEL) == SECRET
    assert p256.verify(public, DIGEST, again.sign(DIGEST))
    again.close()


def test_create__where_a_root_is__replaces_nothing(bench: Bench, root: Root) -> None:
    before = contents(bench.files)
    with pytest.raises(RootError, match="exists"):
        bench.create()
    assert contents(bench.files) == before
    assert p256.verify(root.public_key(), DIGEST, root.sign(DIGEST))


def test_sign__many_digests__all_verify_with_low_s(root: Root) -> None:
    digests = [sha256(bytes([number])) for number in range(24)]
    signatures = [root.sign(digest) for digest in digests]
    # `verify` refuses s in the upper half, which half of all raw signatures have
    assert all(map(p256.verify, [root.public_key()] * 24, digests, signatures))
    assert len(set(signatures)) == 24


@pytest.mark.parametrize("size", [0, 31, 33])
def test_sign__what_is_no_digest__refused(root: Root, size: int) -> None:
    with pytest.raises(Exception, match="32 bytes"):
        root.sign(bytes(size))


@pytest.mark.parametrize("size", [0, 1, 32, 1000])
def test_random__any_size__is_that_long_and_fresh(root: Root, size: int) -> None:
    first, second = root.random(size), root.random(size)
    assert (len(first), len(second)) == (size, size)
    assert size < 32 or first != second
    assert size < 32 or len(set(first)) > 8


@pytest.mark.parametrize("plain", [b"", b"x", SECRET, bytes(LARGE)], ids=len)
def test_unseal__what_was_sealed__comes_back(root: Root, plain: bytes) -> None:
    assert root.unseal(root.seal(plain, LABEL), LABEL) == plain


def test_seal__twice__differs_and_hides_the_content(root: Root) -> None:
    first, second = root.seal(SECRET, LABEL), root.seal(SECRET, LABEL)
    assert first != second
    assert SECRET not in first + second


@pytest.mark.parametrize("label", ["node-key", "node-keys ", "", "NODE-KEYS"])
def test_unseal__under_another_label__refused(root: Root, label: str) -> None:
    sealed = root.seal(SECRET, LABEL)
    with pytest.raises(UnsealError):
        root.unseal(sealed, label)


def test_unseal__any_byte_changed__refused(root: Root) -> None:
    sealed = root.seal(SECRET, LABEL)
    for at in sorted({*range(0, len(sealed), max(1, len(sealed) // 40)), len(sealed) - 1}):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(UnsealError):
            root.unseal(changed, LABEL)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 40, -20, -1])
def test_unseal__cut_short_or_longer__refused(root: Root, size: int) -> None:
    sealed = root.seal(SECRET, LABEL)
    with pytest.raises(UnsealError):
        root.unseal(sealed[:size], LABEL)
    with pytest.raises(UnsealError):
        root.unseal(sealed + b"x", LABEL)


def test_unseal__sealed_by_another_device__refused(bench: Bench, root: Root) -> None:
    stranger = bench.stranger()
    assert stranger.hardware_id() != root.hardware_id()
    assert stranger.public_key() != root.public_key()
    with pytest.raises(UnsealError):
        stranger.unseal(root.seal(SECRET, LABEL), LABEL)
    stranger.close()


def test_health__idle__sound(root: Root) -> None:
    health = root.health()
    assert health.sound
    assert health.detail
    assert "\n" not in health.detail


def test_endorsement__encoding__is_deterministic_cbor(root: Root) -> None:
    said = root.endorsement()
    assert said == root.endorsement()
    assert cbor.encode(cbor.decode(said, 64 << 10)) == said


@pytest.mark.parametrize("call", sorted(CALLS))
def test_close__root__answers_no_more(root: Root, call: str) -> None:
    SEALED[id(root)] = root.seal(SECRET, LABEL)
    root.close()
    root.close()
    with pytest.raises(RootError):
        CALLS[call](root)


def test_files__of_a_root__are_private(bench: Bench, root: Root) -> None:
    assert bench.files.stat().st_mode & 0o777 == 0o700
    files = [path for path in bench.files.rglob("*") if path.is_file()]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)


def test_threads__many_at_once__are_served_one_by_one(root: Root) -> None:
    sealed = root.seal(SECRET, LABEL)
    with ThreadPoolExecutor(4) as pool:
        signed = list(pool.map(root.sign, [DIGEST] * 8))
        opened = list(pool.map(lambda _: root.unseal(sealed, LABEL), range(8)))
    assert all(p256.verify(root.public_key(), DIGEST, each) for each in signed)
    assert opened == [SECRET] * 8


# ----------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("call", sorted(CALLS))
@faulty(*ERRORS)
def test_fault__while_open__is_a_clear_error_and_no_key_is_shown(
    root: Root, bench: Bench, fault: Fault, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    SEALED[id(root)] = root.seal(SECRET, LABEL)
    bench.inject(fault)
    with pytest.raises(ERRORS[fault]) as caught:
        CALLS[call](root)
    assert caught.value.next_step in str(caught.value)
    for secret in (SECRET, SECRET.hex().encode()):
        assert secret not in (str(caught.value) + caplog.text).encode()


@faulty(*ERRORS)
def test_fault__while_open__shows_in_the_health(root: Root, bench: Bench, fault: Fault) -> None:
    bench.inject(fault)
    health = root.health()
    assert not health.sound
    assert health.tampered == (fault is Fault.TAMPERED)
    assert health.detail
    assert "\n" not in health.detail


@faulty(Fault.ABSENT, Fault.BUSY)
def test_fault__that_goes_away__leaves_a_root_that_works(
    root: Root, bench: Bench, fault: Fault
) -> None:
    sealed = root.seal(SECRET, LABEL)
    bench.inject(fault)
    with pytest.raises(RootError):
        root.sign(DIGEST)
    bench.heal()
    assert p256.verify(root.public_key(), DIGEST, root.sign(DIGEST))
    assert root.unseal(sealed, LABEL) == SECRET
    assert root.health().sound


@faulty(*ERRORS)
def test_create__with_a_fault__leaves_nothing_behind(bench: Bench, fault: Fault) -> None:
    bench.inject(fault)
    with pytest.raises(ERRORS[fault]):
        bench.create()
    assert contents(bench.files) == {}
    bench.heal()
    bench.create().close()


@faulty(*ERRORS)
def test_load__with_a_fault__is_a_clear_error(root: Root, bench: Bench, fault: Fault) -> None:
    root.close()
    before = contents(bench.files)
    bench.inject(fault)
    with pytest.raises(ERRORS[fault]):
        bench.load()
    after = contents(bench.files)
    breach = {BREACH_FILE} if fault is Fault.TAMPERED else set()
    assert after.keys() - before.keys() == breach
    assert before.items() <= after.items()


@faulty(Fault.WRONG_SIGNATURE)
def test_sign__device_that_signs_wrongly__nothing_is_given_away(
    root: Root, bench: Bench, fault: Fault
) -> None:
    bench.inject(fault)
    with pytest.raises(RootError, match="does not verify"):
        root.sign(DIGEST)


@faulty(Fault.WRONG_STATE)
def test_unseal__after_another_state_was_measured__refused(
    root: Root, bench: Bench, fault: Fault
) -> None:
    sealed = root.seal(SECRET, LABEL)
    bench.inject(fault)
    with pytest.raises(UnsealError, match="PCR"):
        root.unseal(sealed, LABEL)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and what it holds."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
