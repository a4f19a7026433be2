"""A lab from its start to the last thing it removes."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scripts.embedded.chain import ROOT
from scripts.embedded.network import Say, cut_power
from scripts.embedded.node import NodeProcess
from scripts.lab.namespaces import SOCKET, Namespaces, entered, plug_in, remove
from scripts.lab.network import NODES, PI, LabNetwork, pc_in
from scripts.lab.state import LabError, LabState, load, me

FOLDER: Final = ROOT / "var" / "lab"
NETWORK: Final = "network"
STOP_SECONDS: Final = 180.0  # a keeper stops eight daemons, a chain and a PC
NONE: Final = "no lab is up; run: sealrun lab up"


@contextlib.contextmanager
def lab(folder: Path, say: Say) -> Iterator[LabNetwork]:
    """A lab that is up, held by this process; its main thread is in the hub meanwhile.

    Whatever happens, nothing of it is left afterwards. Raises `LabError`, RuntimeError.
    """
    label = secrets.token_hex(3)
    spaces = Namespaces(label, NODES)
    network = LabNetwork(folder / NETWORK, spaces, say)
    state = LabState(label, spaces.names, me())
    state.claim(folder)
    with contextlib.ExitStack() as stack:
        stack.callback(_clear, folder, state)
        network.build()  # before the hub is entered, from where no package can be had
        spaces.make()
        plug_in(spaces.site(PI).namespace, SOCKET)
        say(f"{len(spaces.names)} network namespaces: {spaces.hub}, …")
        stack.enter_context(entered(spaces.hub))
        stack.callback(network.stop)
        network.prepare()
        network.run_nodes()
        state.ready(folder, network.chain.url)
        yield network


@contextlib.contextmanager
def joined(folder: Path, say: Say) -> Iterator[LabNetwork]:
    """The lab that another process holds. Raises `LabError` if none is ready."""
    state = load(folder)
    if state is None or not state.is_kept:
        raise LabError(NONE)
    if not state.rpc:
        raise LabError("the lab is not ready yet; wait for: sealrun lab up")
    spaces = Namespaces(state.label, NODES)
    network = LabNetwork(folder / NETWORK, spaces, say)
    network.build()
    with entered(spaces.hub):
        network.join(state.rpc)
        yield network


def down(folder: Path, say: Say) -> bool:
    """End the lab of ``folder``, whoever holds it, also one whose process was killed.

    Returns whether there was one. Raises `LabError`, RuntimeError.
    """
    state = load(folder)
    if state is None:
        return False
    if state.is_kept:
        say(f"asking process {state.keeper[0]} to take the lab down")
        _end(state)
    if load(folder) is None:
        return True
    say("its process is gone; removing what it left")
    _clear(folder, state)
    return True


def _clear(folder: Path, state: LabState) -> None:
    """Remove what may be left. Only then is the state forgotten: who fails can try again."""
    remove(state.namespaces)
    for name in NODES:
        cut_power(NodeProcess(name, folder / NETWORK / "nodes" / name))
    pc_in(folder / NETWORK).tpm.remove()
    state.drop(folder)


def _end(state: LabState) -> None:
    """As Ctrl-C at its terminal: the keeper and the commands that it runs, not its daemons."""
    pid, _ = state.keeper
    group = os.getpgid(pid) == pid
    end = time.monotonic() + STOP_SECONDS
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(pid, signal.SIGTERM)
        while state.is_kept and time.monotonic() < end:
            time.sleep(0.1)
        if state.is_kept:
            os.kill(pid, signal.SIGKILL)
        while state.is_kept:
            time.sleep(0.1)
