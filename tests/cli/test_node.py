"""`sealrun node init`."""

import errno
import json
import stat
from pathlib import Path

import pytest

from agent.formats import p256
from agent.formats.hashes import keccak256
from nodeclient.config.node import Config, load_config
from nodeclient.core.digests import registration_digest
from nodeclient.core.registration import RegistrationKeys
from nodeclient.core.types import Address, RootClass
from nodeclient.core.zymkey import parse_zymkey
from nodeclient.daemon import only_one
from nodeclient.identity.folder import open_folder
from nodeclient.machine.ban import Ban
from nodeclient.p2p.contact import verify_record
from nodeclient.ports import Root
from nodeclient.roots.base import RootAbsent, RootError
from nodeclient.roots.choose import breach_of, create_root
from scripts.standin.control import StandIn
from tests.cli.conftest import REGISTRY, Sealrun
from tests.roots.zymkey_kit import library


def init(sealrun: Sealrun, folder: Path, deployment: Path, *more: str) -> tuple[int, str]:
    outcome = sealrun(
        *("node", "init", folder, "--deployment", deployment, "--endpoint", "127.0.0.1:7002", *more)
    )
    return outcome.code, outcome.err


def test_init__registration__is_signed_by_the_root_for_this_registry(node: Path) -> None:
    data = json.loads((node / "registration.json").read_text())
    opened = open_folder(node)
    account = Address(bytes.fromhex(data["account"][2:]))
    contact = bytes.fromhex(data["contact"][2:])
    fields = {
        name: bytes.fromhex(value[2:]) if isinstance(value, str) else value
        for name, value in data["registration"].items()
    }
    registry = Address(bytes.fromhex(REGISTRY[2:]))
    digest = registration_digest(31337, registry, account, RegistrationKeys(**fields), contact)
    signature = data["r"].to_bytes(32, "big") + data["s"].to_bytes(32, "big")
    assert p256.verify(opened.root.public_key(), digest, signature)
    verified = verify_record(
        contact,
        chain_id=31337,
        registry=registry,
        node=account,
        root_public=opened.root.public_key(),
        digest=keccak256(contact),
    )
    assert verified.hpke == opened.load_keys().hpke_public
    assert verified.endpoint == "127.0.0.1:7001"


