"""`sealrun image fetch`: who does it, the daemon or the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeclient.core.images import ImageKind
from nodeclient.images.errors import ImageRefused
from nodeclient.images.verification import Brought
from tests.cli.conftest import Daemon, Sealrun

CID = "bafkreigh2akiscaildc"
HERE = Brought(b"\xaa" * 32, ImageKind.SERVICE, Path("here.tar"), loaded=True)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str]]:
    """What the command was to fetch by itself."""
    asked: list[tuple[Path, str]] = []

    async def fetch_here(folder: Path, cid: str) -> Brought:
        asked.append((folder, cid))
        return HERE

    monkeypatch.setattr("nodeclient.upkeep.fetching.fetch_here", fetch_here)
    return asked


def configure(folder: Path, guard: str) -> Path:
    (folder / "config.toml").write_text(
        '[chain]\nrpc = "http://127.0.0.1:1"\ndeployment = "deployment.json"\n'
        f'[node]\nendpoint = "127.0.0.1:7001"\n[services]\nguard = "{guard}"\n'
    )
    return folder


@pytest.mark.parametrize("guard", ["none", "daemon"])
def test_fetch__daemon_runs_on_the_host__it_does_it(
    guard: str, daemon: Daemon, here: list[object], tmp_path: Path, sealrun: Sealrun
) -> None:
    daemon.answer("/v1/images", {"image": "0xbb", "loaded": True})
    outcome = sealrun("image", "fetch", CID, "--node", configure(tmp_path, guard), "--json")
    assert outcome.json == {"image": "0xbb", "loaded": True}
    assert daemon.received == [{"cid": CID}]
    assert here == []


def test_fetch__daemon_may_be_in_a_container__never_asked(
    daemon: Daemon, here: list[object], tmp_path: Path, sealrun: Sealrun
) -> None:
    """What stands inside must not be what says that an image is sound."""
    outcome = sealrun("image", "fetch", CID, "--node", configure(tmp_path, "apart"), "--json")
    assert outcome.json == HERE.shown()
    assert daemon.received == []
    assert here == [(tmp_path, CID)]


@pytest.mark.parametrize("guard", ["none", "daemon"])
def test_fetch__no_daemon_runs__the_command_does_it(
    guard: str, here: list[object], tmp_path: Path, sealrun: Sealrun
) -> None:
    outcome = sealrun("image", "fetch", CID, "--node", configure(tmp_path, guard), "--json")
    assert outcome.json == HERE.shown()
    assert here == [(tmp_path, CID)]


def test_fetch__daemon_refuses__its_reason_and_nobody_else_is_asked(
    daemon: Daemon, here: list[object], tmp_path: Path, sealrun: Sealrun
) -> None:
    no = {"error": "image aa is refused (it was revoked)", "next_step": "take another"}
    daemon.answer("/v1/images", no, status=400)
    outcome = sealrun("image", "fetch", CID, "--node", configure(tmp_path, "none"))
    assert outcome.code == 2
    assert "it was revoked" in outcome.err
    assert here == []


def test_fetch__chain_is_against_it__exit_code_2_and_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sealrun: Sealrun
) -> None:
    async def refuse(_folder: Path, _cid: str) -> Brought:
        raise ImageRefused("image aa is refused (it was revoked); take an approved one")

    monkeypatch.setattr("nodeclient.upkeep.fetching.fetch_here", refuse)
    outcome = sealrun("image", "fetch", CID, "--node", configure(tmp_path, "apart"))
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
