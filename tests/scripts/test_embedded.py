"""The embedded network's chain: it waits for those who read along, and for nobody who is down."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import IncompleteRead
from pathlib import Path

import pytest

from nodeclient.core import actions as do
from nodeclient.core.case import Case, fold
from nodeclient.core.types import BlockRef
from nodeclient.store.database import Store
from scripts.embedded import chain as module
from scripts.embedded.chain import AnvilChain
from scripts.embedded.network import Network
from scripts.embedded.node import NodeProcess, toml
from scripts.embedded.site import HERE, PEER_PORT, Site
from tests.core.test_roles import COMMITMENT, posted


@contextmanager
def running(folder: Path, kept_up: Callable[[int], bool]) -> Iterator[AnvilChain]:
    chain = AnvilChain(folder / "chain.json", 0.02, kept_up)
    chain.start()
    try:
        yield chain
    finally:
        chain.stop()


@pytest.mark.chain
def test_blocks__readers_are_behind__the_chain_waits_for_them(tmp_path: Path) -> None:
    seen = [5]
    with running(tmp_path, lambda height: height <= seen[0]) as chain:
        for height in (6, 7):
            chain.wait_for(height)
            time.sleep(0.5)
            assert chain.height() == height
            seen[0] = height


@pytest.mark.chain
def test_blocks__reader_stays_behind__stops_nobody_else_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEP_UP_SECONDS", 0.1)
    with running(tmp_path, lambda _: False) as chain:
        chain.wait_for(3)


@pytest.mark.chain
@pytest.mark.parametrize("error", [IncompleteRead(b"{"), ValueError("no JSON"), OSError()])
def test_blocks__question_gets_half_an_answer__the_chain_goes_on(
    tmp_path: Path, error: Exception
) -> None:
    failures = [error]

    def kept_up(_: int) -> bool:
        if failures:
            raise failures.pop()
        return True

    with running(tmp_path, kept_up) as chain:
        chain.wait_for(2, seconds=30)
        assert not failures


@pytest.mark.chain
def test_held__only_who_holds_it_makes_blocks(tmp_path: Path) -> None:
    with running(tmp_path, lambda _: True) as chain:
        chain.wait_for(2)
        with chain.held():
            before = chain.height()
            time.sleep(0.5)
            assert chain.height() == before
            chain.mine(3)
            assert chain.height() == before + 3
        chain.wait_for(before + 5)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process in the place of a daemon."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_kept_up__asks_those_who_run(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, waiting = Network(tmp_path, ("one",), ("other",)), [0]
    monkeypatch.setattr(network.chain, "waiting", lambda: waiting[0])
    one = network.nodes["one"]
    assert network._kept_up(1), "nobody runs"
    one._process = sleeper
    assert not network._kept_up(1), "it has seen nothing yet"
    one.folder.mkdir(parents=True)
    store = Store(one.folder / "node.db", bytes(32))
    assert not network._kept_up(1)
    store.reach(BlockRef(4, bytes(32), 0))
    assert [network._kept_up(height) for height in (3, 4, 5)] == [True, True, False]
    task = fold(Case(COMMITMENT), posted()).on_chain()
    (ticket,) = store.apply(None, [do.EvaluateTicket(commitment=COMMITMENT, task=task)])
    assert not network._kept_up(4), "it works out its ticket"
    store.apply(None, (), closes=ticket.key)
    assert network._kept_up(4)
    store.apply(None, [do.SubmitAccept(commitment=COMMITMENT, task=task)])
    assert not network._kept_up(4), "its transaction is not out yet"
    waiting[0] = 1
    assert network._kept_up(4)
    store.close()
    assert not network.nodes["other"].awake


def test_halted__is_not_waited_for_until_it_goes_on(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    node = NodeProcess("one", tmp_path)
    assert not node.awake
    node._process = sleeper
    assert (node.awake, node.halted) == (True, False)
    os.kill(sleeper.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED)
    assert (node.awake, node.halted) == (False, True)
    os.kill(sleeper.pid, signal.SIGCONT)
    os.waitid(os.P_PID, sleeper.pid, os.WCONTINUED)
    assert node.awake
    sleeper.kill()
    sleeper.wait()
    assert (node.awake, node.halted) == (False, False)


def test_toml__tables_in_tables__are_read_back() -> None:
    power = {"kind": "qemu", "tap": "pc0", "settings": {"memory": 1536, "parts": ["a", 'b"']}}
    text = f"power = {toml(power)}\nempty = {toml({})}\n"
    assert tomllib.loads(text) == {"power": power, "empty": {}}


def test_site__in_a_namespace__is_entered_and_has_its_own_port() -> None:
    site = Site("10.88.0.5", "sealrun-x-pi")
    assert site.endpoint() == f"10.88.0.5:{PEER_PORT}"
    assert site.command(["true"]) == ["nsenter", "--net=/run/netns/sealrun-x-pi", "true"]
    assert HERE.command(["true"]) == ["true"]
    assert HERE.endpoint().startswith("127.0.0.1:")
