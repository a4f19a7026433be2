"""The TPM root's own ways: what passes on the bus, whose chip it is, lockout, PCRs, activation."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tpm2_pytss import ESAPI, TSS2_Exception
from tpm2_pytss.constants import ESYS_TR, TPM2_RC, TPM2_SE, TPMA_OBJECT
from tpm2_pytss.types import TPM2B_SENSITIVE_CREATE, TPMS_SENSITIVE_CREATE

from agent.formats import p256
from agent.formats.endorsement import Endorsement
from agent.formats.hashes import keccak256, sha256
from nodeclient.attestation import activation
from nodeclient.attestation.makers import load_certificates
from nodeclient.core.admission import Motion, MotionKind
from nodeclient.core.hardware import Chip, HardwareFault, check_tpm, makers_of
from nodeclient.core.tpm.endorsement import EndorsementError
from nodeclient.core.tpm.public import parse_attestation_key, parse_root_key
from nodeclient.core.tpm.reader import TpmError
from nodeclient.core.types import Address, NodeRecord, NodeStatus, RootClass
from nodeclient.roots.base import RootBusy, RootError, RootLocked, UnsealError
from nodeclient.roots.tpm2 import device, objects
from nodeclient.roots.tpm2 import root as tpm2
from nodeclient.roots.tpm2.objects import KEY_FILE, KeyFile
from nodeclient.roots.tpm2.root import Tpm2Root, lower
from nodeclient.roots.tpm2.sealed import Sealed
from tests.roots.relay import Relay
from tests.roots.tpm2_kit import Tpm2Bench, manufactured

SECRET = b"canary: thirty-two secret bytes."
DIGEST = sha256(b"header")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Tpm2Bench]:
    with ExitStack() as stack:
        yield Tpm2Bench(tmp_path, stack, frozenset())


@pytest.fixture
def root(bench: Tpm2Bench) -> Iterator[Tpm2Root]:
    with closing(bench.create()) as root:
        yield root


class closing(ExitStack):
    def __init__(self, root: Any) -> None:
        super().__init__()
        self._root = root
        self.callback(root.close)

    def __enter__(self) -> Any:
        super().__enter__()
        return self._root


# ------------------------------------------------------------------------------------- whose chip


def judged(
    root: Tpm2Root,
    makers: Sequence[bytes],
    believed: Sequence[bytes] | None = None,
    point: bytes | None = None,
) -> Chip:
    """As a committee member judges the root of a candidate that names its topmost maker."""
    endorsement = root.endorsement()
    record = NodeRecord(
        id=1,
        address=Address(bytes(20)),
        status=NodeStatus.PENDING,
        root_class=RootClass.TPM2,
        root_public=root.public_key() if point is None else point,
        vrf_public=bytes(33),
        hardware_id=root.hardware_id(),
        attestation_key=bytes(32),
        contact_digest=bytes(32),
        deposit=0,
        tier=0,
        engaged=False,
        fixed_at=1,
    )
    maker = makers_of(Endorsement.decode(endorsement).certificates, makers)[0]
    motion = Motion(
        id=1,
        kind=MotionKind.ADMIT,
        proposer=record.address,
        number=record.id,
        subject=record.hardware_id,
        maker=maker,
        evidence=keccak256(endorsement),
        round=1,
    )
    return check_tpm(motion, record, endorsement, makers if believed is None else believed)


def test_key__born_in_the_tpm__cannot_leave_it(root: Tpm2Root) -> None:
    key = parse_root_key(Endorsement.decode(root.endorsement()).ak)
    assert key.point == root.public_key()
    # A quoting key is another kind: it must not pass for a root, nor a root for it.
    with pytest.raises(TpmError):
        parse_attestation_key(Endorsement.decode(root.endorsement()).ak)


def test_endorsement__certified_by_the_maker__and_activated_by_this_chip_alone(
    bench: Tpm2Bench, root: Tpm2Root
) -> None:
    said = Endorsement.decode(root.endorsement())
    makers = [der for path in bench.chip.certificates for der in load_certificates(path)]
    chip = judged(root, makers)
    assert root.hardware_id() == keccak256(said.ek)
    question = activation.new_activation(chip.ek, chip.key)
    assert question.is_answered_by(root.activate(question.challenge))
    with pytest.raises(EndorsementError, match="maker"):
        judged(root, makers, believed=())
    with pytest.raises(HardwareFault, match="root key"):
        judged(root, makers, point=bytes(64))


def test_activate__each_member_of_a_committee_asks__endorsement_key_is_derived_once(
    bench: Tpm2Bench, root: Tpm2Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    derived: list[Any] = []
    create = ESAPI.create_primary

    def noted(esys: ESAPI, secret: Any, template: Any, hierarchy: Any) -> Any:
        derived.append(hierarchy)
        return create(esys, secret, template, hierarchy)

    monkeypatch.setattr(ESAPI, "create_primary", noted)
    makers = [der for path in bench.chip.certificates for der in load_certificates(path)]
    chip = judged(root, makers)
    ours = chip.ek, chip.key
    for _ in range(2):
        question = activation.new_activation(*ours)
        assert question.is_answered_by(root.activate(question.challenge))
    bench.chip.stop()  # contexts of the time before are stale then
    bench.chip.start()
    question = activation.new_activation(*ours)
    assert question.is_answered_by(root.activate(question.challenge))
    assert derived.count(ESYS_TR.ENDORSEMENT) == 2


def test_activate__for_another_key_or_another_chip__refused(
    bench: Tpm2Bench, root: Tpm2Root
) -> None:
    stranger = bench.stranger()
    makers = [der for path in bench.chip.certificates for der in load_certificates(path)]
    ours = judged(root, makers)
    theirs = parse_root_key(Endorsement.decode(stranger.endorsement()).ak)
    question = activation.new_activation(ours.ek, theirs)  # our EK, but a key that is not in it
    with closing(stranger):
        for asked in (root, stranger):
            with pytest.raises(RootError, match="challenge"):
                asked.activate(question.challenge)
            assert p256.verify(asked.public_key(), DIGEST, asked.sign(DIGEST))


def test_load__files_in_another_chip__refused(bench: Tpm2Bench, root: Tpm2Root) -> None:
    root.close()
    other = bench.power_up("other", 1)
    with pytest.raises(RootError, match="another TPM"):
        Tpm2Root.load(bench.files, bench.config_of(other))


def test_load__altered_key_file__refused(bench: Tpm2Bench, root: Tpm2Root) -> None:
    root.close()
    file = KeyFile.load(bench.files / KEY_FILE)
    for private in (file.private[:-1] + bytes([file.private[-1] ^ 1]), b"\0\0", b"\0\1"):
        (bench.files / KEY_FILE).write_bytes(KeyFile(file.parent, file.public, private).encode())
        with pytest.raises(RootError, match="restore"):
            bench.load()


# --------------------------------------------------------------------------------------- the bus


def test_bus__seal_unseal_random__shows_no_secret(bench: Tpm2Bench, tmp_path: Path) -> None:
    with Relay(bench.chip, tmp_path / "r") as relay:
        config = bench.config.model_copy(update={"tcti": relay.tcti})
        with closing(Tpm2Root.create(bench.files, config)) as root:
            keys: list[bytes] = []
            sealed = seen(root, keys)
            assert root.unseal(sealed, "label") == SECRET
            drawn = root.random(32)
    assert len(keys) == 1
    assert len(relay.passed) > 2000
    for secret in (SECRET, keys[0], drawn):
        assert secret not in relay.passed


def test_bus__an_answer_is_altered__refused(bench: Tpm2Bench, tmp_path: Path) -> None:
    with Relay(bench.chip, tmp_path / "r") as relay:
        config = bench.config.model_copy(update={"tcti": relay.tcti})
        with closing(Tpm2Root.create(bench.files, config)) as root:
            sealed = root.seal(SECRET, "label")
            for command in (0x15E, 0x17B):  # TPM2_Unseal, TPM2_GetRandom
                relay.spoil = command
                with pytest.raises(RootError):
                    root.unseal(sealed, "label") if command == 0x15E else root.random(32)
                assert relay.spoiled == command
            relay.spoil = 0
            assert root.unseal(sealed, "label") == SECRET


def seen(root: Tpm2Root, keys: list[bytes]) -> bytes:
    """Seal, and note the data key that was made for it."""
    made = tpm2.ChaCha20Poly1305.generate_key

    def noted() -> bytes:
        keys.append(made())
        return keys[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tpm2, "ChaCha20Poly1305", SimpleNamespace(generate_key=noted))
        return root.seal(SECRET, "label")


# -------------------------------------------------------------------------------------- lockout


def lock_out(chip_tcti: str) -> None:
    """Guess at a password until the TPM refuses all that can be guessed."""
    with ESAPI(chip_tcti) as esys:
        esys.dictionary_attack_parameters(1, 1000, 1000)
        parent = esys.create_primary(None, objects.storage_key(), ESYS_TR.OWNER)[0]
        template = objects.sealed_object(b"")
        template.publicArea.objectAttributes &= ~TPMA_OBJECT.NODA
        sensitive = TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(userAuth=b"pw", data=b"x"))
        private, public, *_ = esys.create(parent, sensitive, template)
        guessed = esys.load(parent, private, public)
        esys.tr_set_auth(guessed, b"guess")
        for _ in range(3):
            with pytest.raises(TSS2_Exception):
                esys.unseal(guessed)
        esys.flush_context(guessed)
        esys.flush_context(parent)


def test_lockout__of_the_tpm__leaves_the_nodes_keys_usable_and_is_told(
    bench: Tpm2Bench, root: Tpm2Root
) -> None:
    sealed = root.seal(SECRET, "label")
    assert "lockout" not in root.health().detail
    lock_out(bench.chip.tcti)
    assert "lockout" in root.health().detail
    assert p256.verify(root.public_key(), DIGEST, root.sign(DIGEST))
    assert root.unseal(sealed, "label") == SECRET
    root.close()
    with closing(bench.load()) as again:
        assert again.unseal(sealed, "label") == SECRET


def test_lockout__object_that_is_subject_to_it__is_a_clear_error(
    bench: Tpm2Bench, root: Tpm2Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = objects.sealed_object

    def subject(policy: bytes) -> Any:
        template = honest(policy)
        template.publicArea.objectAttributes &= ~TPMA_OBJECT.NODA
        return template

    monkeypatch.setattr(objects, "sealed_object", subject)
    sealed = root.seal(SECRET, "label")
    lock_out(bench.chip.tcti)
    with pytest.raises(RootLocked, match="lockout"):
        root.unseal(sealed, "label")


# ------------------------------------------------------------------------------- PCRs, room, busy


def test_pcrs__chosen_later__lock_nobody_out_of_what_was_sealed_before(
    bench: Tpm2Bench, root: Tpm2Root
) -> None:
    sealed = root.seal(SECRET, "label")
    root.close()
    bench._pcrs = frozenset({16})
    with closing(bench.load()) as bound:
        assert bound.unseal(sealed, "label") == SECRET
        again = bound.seal(SECRET, "label")
        bench.measure(b"another kernel")
        assert bound.unseal(sealed, "label") == SECRET
        with pytest.raises(UnsealError, match="PCRs 16"):
            bound.unseal(again, "label")


def test_pcrs__taken_out_of_the_sealed_bytes__opens_nothing(tmp_path: Path) -> None:
    with ExitStack() as stack:
        bench = Tpm2Bench(tmp_path, stack, frozenset({16}))
        with closing(bench.create()) as root:
            made = Sealed.decode(root.seal(SECRET, "label"))
            bench.measure(b"another kernel")
            for pcrs in (frozenset[int](), frozenset({7}), frozenset({7, 16})):
                freed = Sealed(pcrs, made.public, made.private, made.ciphertext)
                with pytest.raises(UnsealError):
                    root.unseal(freed.encode(), "label")


def test_room__left_by_a_killed_process__is_made(bench: Tpm2Bench, root: Tpm2Root) -> None:
    with ESAPI(bench.chip.tcti) as esys:
        for _ in range(3):
            esys.create_primary(None, objects.storage_key(), ESYS_TR.OWNER)
        for _ in range(3):
            esys.start_auth_session(
                ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.HMAC, objects.session_cipher(), 0xB
            )
    assert p256.verify(root.public_key(), DIGEST, root.sign(DIGEST))
    assert root.unseal(root.seal(SECRET, "label"), "label") == SECRET


@pytest.mark.parametrize(("linger", "connections"), [(3600.0, 1), (0.0, 6)])
def test_turns__one_after_the_other__share_a_connection_for_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linger: float, connections: int
) -> None:
    """Sessions are used again as well, those for PCRs, too: each opens what it should."""
    monkeypatch.setattr(device, "LINGER", linger)
    with ExitStack() as stack:
        bench, made = Tpm2Bench(tmp_path, stack, frozenset({16})), []
        plain = bench.connect
        monkeypatch.setattr(bench, "connect", lambda: made.append(1) or plain())
        with closing(bench.create()) as root:
            made[1:] = []
            first, second = root.seal(SECRET, "label"), root.seal(b"other", "label")
            assert root.unseal(first, "label") == SECRET
            assert root.unseal(second, "label") == b"other"
            assert p256.verify(root.public_key(), DIGEST, root.sign(DIGEST))
            if linger:
                assert len(made) == connections
            else:
                assert 1 < len(made) <= connections  # a call may come before the thread looks
        root._device._patience._thread.join()
        with ESAPI(bench.chip.tcti) as others:
            assert len(bytes(others.get_random(8))) == 8


class Hesitant(ESAPI):
    """Says RETRY so many times before it signs."""

    left = 0

    def sign(self, *args: Any, **named: Any) -> Any:
        if Hesitant.left:
            Hesitant.left -= 1
            raise TSS2_Exception(TPM2_RC.RETRY)
        return super().sign(*args, **named)


@pytest.mark.parametrize("times", [3, 10**9])
def test_busy__for_a_moment_or_for_good__is_waited_for_so_long(
    bench: Tpm2Bench, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr(bench, "connect", lambda: Hesitant(bench.chip.tcti))
    monkeypatch.setattr(Hesitant, "left", times)
    with closing(bench.create()) as root:
        if times == 3:
            assert p256.verify(root.public_key(), DIGEST, root.sign(DIGEST))
        else:
            with pytest.raises(RootBusy):
                root.sign(DIGEST)


def test_random__generator_that_repeats_itself__refused(
    bench: Tpm2Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(ESAPI):
        def get_random(self, *args: Any, **named: Any) -> bytes:
            return bytes(32)

    monkeypatch.setattr(bench, "connect", lambda: Stuck(bench.chip.tcti))
    with closing(bench.create()) as root, pytest.raises(RootError, match="repeat"):
        root.random(64)


# ---------------------------------------------------------------------------------------- small


@pytest.mark.parametrize("s", [1, p256.ORDER // 2, p256.ORDER // 2 + 1, p256.ORDER - 1])
def test_lower__any_s__is_in_the_lower_half(s: int) -> None:
    low = int.from_bytes(lower(bytes(32) + s.to_bytes(32, "big"))[32:], "big")
    assert low in (s, p256.ORDER - s)
    assert low <= p256.ORDER // 2


def test_lower__no_scalar__stays_as_it_is() -> None:
    signature = os.urandom(32) + b"\xff" * 32
    assert lower(signature) == signature


def test_manufactured__numbers__are_other_chips() -> None:
    assert manufactured(0) != manufactured(1)
