"""The stand-in's library under the real binding: every name is there, and nothing is pretended."""

from __future__ import annotations

import ast
import ctypes
import errno
import importlib.util
import inspect
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.standin.control import StandIn
from tests.roots.zymkey_kit import library

MANDATORY, OPTIONAL = 32, 44
# In the binding's own process, as a person would use it; `zk` is its client, `failure` a code.
PRELUDE = """
import errno, hashlib, os, re, sys
sys.path.insert(0, sys.argv[2])
from nodeclient.roots.zymkey.worker import Digest, open_client
zk = open_client(sys.argv[1])
import zymkey
from zymkey.exceptions import VerificationError, ZymkeyTimeoutError
def failure(do, *args):
    try:
        done = do(*args)
    except AssertionError as error:
        return int(re.fullmatch(r"bad return code (-\\d+)", str(error))[1])
    raise SystemExit(f"{do.__name__} answered {done!r}")
"""


@pytest.fixture
def run(device: StandIn, tmp_path: Path) -> Callable[[str], None]:
    """Run lines with the real binding on the stand-in; every assert in them must hold."""

    def run(lines: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(lines), str(device.library),
             str(Path(__file__).resolve().parents[2])],
            capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")

    return run


def names() -> tuple[set[str], set[str]]:
    """What the installed binding asks of its library: always, and in its one optional block."""
    found = importlib.util.find_spec("zymkey")
    assert found is not None
    assert found.origin is not None
    tree = ast.parse(Path(found.origin).read_text())
    (client,) = (
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Zymkey"
    )

    def asked(nodes: list[ast.stmt]) -> set[str]:
        return {
            each.attr
            for node in nodes
            for each in ast.walk(node)
            if isinstance(each, ast.Attribute)
            and isinstance(each.value, ast.Name)
            and each.value.id == "zkalib"
        }

    blocks = [node for node in client.body if isinstance(node, ast.Try)]
    rest = [node for node in client.body if not isinstance(node, ast.Try | ast.FunctionDef)]
    return asked(rest), asked(blocks)


def test_names__all_of_the_binding__are_in_the_library() -> None:
    always, block = names()
    assert (len(always), len(block)) == (MANDATORY, OPTIONAL)
    loaded = ctypes.CDLL(str(library()))
    assert [name for name in sorted(always | block) if not hasattr(loaded, name)] == []


def test_import__real_binding__takes_the_whole_optional_block(run: Callable[[str], None]) -> None:
    # The last of the block is bound only if every one before it was found
    run("assert zymkey.Zymkey._zkGetSupervisedBootFileManifest is not None")


def test_binding__random__is_fresh_also_into_a_file(run: Callable[[str], None]) -> None:
    run("""
        first, second = zk.get_random(48), zk.get_random(48)
        assert len(first) == 48 and first != second
        zk.create_random_file("random", 100)
        assert os.path.getsize("random") == 100
        assert failure(zk.get_random, 0) == -errno.EINVAL
    """)


def test_binding__lock__opens_here_only_and_every_change_is_seen(
    run: Callable[[str], None],
) -> None:
    run("""
        locked = zk.lock(b"plain")
        assert b"plain" not in locked and zk.unlock(locked) == b"plain"
        assert zk.lock(b"plain") != locked
        for changed in (bytes([locked[0] ^ 1]) + locked[1:], locked[:-1], locked + b"x", b"x"):
            assert zk.unlock(changed, raise_exception=False) is None
            try:
                zk.unlock(changed)
                raise SystemExit("opened")
            except VerificationError:
                pass
        shared = zk.lock(b"plain", encryption_key="cloud")
        assert zk.unlock(shared, raise_exception=False) is None
        assert zk.unlock(shared, encryption_key="cloud") == b"plain"
        assert failure(zk.lock, bytes(5000)) == -errno.EMSGSIZE
        assert failure(zk.lock, bytes(70000)) == -errno.EMSGSIZE
    """)


def test_binding__lock_files__are_whole_or_not_there(run: Callable[[str], None]) -> None:
    run("""
        open("plain", "wb").write(b"content")
        zk.lock("plain", "locked")
        zk.unlock("locked", "again")
        assert open("again", "rb").read() == b"content"
        assert zk.unlock("locked") == b"content"
        assert zk.unlock(zk.lock("plain")) == b"content"
        zk.lock(b"other", "locked"); zk.unlock(open("locked", "rb").read(), "again")
        assert open("again", "rb").read() == b"other"
        open("forged", "wb").write(b"x" * 50)
        assert failure(zk.unlock, "forged", "never") == -errno.EBADMSG
        assert failure(zk.unlock, b"x" * 50, "never") == -errno.EBADMSG
        assert failure(zk.unlock, "forged") == -errno.EBADMSG
        assert failure(zk.lock, "missing", "never") == -errno.ENOENT
        assert not os.path.exists("never")
    """)