def test_init__secrets__are_on_disk_only_sealed_and_private(node: Path) -> None:
    keys = open_folder(node).load_keys()
    secrets = [keys.account, keys.vrf, keys.hpke_private, keys.tls_key]
    for file in [file for file in node.rglob("*") if file.is_file()]:
        content = file.read_bytes()
        for secret in secrets:
            assert secret not in content
            assert secret.hex().encode() not in content
    for name in ("keys.sealed", "root/root.pem", "root/passphrase"):
        assert stat.S_IMODE((node / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(node.stat().st_mode) == 0o700


def test_init__twice__refuses_and_leaves_the_first(
    node: Path, deployment: Path, sealrun: Sealrun
) -> None:
    before = {file: file.read_bytes() for file in node.rglob("*") if file.is_file()}
    code, error = init(sealrun, node, deployment)
    assert (code, error.count("\n")) == (2, 1)
    assert "choose a new folder" in error
    assert before == {file: file.read_bytes() for file in node.rglob("*") if file.is_file()}


def test_init__bad_endpoint__leaves_nothing(
    tmp_path: Path, deployment: Path, sealrun: Sealrun
) -> None:
    folder = tmp_path / "new"
    code, _ = init(sealrun, folder, deployment, "--endpoint", "Not A Host:1")
    assert code == 2
    assert not folder.exists()


def test_init__no_deployment__says_what_to_run(tmp_path: Path, sealrun: Sealrun) -> None:
    code, error = init(sealrun, tmp_path / "new", tmp_path / "missing.json")
    assert code == 2
    assert "ape run deploy" in error


def test_init__roles__stand_in_the_configuration(
    tmp_path: Path, deployment: Path, sealrun: Sealrun
) -> None:
    code, _ = init(sealrun, tmp_path / "new", deployment, "--role", "receiver", "--role", "broker")
    assert code == 0
    assert open_folder(tmp_path / "new").config.node.roles == {"receiver", "broker"}


def test_init__root_zymkey__keys_are_sealed_by_the_device(
    tmp_path: Path, deployment: Path, sealrun: Sealrun
) -> None:
    device, folder = StandIn(tmp_path / "device", library()), tmp_path / "new"
    device.start()
    try:
        outcome = sealrun(
            *("node", "init", folder, "--deployment", deployment, "--endpoint", "127.0.0.1:7002"),
            *("--root", "zymkey", "--library", device.library, "--json"),
        )
        assert outcome.json["root"] == "zymkey (simulated)"
        opened = open_folder(folder)
        said = parse_zymkey(opened.root.endorsement())
        registered = json.loads((folder / "registration.json").read_text())["registration"]
        assert registered["root_class"] == RootClass.ZYMKEY
        point = registered["root_x"].to_bytes(32, "big") + registered["root_y"].to_bytes(32, "big")
        assert point == said.public_key == opened.root.public_key()
        assert registered["hardware_id"] == f"0x{keccak256(said.public_key).hex()}"
        assert opened.load_keys().account
        opened.root.close()
        device.fault(absent=True)
        with pytest.raises(RootAbsent):
            open_folder(folder)
    finally:
        device.stop()


def test_init__root_zymkey_and_none_there__leaves_nothing(
    tmp_path: Path, deployment: Path, sealrun: Sealrun
) -> None:
    missing = tmp_path / "libzk_app_utils.so"
    more = ("--root", "zymkey", "--library", str(missing))
    code, error = init(sealrun, tmp_path / "new", deployment, *more)
    assert (code, error.count("\n")) == (2, 1)
    assert "install Zymbit's software" in error
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("failing", ["NodeKeys.create", "write_registration", "describe"])
def test_init__disk_full_at_a_step__lets_go_of_the_root_and_leaves_nothing(
    failing: str,
    tmp_path: Path,
    deployment: Path,
    sealrun: Sealrun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Zymkey is held by a process of its own, which nobody else would end."""
    roots: list[Root] = []

    def create(config: Config) -> Root:
        roots.append(create_root(config))
        return roots[-1]

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nodeclient.identity.folder.create_root", create)
    monkeypatch.setattr(f"nodeclient.identity.folder.{failing}", full)
    code, error = init(sealrun, tmp_path / "new", deployment)
    assert (code, error.count("\n")) == (1, 1)
    assert "No space left" in error
    (root,) = roots
    with pytest.raises(RootError, match="closed"):
        root.sign(bytes(32))
    assert not (tmp_path / "new").exists()


def test_forget_breach__finding__is_lifted_by_name_and_told(node: Path, sealrun: Sealrun) -> None:
    finding = breach_of(load_config(node))
    assert sealrun("node", "forget-breach", "--node", node, "--json").json["forgotten"] is False
    finding.impose("perimeter channels [0] were opened", 1_000)
    told = sealrun("node", "forget-breach", "--node", node, "--json").json
    assert (told["forgotten"], told["reason"]) == (True, "perimeter channels [0] were opened")
    assert finding.standing() is None


def test_config__unknown_key__refused_by_name(node: Path, sealrun: Sealrun) -> None:
    with (node / "config.toml").open("a") as file:
        file.write("colour = 1\n")
    outcome = sealrun("capsule", "seal", node / "config.toml", "--node", node)
    assert outcome.code == 2
    assert "node.colour" in outcome.err


def test_passphrase__readable_by_others__refused(node: Path, sealrun: Sealrun) -> None:
    (node / "root/passphrase").chmod(0o644)
    outcome = sealrun("capsule", "seal", node / "config.toml", "--node", node)
    assert outcome.code == 2
    assert "chmod 600" in outcome.err


def test_enrol__no_chain__one_line_and_nothing_is_written(node: Path, sealrun: Sealrun) -> None:
    config = node / "config.toml"
    config.write_text(config.read_text().replace("127.0.0.1:8545", "127.0.0.1:9"))
    before = (node / "registration.json").read_bytes()
    outcome = sealrun("node", "enrol", "--node", node)
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert (node / "registration.json").read_bytes() == before
    assert not (node / "endorsement.cbor").exists()


@pytest.mark.parametrize("where", ["chain", "ek-roots"])
def test_enrol__file_that_is_no_certificate__refused_before_anything_is_booted(
    node: Path, sealrun: Sealrun, where: str
) -> None:
    (node / "ek-roots").mkdir()
    torn = node / ("torn.pem" if where == "chain" else "ek-roots/torn.pem")
    torn.write_text("-----BEGIN NOTHING-----")
    more = ("--chain", torn) if where == "chain" else ()
    outcome = sealrun("node", "enrol", "--node", node, *more)
    assert outcome.code == 2
    assert "torn.pem holds no certificate; write DER or PEM" in outcome.err


def test_enrol__daemon_runs__refused(node: Path, sealrun: Sealrun) -> None:
    with only_one(node):
        outcome = sealrun("node", "enrol", "--node", node)
    assert outcome.code == 2
    assert "stop it first" in outcome.err


def test_pardon__banned_machine__ban_is_lifted_once_and_its_reason_shown(
    node: Path, sealrun: Sealrun
) -> None:
    Ban(node / "machine").impose("stray: udp to 8.8.8.8:53", 1_000)
    outcome = sealrun("node", "pardon", "--node", node, "--json")
    assert outcome.code == 0
    shown = json.loads(outcome.out)
    assert (shown["pardoned"], shown["reason"]) == (True, "stray: udp to 8.8.8.8:53")
    assert Ban(node / "machine").standing() is None
    again = json.loads(sealrun("node", "pardon", "--node", node, "--json").out)
    assert again["pardoned"] is False
