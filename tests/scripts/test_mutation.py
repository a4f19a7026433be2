"""The children in which `make mutate` tries mutants: what they answer, and that none is left."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import NoReturn

import pytest

from nodeclient.chain import deployment
from scripts.mutation.children import Children, Result
from scripts.mutation.compiling import CONTRACTS
from scripts.mutation.sites import ROOT
from scripts.mutation.trial import LEFT_OUT, SUITE


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def fill(folder: Path) -> Result:
    (folder / "contracts").mkdir()
    return {"status": "killed"}


def sleep(folder: Path) -> NoReturn:
    fill(folder)
    while True:
        time.sleep(60)


def loop(folder: Path) -> NoReturn:
    fill(folder)
    os.kill(os.getpid(), signal.SIGXCPU)  # what the bound on CPU time sends
    raise AssertionError("survived the signal")


def fail(folder: Path) -> NoReturn:
    raise RuntimeError


def test_wait__child_answered__its_answer_and_its_folder_is_gone(temporary: Path) -> None:
    with Children() as children:
        pid = children.start(fill)
        ended = children.wait()
        assert (ended.pid, ended.result, ended.out_of_time) == (pid, {"status": "killed"}, False)
        assert list(temporary.glob("*/*")) == []
    assert list(temporary.iterdir()) == []


def test_wait__child_out_of_time__said_so_and_its_folder_is_gone(temporary: Path) -> None:
    with Children() as children:
        children.start(loop)
        ended = children.wait()
        assert (ended.result, ended.out_of_time) == ({}, True)
        assert list(temporary.glob("*/*")) == []


def test_wait__child_failed__no_answer() -> None:
    with Children() as children:
        children.start(fail)
        ended = children.wait()
        assert (ended.result, ended.out_of_time) == ({}, False)


def test_exit__interrupted__no_child_and_no_folder_is_left(temporary: Path) -> None:
    pids = []
    with contextlib.suppress(KeyboardInterrupt), Children() as children:
        pids = [children.start(sleep), children.start(sleep)]
        raise KeyboardInterrupt
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert list(temporary.iterdir()) == []


def test_suite__every_contract_and_every_test_file__tried_or_left_out_by_name() -> None:
    """What is forgotten here looks equivalent, or survives tests that nobody ran."""
    assert {Path(source).stem for source in CONTRACTS} == set(deployment.CONTRACTS)
    files = {path.name for path in (ROOT / "tests" / "contracts").glob("test_*.py")}
    assert files == {name for name in (*SUITE, *LEFT_OUT) if name.endswith(".py")}
    assert not set(SUITE) & set(LEFT_OUT)
