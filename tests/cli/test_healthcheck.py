"""What the engine asks a daemon in a container: does it answer, whatever else is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nodeclient.control.healthcheck import main
from nodeclient.core.verdict import judge
from nodeclient.health.views import as_json
from tests.cli.conftest import Daemon
from tests.health.kit import PICTURE


def test_healthcheck__daemon_answers_but_its_chain_does_not__the_container_is_well(
    daemon: Daemon, tmp_path: Path
) -> None:
    dark = replace(PICTURE, chain=None)
    daemon.answer("/v1/health", as_json(dark, judge(dark)))
    unavailable = {"error": "the chain does not answer", "next_step": "check the RPC URL"}
    daemon.answer("/v1/status", unavailable, status=503)
    assert main([str(tmp_path)]) == 0


def test_healthcheck__no_daemon_or_no_folder__not_well_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 1
    assert main([]) == 2
    assert capsys.readouterr().err.count("\n") == 2
