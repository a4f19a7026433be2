"""A Node of which only incidents are real: store, runner, log, ban and their effects.

Run as a program it is killed by SIGKILL between an incident and its response, or, with ``resume``,
carries out what the one before it left behind.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.case import Case
from nodeclient.core.incidents import Incident, Kind
from nodeclient.core.responses import DEFAULTS, Table
from nodeclient.core.roles.execution import State
from nodeclient.core.types import Address
from nodeclient.duties import responding
from nodeclient.errors import MachineError
from nodeclient.machine.ban import Ban
from nodeclient.p2p.errors import PeerSilent
from nodeclient.runner import Effect, Runner
from nodeclient.store.database import Store
from nodeclient.upkeep.incidents import IncidentLog, Incidents
from tests.core.test_roles import COMMITMENT, ME, OTHER, THIRD, me, running

RESUME = b"r"


@dataclass
class Desk:
    """A Machine that does as it is told, unless it is frozen or its power switch is broken."""

    frozen: bool = False
    broken: int = 0  # times that the switch fails
    did: list[str] = field(default_factory=list)

    async def call(self, resume: bytes, method: str, body: object) -> object:
        assert resume == RESUME
        if self.frozen:
            await asyncio.Event().wait()
        self.did.append(method)
        return b"transcript"

    async def power_off(self, resume: bytes) -> None:
        assert resume == RESUME
        if self.broken:
            self.broken -= 1
            raise MachineError("relay failed with 1", "try it by hand")
        self.did.append("off")


class IncidentNode:
    """``asked``: (member, message) of every report that went out."""

    def __init__(self, folder: Path, desk: Desk | None = None, table: Table = DEFAULTS) -> None:
        self.folder, self.desk = folder, desk or Desk()
        self.store = Store(folder / "node.db", bytes(32))
        self.ban, self.lines = Ban(folder / "machine"), IncidentLog(folder / "machine")
        self.asked: list[tuple[Address, Any]] = []
        self.booted: list[do.BootMachine] = []
        self.notes: list[str] = []
        self.kinds: list[Kind] = []
        self.unreached = 0  # reports that find nobody at first
        self.runner = Runner(
            self.store, replace(me(ME), responses=table), self.effects(), lambda _event: None
        )
        self.incidents = Incidents(
            self.lines,
            self.store,
            self.runner.tell,
            lambda _c, what, _p: self.notes.append(what),
            self.kinds.append,
        )

    def effects(self) -> dict[type, Effect]:
        async def wait(_action: do.Action, _emit: object) -> None:
            await asyncio.Event().wait()

        async def boot(action: do.BootMachine, _emit: object) -> None:
            self.booted.append(action)
            await asyncio.Event().wait()

        services: Any = SimpleNamespace(
            me=me(ME),
            settings=SimpleNamespace(silence_seconds=0.2),
            machine=self.desk,
            ban=self.ban,
            incidents=self.lines,
            note=lambda _c, what, private="": self.notes.append(what),
            ask=self.ask,
        )
        table: dict[type, Effect] = dict.fromkeys(do.Action.__subclasses__(), wait)
        return {**table, do.BootMachine: boot, **responding.effects(services)}

    async def ask(self, member: Address, method: str, message: object) -> bytes:
        assert method == "incident"
        if self.unreached:
            self.unreached -= 1
            raise PeerSilent("nobody there", "ask again")
        self.asked.append((member, message))
        return b""

    def hold(self, state: State = State.RUNNING) -> None:
        """A task is on the machine."""
        case, _ = running()
        assert case.executor is not None
        role = replace(case.executor, state=state, resume=RESUME)
        case = replace(case, executor=role, members=(OTHER, THIRD))
        watch = do.WatchMachine(commitment=COMMITMENT, task=case.on_chain(), resume=RESUME)
        self.store.apply(case, [watch])

    def case(self) -> Case:
        case = self.store.case(COMMITMENT)
        assert case is not None
        return case

    @property
    def handled(self) -> bool:
        role = self.case().executor
        return role is not None and bool(role.noticed) and all(n.done for n in role.noticed)

    async def until_handled(self) -> None:
        async with asyncio.timeout(60):
            while not self.handled:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        await self.runner.stop()
        self.store.close()


async def main(folder: Path, mode: str) -> None:
    node = IncidentNode(folder)
    if mode == "die":

        async def die(_action: do.Action, _emit: object) -> ev.OutcomeEvent:
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        node.hold()
        node.runner._effects = {**node.effects(), do.RespondToIncident: die}
        node.incidents.report(Incident(Kind.APPRAISAL, "pcr"))
        await asyncio.sleep(60)
    node.runner.resume()
    await node.until_handled()
    await node.stop()
    sys.stdout.write(" ".join(node.desk.did))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