def test_binding__sign__takes_the_digest_as_it_is(run: Callable[[str], None]) -> None:
    run("""
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec, utils
        digest = hashlib.sha256(b"header").digest()
        for slot in range(3):
            raw = zk.sign_digest(Digest(digest), slot)
            r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
            point = b"\\x04" + zk.get_public_key(slot)
            assert point[1:] == zk.get_ecdsa_public_key(slot) and len(point) == 65
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
            scheme = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
            key.verify(utils.encode_dss_signature(r, s), digest, scheme)
            zk.create_public_key_file(f"{slot}.pem", slot)
            assert serialization.load_pem_public_key(open(f"{slot}.pem", "rb").read()) == key
        assert zk.verify_digest(Digest(digest), zk.sign_digest(Digest(digest)))
        assert not zk.verify_digest(Digest(digest), raw, raise_exception=False)  # of slot 2
        assert zk.get_slot_alloc_list() == ([0, 1, 2], 3)
        assert failure(zk.sign_digest, Digest(digest), 3) == -errno.EINVAL
    """)


def test_binding__perimeter__notes_the_first_breach_until_it_is_cleared(
    run: Callable[[str], None], device: StandIn
) -> None:
    device.breach(1)
    run("""
        first, second = zk.get_perimeter_detect_info()
        assert first == 0 and second > 1_600_000_000
        zk.wait_for_perimeter_event(1)
        zk.clear_perimeter_detect_info()
        assert zk.get_perimeter_detect_info() == [0, 0]
        try:
            zk.wait_for_perimeter_event(1)
            raise SystemExit("an event that was not")
        except ZymkeyTimeoutError:
            pass
        assert failure(zk.set_perimeter_event_actions, 2) == -errno.EINVAL
    """)


def test_binding__self_destruct__leaves_no_key(run: Callable[[str], None], device: StandIn) -> None:
    run("zk.set_perimeter_event_actions(0, True, True)")
    device.breach(0)
    run("""
        for gone in (zk.sign_digest, zk.lock, zk.get_public_key):
            argument = {zk.sign_digest: Digest(bytes(32)), zk.lock: b"x"}.get(gone, 0)
            assert failure(gone, argument) == -errno.ENOKEY
    """)


def test_binding__what_it_is__is_said_as_simulated(
    run: Callable[[str], None], device: StandIn
) -> None:
    run(f"""
        assert zk.get_model_number().startswith("SEALRUN STAND-IN")
        assert "simulated" in zk.get_firmware_version()
        assert zk.get_serial_number() == "{device.serial}"
        assert zk.get_current_binding_info() == (False, False)
        zk.lock_binding()
        assert zk.get_current_binding_info() == (True, True)
        assert 1_600_000_000 < zk.get_time() < 2**31
        zk.led_flash(10, 10, 3)
    """)
    assert device.led == "flashing"


def test_binding__what_the_stand_in_lacks__says_so(run: Callable[[str], None]) -> None:
    run("""
        lacking = [
            (zk.set_i2c_address, 0x30), (zk.set_tap_sensitivity, "all", 1.0), (zk.wait_for_tap, 1),
            (zk.get_accelerometer_data,), (zk.store_foreign_public_key, "nistp256", bytes(64)),
            (zk.disable_public_key_export, 0), (zk.gen_key_pair, "nistp256"),
            (zk.gen_ephemeral_key_pair, "nistp256"), (zk.remove_key, 1),
            (zk.invalidate_ephemeral_key,), (zk.get_public_key, 0, True),
            (zk.get_slot_alloc_list, True), (zk.get_cpu_temp,), (zk.get_aux_temp,),
            (zk.get_rtc_drift,), (zk.get_batt_volt,), (zk.set_battery_voltage_action,),
            (zk.set_battery_voltage_threshold, 2.0), (zk.set_cpu_temp_action,),
            (zk.set_cpu_low_temp_threshold, 0.0), (zk.set_cpu_high_temp_threshold, 60.0),
            (zk.set_digital_perimeter_lp_period, 1), (zk.set_digital_perimeter_lp_max_bits, 1),
            (zk.set_digital_perimeter_delays, 1, 2), (zk.set_supervised_boot_policy, 0),
            (zk.add_or_update_supervised_boot_file, "x"), (zk.remove_supervised_boot_file, "x"),
            (zk.get_supervised_boot_file_manifest,),
            (zk.gen_wallet_master_seed, "secp256k1", bytearray(32), "wallet"),
            (zk.gen_wallet_child_key, 16, 0, True),
        ]
        assert {failure(*call) for call in lacking} == {-errno.ENOSYS}
    """)


def test_refused__every_function__answers_not_implemented() -> None:
    loaded = ctypes.CDLL(str(library()))
    source = (Path(inspect.getfile(StandIn)).parent / "library" / "refused.c").read_text()
    refused = [line[8:-1] for line in source.splitlines() if line.startswith("REFUSED(")]
    assert len(refused) == len(set(refused)) == 43  # the other 33 of 76 do something
    assert {getattr(loaded, name)(None) for name in refused} == {-errno.ENOSYS}


def test_library__no_process_behind_it__no_device(device: StandIn) -> None:
    loaded = ctypes.CDLL(str(device.library))
    context = ctypes.c_void_p()
    assert loaded.zkOpen(ctypes.byref(context)) == 0
    device.stop()
    answer, size = ctypes.c_void_p(), ctypes.c_int()
    assert loaded.zkGetECDSAPubKey(context, ctypes.byref(answer), ctypes.byref(size), 0) < 0
    assert loaded.zkClose(context) == 0
    again = ctypes.c_void_p()
    assert loaded.zkOpen(ctypes.byref(again)) == -errno.ENODEV
    assert again.value is None
