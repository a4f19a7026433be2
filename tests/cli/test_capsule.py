"""`sealrun capsule` on real files."""

from pathlib import Path

import pytest

from nodeclient.capsules.policies import Policies
from nodeclient.core.types import Address
from tests.cli.conftest import Sealrun

PROJECT = Path(__file__).resolve().parents[2]
LIST = PROJECT / "examples/common-names/lists/census-1990.txt"


@pytest.fixture
def cid(node: Path, sealrun: Sealrun) -> str:
    outcome = sealrun("capsule", "seal", LIST, "--node", node, "--json")
    assert outcome.code == 0, outcome.err
    return str(outcome.json["cid"])


def block_of(node: Path, cid: str) -> Path:
    return next(file for file in (node / "blocks").rglob(cid) if file.is_file())


def test_seal_open__list__gives_the_same_bytes(
    node: Path, cid: str, tmp_path: Path, sealrun: Sealrun
) -> None:
    outcome = sealrun("capsule", "open", cid, tmp_path / "again.txt", "--node", node)
    assert outcome.code == 0
    assert (tmp_path / "again.txt").read_bytes() == LIST.read_bytes()


def test_seal_open__function__gives_the_same_folder(
    node: Path, tmp_path: Path, sealrun: Sealrun
) -> None:
    folder = PROJECT / "examples/common-names/function"
    sealed = sealrun("capsule", "seal", folder, "--kind", "function", "--node", node, "--json").json
    outcome = sealrun("capsule", "open", sealed["cid"], tmp_path / "function", "--node", node)
    assert outcome.code == 0
    assert (tmp_path / "function/main.py").read_bytes() == (folder / "main.py").read_bytes()


def test_seal__node_folder__holds_no_name_in_clear(node: Path, cid: str) -> None:
    assert cid
    for file in [file for file in node.rglob("*") if file.is_file()]:
        assert b"Maryann" not in file.read_bytes()
        assert b"census-1990" not in file.read_bytes()


def test_inspect__capsule__needs_no_key(node: Path, cid: str, sealrun: Sealrun) -> None:
    for key in (node / "capsules").iterdir():
        key.unlink()
    shown = sealrun("capsule", "inspect", cid, "--node", node, "--json").json
    assert (shown["kind"], shown["bytes"], shown["own"]) == ("data", LIST.stat().st_size, True)


def test_open__bit_flipped__ends_without_a_file(
    node: Path, cid: str, tmp_path: Path, sealrun: Sealrun
) -> None:
    for file in [file for file in (node / "blocks").rglob("*") if file.is_file()]:
        if file.name != cid:
            damaged = bytearray(file.read_bytes())
            damaged[100] ^= 1
            file.write_bytes(bytes(damaged))
    outcome = sealrun("capsule", "open", cid, tmp_path / "again.txt", "--node", node)
    assert outcome.code != 0
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "again.txt").exists()


def test_open__truncated_header__is_bad(
    node: Path, cid: str, tmp_path: Path, sealrun: Sealrun
) -> None:
    header = block_of(node, cid)
    header.write_bytes(header.read_bytes()[:-1])
    outcome = sealrun("capsule", "open", cid, tmp_path / "again.txt", "--node", node)
    assert outcome.code != 0
    assert not (tmp_path / "again.txt").exists()


@pytest.mark.parametrize("wrong", ["bafkrei", "../../etc/passwd", "x" * 59, ""])
def test_inspect__no_cid__exit_code_2(wrong: str, node: Path, sealrun: Sealrun) -> None:
    outcome = sealrun("capsule", "inspect", wrong, "--node", node)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)


def test_open__unknown_cid__exit_code_2(
    node: Path, cid: str, tmp_path: Path, sealrun: Sealrun
) -> None:
    block_of(node, cid).unlink()
    assert sealrun("capsule", "open", cid, tmp_path / "x", "--node", node).code == 2


def test_open__existing_target__is_not_replaced(
    node: Path, cid: str, tmp_path: Path, sealrun: Sealrun
) -> None:
    target = tmp_path / "mine.txt"
    target.write_text("mine")
    assert sealrun("capsule", "open", cid, target, "--node", node).code == 2
    assert target.read_text() == "mine"


def test_open__capsule_of_another_node__has_no_key(
    node: Path, cid: str, tmp_path: Path, deployment: Path, sealrun: Sealrun
) -> None:
    other = tmp_path / "other"
    sealrun("node", "init", other, "--deployment", deployment, "--endpoint", "127.0.0.1:7003")
    (node / "blocks").rename(other / "blocks")
    outcome = sealrun("capsule", "open", cid, tmp_path / "x", "--node", other)
    assert outcome.code == 2
    assert "owner's node" in outcome.err


def test_seal__empty_file__opens_empty(node: Path, tmp_path: Path, sealrun: Sealrun) -> None:
    (tmp_path / "empty").touch()
    cid = sealrun("capsule", "seal", tmp_path / "empty", "--node", node, "--json").json["cid"]
    assert sealrun("capsule", "open", cid, tmp_path / "again", "--node", node).code == 0
    assert (tmp_path / "again").read_bytes() == b""


POLICY = """
runtime_images = ["0x{hash}"]
uses = 1
expires_block = 100
smallest_committee = 3
[[functions]]
digest = "0x{hash}"
command = ["python3", "main.py"]
""".format(hash="ab" * 32)


def test_permit__policy__is_what_the_daemon_reads(
    node: Path, cid: str, tmp_path: Path, sealrun: Sealrun
) -> None:
    (tmp_path / "policy.toml").write_text(POLICY)
    outcome = sealrun("capsule", "permit", cid, tmp_path / "policy.toml", "--node", node, "--json")
    assert outcome.code == 0, outcome.err
    daemon = Policies(node, Address(bytes(20)), lambda *_: 0, dict, lambda: 0)
    policy = daemon.load(cid)
    assert policy is not None
    assert (policy.uses, policy.runtime_images) == (1, {b"\xab" * 32})
    assert policy.receivers == frozenset()


@pytest.mark.parametrize(
    ("old", "new"),
    [("uses = 1", "use = 1"), ("uses = 1", "uses = true"), ("0xab", "0xzz"), ("[[", "[")],
)
def test_permit__slip__sets_nothing(
    old: str, new: str, node: Path, cid: str, tmp_path: Path, sealrun: Sealrun
) -> None:
    (tmp_path / "policy.toml").write_text(POLICY.replace(old, new, 1))
    outcome = sealrun("capsule", "permit", cid, tmp_path / "policy.toml", "--node", node)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert not (node / "policies").exists()


def test_permit__capsule_of_nobody_here__refused(
    node: Path, cid: str, tmp_path: Path, sealrun: Sealrun
) -> None:
    (tmp_path / "policy.toml").write_text(POLICY)
    (node / "capsules" / f"{cid}.key").unlink()
    outcome = sealrun("capsule", "permit", cid, tmp_path / "policy.toml", "--node", node)
    assert outcome.code == 2
    assert not (node / "policies").exists()
