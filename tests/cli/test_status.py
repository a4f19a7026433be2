"""`sealrun node status`: a daemon's answer, or folder and chain without one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nodeclient.core.health import Picture
from nodeclient.core.roothealth import RootHealth
from nodeclient.core.types import RootClass
from nodeclient.core.verdict import judge
from nodeclient.health.views import as_json
from nodeclient.identity.folder import open_folder
from nodeclient.images.picture import PICTURE as PICTURE_FILE
from nodeclient.images.picture import Picture as Seen
from nodeclient.images.picture import write_picture
from nodeclient.machine.ban import Ban
from nodeclient.store.database import Store
from tests.cli.conftest import Daemon, Sealrun
from tests.health.kit import CHAIN, PICTURE
from tests.health.test_verdict import FAULTS, NOTICES

CASE = {"task": 4, "commitment": "0x00", "state": "DRAWN", "roles": {"executor": "GATHERING"}}
NOTICED = {"banned": None, "candidate": True, "incidents": []}


def answer(picture: Picture = PICTURE, **more: Any) -> dict[str, Any]:
    """What `GET /v1/health` says."""
    return {**as_json(picture, judge(picture)), "cases": [CASE], "noticed": NOTICED, **more}


def flat(text: str) -> str:
    """Without the breaks that a narrow terminal makes."""
    return " ".join(text.split())


def test_status__healthy_daemon__all_of_it_and_exit_code_0(
    daemon: Daemon, tmp_path: Path, sealrun: Sealrun
) -> None:
    daemon.answer("/v1/health", answer())
    outcome = sealrun("node", "status", "--node", tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    for part in (
        "healthy",
        "TPM2, usable, not tampered with, all well",
        "ACTIVE, deposit 4 ether (unit 1), reputation 52.10 %",
        "block 1000, 3 s old, 0 behind",
        "approved until 2027-09-21",
        "not banned, incidents: stray 2",
        "held against block 999, 1 behind",
        "7 known, 6 of 7 asked are reachable",
        "ADMITTED 1, POSTED 2 open, 37 known",
        "task 4 DRAWN executor GATHERING",
    ):
        assert part in flat(outcome.out), part
    assert "NOT" not in outcome.out


def test_status__json__is_the_daemons_answer(
    daemon: Daemon, tmp_path: Path, sealrun: Sealrun
) -> None:
    daemon.answer("/v1/health", answer())
    assert sealrun("node", "status", "--node", tmp_path, "--json").json == answer()


@pytest.mark.parametrize(("fault", "picture"), FAULTS)
def test_status__fault__exit_code_1_its_line_and_the_next_step(
    fault: object, picture: Picture, daemon: Daemon, tmp_path: Path, sealrun: Sealrun
) -> None:
    daemon.answer("/v1/health", answer(picture))
    (remark,) = judge(picture)
    outcome = sealrun("node", "status", "--node", tmp_path)
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "NOT HEALTHY" in outcome.out
    assert flat(f"{remark.text}; {remark.next_step}") in flat(outcome.err)
    quiet = sealrun("node", "status", "--node", tmp_path, "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (1, "", outcome.err)


@pytest.mark.parametrize(("notice", "picture"), NOTICES)
def test_status__notice__shown_and_exit_code_0(
    notice: str, picture: Picture, daemon: Daemon, tmp_path: Path, sealrun: Sealrun
) -> None:
    daemon.answer("/v1/health", answer(picture))
    outcome = sealrun("node", "status", "--node", tmp_path)
    assert outcome.code == 0
    assert notice in outcome.out
    assert sealrun("node", "status", "--node", tmp_path, "--quiet").out == ""


def test_status__two_faults__the_line_says_that_there_are_more(
    daemon: Daemon, tmp_path: Path, sealrun: Sealrun
) -> None:
    ill = replace(PICTURE, chain=None, machine=replace(PICTURE.machine, banned=True))
    noticed = {"banned": {"reason": "stray: udp", "at": 1}, "candidate": False, "incidents": []}
    daemon.answer("/v1/health", answer(ill, noticed=noticed))
    outcome = sealrun("node", "status", "--node", tmp_path)
    assert "(and 1 more)" in outcome.err
    assert "BANNED: stray: udp" in outcome.out


def test_status__unknown_parts__are_named_so(
    daemon: Daemon, tmp_path: Path, sealrun: Sealrun
) -> None:
    daemon.answer("/v1/health", answer(replace(PICTURE, chain=None, peers=None, tasks=None)))
    shown = flat(sealrun("node", "status", "--node", tmp_path).out)
    for part in ("registry unknown", "chain no answer", "peers unknown", "tasks unknown"):
        assert part in shown
    unregistered = replace(PICTURE, chain=replace(CHAIN, registry=None, applied=None))
    daemon.answer("/v1/health", answer(unregistered))
    shown = flat(sealrun("node", "status", "--node", tmp_path).out)
    assert "registry not registered" in shown
    assert "services held against block 999, 1 behind" in shown
    assert "nothing applied yet" in shown
    daemon.answer("/v1/health", answer(replace(PICTURE, guard=None)))
    shown = flat(sealrun("node", "status", "--node", tmp_path).out)
    assert "services not watched" in shown


@pytest.mark.parametrize(
    "body",
    [[], 3, {}, {"healthy": True}, {**answer(), "faults": 7}, {**answer(), "root": None},
     {**answer(), "healthy": "yes"}, {**answer(), "faults": [{}]}],
)  # fmt: skip
@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_status__answer_that_is_no_picture__one_line_and_never_healthy(
    body: object, quiet: tuple[str, ...], daemon: Daemon, tmp_path: Path, sealrun: Sealrun
) -> None:
    daemon.answer("/v1/health", body)
    outcome = sealrun("node", "status", "--node", tmp_path, *quiet)
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)


# -------------------------------------------------------------------------------- without a daemon


@pytest.fixture
def dark(node: Path) -> Path:
    """A node without daemon, whose chain does not answer."""
    config = node / "config.toml"
    config.write_text(config.read_text().replace("127.0.0.1:8545", "127.0.0.1:9"))
    return node


def faults_of(outcome: Any) -> list[str]:
    return [fault["code"] for fault in outcome.json["faults"]]


def test_stopped__folder_is_looked_at__says_how_to_start(dark: Path, sealrun: Sealrun) -> None:
    outcome = sealrun("node", "status", "--node", dark, "--json")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert f"sealrun node run {dark}" in outcome.err
    assert faults_of(outcome) == ["daemon-stopped", "chain-unreachable"]
    shown = outcome.json
    account = json.loads((dark / "registration.json").read_text())["account"]
    assert shown["account"].lower() == account.lower()
    assert (shown["root"]["class"], shown["root"]["simulated"]) == ("SOFTWARE", True)
    assert shown["root"]["usable"] is True
    assert [image["use"] for image in shown["images"]] == ["boot"]
    assert shown["tasks"] is None
    assert shown["peers"] is None


def test_stopped__nothing_in_the_folder_changes(dark: Path, sealrun: Sealrun) -> None:
    before = {file: file.read_bytes() for file in dark.rglob("*") if file.is_file()}
    assert sealrun("node", "status", "--node", dark).code == 1
    assert before == {file: file.read_bytes() for file in dark.rglob("*") if file.is_file()}


def test_stopped__daemon_ran_before__its_tasks_and_ban_are_shown(
    dark: Path, sealrun: Sealrun
) -> None:
    Store(dark / "node.db", open_folder(dark).load_store_key()).close()
    Ban(dark / "machine").impose("stray: udp", 1)
    outcome = sealrun("node", "status", "--node", dark, "--json")
    assert outcome.json["tasks"] == {"open": {}, "known": 0, "ended": {}}
    assert faults_of(outcome) == ["daemon-stopped", "chain-unreachable", "machine-banned"]


def test_stopped__services_are_guarded_apart__what_the_guard_saw_is_shown(
    dark: Path, sealrun: Sealrun
) -> None:
    config = dark / "config.toml"
    config.write_text(config.read_text() + '\n[services]\nguard = "apart"\n')
    never = sealrun("node", "status", "--node", dark, "--json")
    assert "services-unwatched" in faults_of(never)
    write_picture(dark / PICTURE_FILE, Seen(7, (("web", b"\xeb" * 32),)))
    seen = sealrun("node", "status", "--node", dark, "--json")
    assert faults_of(seen) == ["daemon-stopped", "chain-unreachable"]
    assert seen.json["services"] == {"watched": 7, "behind": None}
    assert [each["use"] for each in seen.json["images"]] == ["boot", "service"]


def test_stopped__database_cannot_be_read__everything_else_is_shown(
    dark: Path, sealrun: Sealrun
) -> None:
    """Damaged, or no room for what SQLite writes beside it: then most of all one looks here."""
    key = open_folder(dark).load_store_key()
    Store(dark / "node.db", key).close()
    (dark / "node.db").write_bytes(b"no database" * 1000)
    outcome = sealrun("node", "status", "--node", dark, "--json")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert outcome.json["tasks"] is None
    assert faults_of(outcome) == ["daemon-stopped", "chain-unreachable"]


def test_stopped__root_does_not_open__is_a_fault_beside_the_others(
    dark: Path, sealrun: Sealrun
) -> None:
    (dark / "root/passphrase").write_text("another one, long enough\n")
    outcome = sealrun("node", "status", "--node", dark, "--json")
    assert faults_of(outcome) == ["daemon-stopped", "root-unusable", "chain-unreachable"]
    assert "does not open" in outcome.json["root"]["detail"]


def test_stopped__root_says_it_was_opened__is_tampered_with(
    dark: Path, sealrun: Sealrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    breached = RootHealth(False, True, "perimeter breached")
    monkeypatch.setattr("nodeclient.roots.software.SoftwareRoot.health", lambda _self: breached)
    outcome = sealrun("node", "status", "--node", dark, "--json")
    assert faults_of(outcome)[1:3] == ["root-tampered", "root-unusable"]
    assert RootClass.SOFTWARE.name == outcome.json["root"]["class"]


def test_no_node__one_line_and_exit_code_2(tmp_path: Path, sealrun: Sealrun) -> None:
    outcome = sealrun("node", "status", "--node", tmp_path / "none", "--quiet")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ('listen = "9464"', "health.listen"),
        ('listen = "http://127.0.0.1:9464"', "health.listen"),
        ('webhook_url_file = "url"', "belong together"),
        ('webhook_secret_file = "secret"', "belong together"),
        ("head_age_seconds = 0", "health.head_age_seconds"),
        ('webhook_url = "https://example.org/"', "health.webhook_url"),
    ],
)
def test_config__bad_health_table__refused_by_name(
    table: str, key: str, node: Path, sealrun: Sealrun
) -> None:
    with (node / "config.toml").open("a") as file:
        file.write(f"[health]\n{table}\n")
    outcome = sealrun("node", "status", "--node", node)
    assert outcome.code == 2
    assert key in outcome.err


def test_status__of_a_daemon__imports_neither_chain_nor_folder(
    daemon: Daemon, tmp_path: Path
) -> None:
    """Each of them costs half a second, and watchdogs ask every few seconds."""
    daemon.answer("/v1/health", answer())
    program = (
        "import sys; from nodeclient import cli;"
        f"code = cli.run(['node', 'status', '--quiet', '--node', {str(tmp_path)!r}]);"
        "heavy = {'web3', 'nodeclient.config.node', 'cryptography', 'aiohttp'} & set(sys.modules);"
        "print(code, sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout == "0 []\n", done.stderr


def test_status__without_a_daemon__imports_only_what_the_picture_needs() -> None:
    """Without the engine's library: it costs as much as a tenth of all that is needed."""
    program = (
        "import sys; import nodeclient.health.offline;"
        "print(sorted({'docker', 'cryptography.x509'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout == "[]\n", done.stderr
