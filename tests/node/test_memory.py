"""Secrets in memory: locked, left out of dumps and children, gone after use."""

from __future__ import annotations

import copy
import ctypes
import logging
import os
import pickle
import re
from pathlib import Path

import pytest

from nodeclient import memory
from nodeclient.memory import Secret, Wiped, wipe

CONTENT = b"canary: thirty-two secret bytes."


def flags_of(address: int) -> set[str]:
    """The kernel's flags of the pages at an address: proc(5), smaps, VmFlags."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) <= address < int(found[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return set(line.split()[1:])
    raise AssertionError("no such page")


def test_secret__pages__are_locked_not_dumped_and_not_inherited() -> None:
    secret = Secret(CONTENT)
    assert secret.locked
    assert {"lo", "dd", "wf"} <= flags_of(secret._address)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, secret.reveal())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 64) == bytes(32)
    os.close(reader)
    os.close(writer)


def test_wipe__secret__is_overwritten_before_the_pages_go(monkeypatch: pytest.MonkeyPatch) -> None:
    secret, seen = Secret(CONTENT), []
    unlock = memory._libc.munlock

    class Libc:
        @staticmethod
        def munlock(address: int, size: int) -> int:
            seen.append(ctypes.string_at(address, 32))
            return int(unlock(address, size))

    monkeypatch.setattr(memory, "_libc", Libc)
    secret.wipe()
    assert seen == [bytes(32)]
    assert secret.wiped
    secret.wipe()
    with pytest.raises(Wiped):
        secret.reveal()


def test_secret__shown_hashed_copied_or_pickled__gives_nothing_away() -> None:
    secret = Secret(CONTENT)
    assert "canary" not in repr(secret) + str(secret)
    with pytest.raises(TypeError):
        hash(secret)
    for write in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            write(secret)


def test_secret__compared__by_content() -> None:
    assert Secret(CONTENT) == Secret(CONTENT)
    assert Secret(CONTENT) != Secret(CONTENT[:-1])
    assert Secret(b"") == Secret(b"")


def test_take__buffer__is_emptied() -> None:
    buffer = bytearray(CONTENT)
    assert Secret.take(buffer).reveal() == CONTENT
    assert buffer == bytes(32)
    wipe(bytearray())


def test_lock__where_it_is_not_allowed__secret_is_kept_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing:
        @staticmethod
        def mlock(*_: int) -> int:
            return -1

    monkeypatch.setattr(memory, "_libc", Refusing)
    memory._told.clear()
    caplog.set_level(logging.WARNING)
    secrets = [Secret(CONTENT), Secret(CONTENT)]
    assert [each.reveal() for each in secrets] == [CONTENT] * 2
    assert caplog.text.count("cannot be locked") == 1
    assert "canary" not in caplog.text
    for each in secrets:
        each.wipe()
