"""The engine helper: uses what answers, starts what can be started, says what is missing."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import docker
import pytest

from nodeclient.images import engine as module
from nodeclient.images.engine import engine_answers, ensure_engine, stop_engine
from nodeclient.images.errors import EngineError


def test_ensure__engine_answers__used_and_no_second_one(
    engine: docker.DockerClient, tmp_path: Path
) -> None:
    said: list[str] = []
    socket = ensure_engine(tmp_path, said.append)
    assert engine_answers(socket)
    assert said == []
    assert list(tmp_path.iterdir()) == []


def test_answers__no_socket__false_at_once(tmp_path: Path) -> None:
    assert not engine_answers(tmp_path / "no.sock")


def test_answers__socket_without_engine__false(tmp_path: Path) -> None:
    (tmp_path / "file.sock").write_text("")
    assert not engine_answers(tmp_path / "file.sock")


def test_ensure__not_root_and_no_engine__says_so(tmp_path: Path) -> None:
    """In a child without rights: it may not open the engine's socket, and may not start one."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            ensure_engine(tmp_path, lambda _: None)
            said = "no error"
        except EngineError as error:
            said = str(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as answer:
        assert "as root" in answer.read()


def test_ensure__another_starter_is_stuck__bounded(tmp_path: Path) -> None:
    module._LOCK.parent.mkdir(parents=True, exist_ok=True)
    with module._LOCK.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(EngineError, match="try again"), module._single_starter(0.5):
            pytest.fail("two starters at once")


def test_stop__engine_that_is_not_ours__left_alone(
    engine: docker.DockerClient, tmp_path: Path
) -> None:
    assert not stop_engine(tmp_path)
    (tmp_path / "dockerd.pid").write_text(f"{os.getpid()}\n")
    assert not stop_engine(tmp_path)
    assert engine.ping()
