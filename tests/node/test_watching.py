"""When an honest Executor ends the questions: not before a quorum of members has answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.formats.outcome import State as AgentState
from agent.formats.outcome import Status
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.types import Address
from nodeclient.duties import machine
from nodeclient.store.database import Store
from tests.core.evidence_kit import OUTCOME
from tests.core.test_roles import ASKER, COMMITMENT, OTHER, THIRD, me, running

MEMBERS = (OTHER, THIRD, ASKER)


class Run:
    """A run that is over on the Machine; ``noted`` answers were given."""

    def __init__(self, folder: Path, *noted: Address) -> None:
        self.store = Store(folder / "node.db", bytes(32))
        case, _ = running()
        self.case = replace(case, members=MEMBERS)
        self.store.apply(self.case, ())
        self.polled, self.counted = 0, 0
        for member in noted:
            self.answer(member)

    def answer(self, member: Address) -> None:
        self.counted += 1
        self.store.add_answer(COMMITMENT, member, bytes([self.counted]) * 32, bytes(32))

    async def call(self, *_: object) -> object:
        self.polled += 1
        return Status(AgentState.DONE, (), self.counted, OUTCOME).to_body()

    def watch(self) -> asyncio.Task[Any]:
        services: Any = SimpleNamespace(
            me=me(),
            machine=SimpleNamespace(call=self.call),
            store=self.store,
            settings=SimpleNamespace(min_answers=3),
            note=lambda *_: None,
        )
        action = do.WatchMachine(commitment=COMMITMENT, task=self.case.on_chain(), resume=b"r")
        effect: Any = machine.effects(services)[do.WatchMachine]
        return asyncio.create_task(effect(action, lambda _event: None))

    async def still_waits(self, watching: asyncio.Task[Any]) -> bool:
        """After some more looks."""
        until = self.polled + 5
        while self.polled < until and not watching.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return not watching.done()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "POLL_SECONDS", 0.0)


async def test_every_member_has_an_answer__ends_at_once(tmp_path: Path) -> None:
    ended = await asyncio.wait_for(Run(tmp_path, OTHER, THIRD, ASKER).watch(), 60)
    assert isinstance(ended, ev.MachineRan)


async def test_answers_to_one_member_only__waits_however_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only that member could affirm: the others were answered nothing."""
    monkeypatch.setattr(machine, "LEAVE_OUT_SECONDS", 0.0)
    run = Run(tmp_path, *[OTHER] * 9)
    watching = run.watch()
    assert await run.still_waits(watching)
    run.answer(THIRD)
    assert isinstance(await asyncio.wait_for(watching, 60), ev.MachineRan)


async def test_quorum_has_answers__the_others_are_waited_for(tmp_path: Path) -> None:
    run = Run(tmp_path, OTHER, OTHER, THIRD)
    watching = run.watch()
    assert await run.still_waits(watching)
    run.answer(ASKER)
    assert isinstance(await asyncio.wait_for(watching, 60), ev.MachineRan)
