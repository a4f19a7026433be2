"""The Zymkey's own ways: which device it is, its perimeter, its size limits, its faults."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.formats import p256
from agent.formats.hashes import keccak256, sha256
from nodeclient import finding
from nodeclient.config.root import ZymkeyRootConfig
from nodeclient.core.zymkey import STAND_IN, Binding, parse_zymkey
from nodeclient.finding import Finding
from nodeclient.roots.base import (
    BREACH_FILE,
    RootAbsent,
    RootError,
    RootLocked,
    RootTampered,
    UnsealError,
)
from nodeclient.roots.zymkey.link import ZymkeyLink
from nodeclient.roots.zymkey.root import PUBLIC_FILE, ZymkeyRoot
from scripts.standin.control import StandIn
from scripts.standin.keys import MODEL, MOST_LOCKED
from tests.roots.zymkey_kit import config_of, link_to

DIGEST = sha256(b"header")
BOTH = frozenset({0, 1})


Make = Callable[..., ZymkeyRoot]


@pytest.fixture
def make(device: StandIn, tmp_path: Path) -> Iterator[Make]:
    """Create a root in a new folder, or `load` the first one again."""
    with ExitStack() as stack:

        def make(
            perimeter: frozenset[int] = BOTH, *, load: bool = False, leaving: bool = False
        ) -> ZymkeyRoot:
            given = (tmp_path / "root", config_of(device, perimeter), link_to(device))
            made = ZymkeyRoot.load(*given, leaving=leaving) if load else ZymkeyRoot.create(*given)
            stack.callback(made.close)
            return made

        yield make


# ------------------------------------------------------------------------------- which device


def test_hardware_id__of_slot_0__is_the_hash_of_its_key(make: Make) -> None:
    root = make()
    assert root.hardware_id() == keccak256(root.public_key())


def test_load__another_device_in_its_place__refused_and_told_apart(
    make: Make, device: StandIn
) -> None:
    root = make()
    device.fault(other_key=True)
    with pytest.raises(RootError, match="another Zymkey"):
        make(load=True)
    health = root.health()
    assert (health.usable, health.tampered) == (False, False)
    assert "another Zymkey" in health.detail


def test_load__file_damaged_or_gone__refused(make: Make, tmp_path: Path) -> None:
    make().close()
    file = tmp_path / "root" / PUBLIC_FILE
    file.write_text("00" * 64)
    with pytest.raises(RootError, match="another Zymkey"):
        make(load=True)
    file.unlink()
    with pytest.raises(RootError, match=PUBLIC_FILE):
        make(load=True)


def test_create__default_library__is_not_there(tmp_path: Path) -> None:
    config = ZymkeyRootConfig(kind="zymkey")
    assert not config.library.exists(), "this computer has Zymbit's software"
    with pytest.raises(RootAbsent, match="install Zymbit's software"):
        ZymkeyRoot.create(tmp_path / "root", config)
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(("model", "simulated"), [(None, True), ("Zymkey 4i", False)])
def test_simulated__is_what_the_model_admits(
    make: Make, device: StandIn, model: str | None, simulated: bool
) -> None:
    device.fault(text=model)
    root = make()
    assert root.simulated is simulated
    assert ("simulated" in root.health().detail) is simulated


def test_endorsement__says_what_the_device_says(make: Make, device: StandIn) -> None:
    root = make(frozenset({1}))
    said = parse_zymkey(root.endorsement())
    assert (said.serial, said.model, said.firmware) == (device.serial, MODEL, "0.0-simulated")
    assert said.public_key == root.public_key()
    assert (said.binding, said.perimeter, said.simulated) == (Binding(False, False), (1,), True)
    assert MODEL.startswith(STAND_IN)


def test_endorsement__model_without_binding__says_nothing_of_it(
    make: Make, device: StandIn
) -> None:
    root = make()
    device.fault(fail={"binding": errno.ENOSYS})
    assert parse_zymkey(root.endorsement()).binding is None


@pytest.mark.parametrize("text", ["x" * 129, "two\nlines"])
def test_endorsement__texts_that_are_none__are_an_error(
    make: Make, device: StandIn, text: str
) -> None:
    root = make()
    device.fault(text=text)
    with pytest.raises(RootError, match="Zymbit's software"):
        root.endorsement()


# ---------------------------------------------------------------------------------- perimeter


def test_breach__once_seen__stays_until_its_operator_lifts_it(
    make: Make, device: StandIn, tmp_path: Path
) -> None:
    root = make()
    device.breach(0)
    assert root.health().tampered
    device.clear()
    with pytest.raises(RootTampered):
        root.sign(DIGEST)
    assert root.health().tampered
    for perimeter in (BOTH, frozenset()):  # nor does it help to watch no loop any more
        with pytest.raises(RootTampered, match="forget-breach"):
            make(perimeter, load=True)
    found = Finding(tmp_path / "root" / BREACH_FILE).lift()
    assert found is not None
    assert "channels [0]" in found.reason
    assert make(load=True).health().sound  # whoever cleared it answers for it


def test_breach__while_nobody_looked__is_remembered_at_the_next_start(
    make: Make, device: StandIn, tmp_path: Path
) -> None:
    make().close()
    device.breach(1)
    with pytest.raises(RootTampered):
        make(load=True)
    device.clear()
    with pytest.raises(RootTampered):
        make(load=True)
    assert (tmp_path / "root" / BREACH_FILE).stat().st_mode & 0o777 == 0o600


def test_breach__noted_by_another_process__ends_this_root_too(make: Make, device: StandIn) -> None:
    running, looking = make(), make(load=True)
    device.breach(1)
    assert looking.health().tampered
    device.clear()
    with pytest.raises(RootTampered):
        running.sign(DIGEST)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 4000, b"\xff", b"x" * 9_999, b'{"reason": "", "at": 1e999}']
)
def test_breach__file_damaged__stands(make: Make, tmp_path: Path, content: bytes) -> None:
    make().close()
    (tmp_path / "root" / BREACH_FILE).write_bytes(content)
    with pytest.raises(RootTampered):
        make(load=True)


def test_breach__full_disk__is_said_all_the_same(
    make: Make, device: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    root = make()
    monkeypatch.setattr(finding, "replace_file", full)
    device.breach(0)
    assert root.health().tampered
    assert "cannot be written down" in caplog.text


def test_breach__disk_full_only_for_a_while__is_remembered_all_the_same(
    make: Make, device: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    root = make()
    device.breach(0)
    with monkeypatch.context() as patched:
        patched.setattr(finding, "replace_file", full)
        assert root.health().tampered
    assert root.health().tampered
    root.close()
    device.clear()
    with pytest.raises(RootTampered):
        make(load=True)


def test_leaving__breached_root__unseals_and_does_nothing_else(make: Make, device: StandIn) -> None:
    root = make()
    sealed = root.seal(b"secret", "label")
    device.breach(0)
    leaving = make(load=True, leaving=True)
    assert leaving.health().tampered
    assert leaving.unseal(sealed, "label") == b"secret"
    for do in (
        lambda: leaving.sign(DIGEST),
        lambda: leaving.random(32),
        lambda: leaving.seal(b"more", "label"),
    ):
        with pytest.raises(RootTampered):
            do()


def test_leaving__root_that_is_opened_later__unseals_no_more(make: Make, device: StandIn) -> None:
    make().close()
    running = make(load=True, leaving=True)
    sealed = running.seal(b"secret", "label")
    device.breach(0)
    with pytest.raises(RootTampered):
        running.unseal(sealed, "label")


def test_breach__of_a_loop_that_is_not_wired__does_not_count(make: Make, device: StandIn) -> None:
    root = make(frozenset({0}))
    device.breach(1)
    assert root.health().sound
    root.sign(DIGEST)
    device.breach(0)
    with pytest.raises(RootTampered):
        root.sign(DIGEST)


def test_perimeter__no_loop_wired__is_said(make: Make, device: StandIn) -> None:
    assert "perimeter watched" in make().health().detail
    device.breach(0)
    open_case = make(frozenset(), load=True)
    assert open_case.health().sound
    assert "perimeter not watched" in open_case.health().detail
    assert parse_zymkey(open_case.endorsement()).perimeter == ()


def test_keys__destroyed_by_the_device__is_said(make: Make, device: StandIn) -> None:
    root = make(frozenset())
    device.fault(fail=dict.fromkeys(("sign", "lock", "unlock"), errno.ENOKEY))
    with pytest.raises(RootLocked, match="destroyed its keys"):
        root.sign(DIGEST)


def test_perimeter__model_without_one__says_what_to_set(make: Make, device: StandIn) -> None:
    device.fault(fail={"perimeter": errno.ENOSYS})
    with pytest.raises(RootError, match=r"\[root\] perimeter"):
        make()
    assert make(frozenset()).health().sound


def test_wired_channels__more_than_the_device_has__refused(make: Make, device: StandIn) -> None:
    root = make()
    root._perimeter.channels = frozenset({2})
    with pytest.raises(RootError, match=r"\[root\] perimeter"):
        root.sign(DIGEST)


# -------------------------------------------------------------------------------------- faults


def test_sign__high_s_of_the_device__is_given_in_its_one_spelling(
    make: Make, device: StandIn
) -> None:
    root = make()
    device.fault(high_s=True)
    for number in range(4):
        digest = sha256(bytes([number]))
        assert p256.verify(root.public_key(), digest, root.sign(digest))


def test_random__generator_that_is_stuck__refused(make: Make, device: StandIn) -> None:
    root = make()
    device.fault(stuck_random=True)
    for do in (lambda: root.random(32), lambda: root.seal(b"secret", "label")):
        with pytest.raises(RootError, match="repeat themselves"):
            do()
    assert not root.health().usable


def test_random__one_answer_twice__refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make()
    first = root.random(32)
    monkeypatch.setattr(root._link, "ask", lambda operation, data=b"": first)
    monkeypatch.setattr(root._perimeter, "check", lambda: None)
    with pytest.raises(RootError, match="repeat themselves"):
        root.random(32)


@pytest.mark.parametrize("operation", ["lock", "unlock"])
def test_seal__lock_or_unlock_fails__is_an_error(
    make: Make, device: StandIn, operation: str
) -> None:
    root = make()
    sealed = root.seal(b"secret", "label")
    device.fault(fail={operation: errno.ENOMEM})
    with pytest.raises(RootError, match="ENOMEM") as caught:
        root.seal(b"secret", "label") if operation == "lock" else root.unseal(sealed, "label")
    assert not isinstance(caught.value, UnsealError)  # the bytes may well be good
    device.heal()
    assert root.unseal(sealed, "label") == b"secret"


def test_unseal__device_that_unlocks_wrongly__refused(make: Make, device: StandIn) -> None:
    root = make()
    sealed = root.seal(b"secret", "label")
    device.fault(wrong_unlock=True)
    with pytest.raises(UnsealError):
        root.unseal(sealed, "label")


@pytest.mark.parametrize("operation", ["sign", "random", "lock", "unlock", "perimeter"])
def test_device__unplugged_in_the_middle__is_absent_and_works_again_when_back(
    make: Make, device: StandIn, operation: str
) -> None:
    root = make()
    sealed = root.seal(b"secret", "label")
    device.fault(unplug_at=operation)
    calls = {
        "sign": lambda: root.sign(DIGEST),
        "perimeter": lambda: root.sign(DIGEST),
        "random": lambda: root.seal(b"secret", "label"),
        "lock": lambda: root.seal(b"secret", "label"),
        "unlock": lambda: root.unseal(sealed, "label"),
    }
    with pytest.raises(RootAbsent):
        calls[operation]()
    assert not root.health().usable
    device.heal()
    assert root.unseal(sealed, "label") == b"secret"
    assert root.health().sound


def test_seal__much_more_than_the_device_locks__is_one_small_question(make: Make) -> None:
    root = make()
    plain = bytes(range(256)) * MOST_LOCKED
    sealed = root.seal(plain, "label")
    assert root.unseal(sealed, "label") == plain
    assert len(sealed) - len(plain) < 200


@pytest.mark.parametrize("size", [0, 4097])
def test_seal__locked_to_an_odd_size__refused(
    make: Make, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    root = make()
    real = root._link.ask
    monkeypatch.setattr(
        root._link, "ask", lambda what, data=b"": bytes(size) if what == b"L" else real(what, data)
    )
    with pytest.raises(RootError, match="odd size"):
        root.seal(b"secret", "label")


@pytest.mark.parametrize("size", [0, 1, 63, 65, 8192])
def test_create__key_that_is_no_point__refused(
    make: Make, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    real = ZymkeyLink.ask
    monkeypatch.setattr(
        ZymkeyLink,
        "ask",
        lambda link, what, data=b"": b"\x07" * size if what == b"K" else real(link, what, data),
    )
    with pytest.raises(RootError, match="slot 0 is no P-256 key"):
        make()
