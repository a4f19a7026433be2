"""A daemon that dies by SIGKILL at every step of a task, once each.

``python -m tests.e2e.rogues.crashing FOLDER ROLE... [--only STATE:EVENT] [--with-machine]`` dies
right after each new transition of these roles is durable; ``… FOLDER --effects`` dies after each
kind of order is carried out, before its outcome is durable, so that it is carried out again. What
it died of stands in ``FOLDER/crashed.jsonl``, written before it dies. Every content key that
reaches it from outside stands in ``FOLDER/keys-seen.jsonl``.

The process that is started here only starts the daemon again, as systemd would. It forks it off an
interpreter that has the modules loaded and nothing else, which saves seconds per restart.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from nodeclient import daemon
from nodeclient.config.node import load_config
from nodeclient.core import events as ev
from nodeclient.core.actions import Action
from nodeclient.core.case import Case, Role
from nodeclient.duties.services import Services
from nodeclient.inbox import Inbox
from nodeclient.p2p import messages as msg
from nodeclient.runner import Effect, Emit

PR_SET_PDEATHSIG = 1  # prctl(2)
CRASHED, KEYS_SEEN = "crashed.jsonl", "keys-seen.jsonl"
Transition = dict[str, Any]


def append(path: Path, entry: object) -> None:
    """Durable before it returns."""
    with path.open("a") as file:
        file.write(json.dumps(entry, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())


def entries(path: Path) -> list[dict[str, Any]]:
    """What was appended so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def transitions(
    roles: list[Role], before: Case | None, after: Case, event: ev.Event
) -> list[Transition]:
    """What one committed event changed in the given roles."""
    found = []
    for role in roles:
        old, new = getattr(before, role.value, None), getattr(after, role.value)
        if old == new:
            continue
        changed = [
            f.name for f in fields(new) if old and getattr(old, f.name) != getattr(new, f.name)
        ]
        found.append(
            {
                "role": role.value,
                "from": old.state.name if old else None,
                "event": type(event).__name__,
                "to": new.state.name,
                "phase": old.phase.name if old and role is Role.EXECUTOR else None,
                "changed": changed,
            }
        )
    return found


class Crash:
    """``on_commit`` of the runner."""

    def __init__(self, folder: Path, roles: list[Role], only: str, with_machine: bool) -> None:
        self._folder, self._roles = folder, roles
        self._only, self._with_machine = only, with_machine
        self._known = entries(folder / CRASHED)

    def __call__(self, before: Case | None, after: Case, event: ev.Event) -> None:
        fresh = [
            each
            for each in transitions(self._roles, before, after, event)
            if each not in self._known and self._only in ("", f"{each['from']}:{each['event']}")
        ]
        for each in fresh:
            append(self._folder / CRASHED, each)
        if fresh:
            if self._with_machine:
                cut_machine(self._folder)
            os.kill(os.getpid(), signal.SIGKILL)


def dying_effects(folder: Path) -> Callable[[Services], dict[type[Action], Effect]]:
    """``daemon.build_effects`` whose effects are performed once more than their outcome is kept."""
    build, known = daemon.build_effects, entries(folder / CRASHED)

    def dying(effect: Effect) -> Effect:
        async def perform(action: Action, emit: Emit) -> ev.OutcomeEvent | None:
            outcome = await effect(action, emit)
            phase = getattr(action, "phase", None)
            entry = {"action": type(action).__name__, "phase": phase.name if phase else None}
            if entry not in known:
                append(folder / CRASHED, entry)
                os.kill(os.getpid(), signal.SIGKILL)
            return outcome

        return perform

    return lambda services: {kind: dying(effect) for kind, effect in build(services).items()}


def cut_machine(folder: Path) -> None:
    """SIGKILL the Agent beside this daemon."""
    with contextlib.suppress(OSError):
        pid, _ = (folder / "machine" / "agent.pid").read_text().split()
        os.killpg(int(pid), signal.SIGKILL)


class TappedInbox(Inbox):
    """The real one, with a tap on the wire."""

    folder: Path

    async def handle(self, sender: bytes, method: str, body: bytes) -> bytes:
        """Note a content key before anything looks at it."""
        if method == "key":
            key = msg.unpack(msg.KeyRelease, body)
            entry = {"sender": sender.hex(), "cid": key.cid, "sealed": key.sealed.hex()}
            append(self.folder / KEYS_SEEN, entry)
        return await super().handle(sender, method, body)


def run(given: argparse.Namespace) -> None:
    """One life of the daemon."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # never outlive who restarts it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    TappedInbox.folder = given.folder
    daemon.Inbox = TappedInbox  # type: ignore[misc]
    if given.effects:
        daemon.build_effects = dying_effects(given.folder)
    crash = Crash(given.folder, given.roles, given.only, given.with_machine)
    asyncio.run(daemon.run_daemon(load_config(given.folder), crash))


def main() -> None:
    """Start the daemon again whenever it ended, until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("roles", nargs="*", type=Role)
    parser.add_argument("--effects", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--with-machine", action="store_true")
    given = parser.parse_args()
    children: list[int] = []
    stopping: list[int] = []

    def stop(number: int, _frame: object) -> None:
        stopping.append(number)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    while not stopping:
        child = os.fork()
        if child == 0:
            try:
                run(given)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        children[:] = [child]
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
