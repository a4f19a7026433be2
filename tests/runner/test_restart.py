"""The runner over a real store, through two lives of one Node."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.case import Role
from nodeclient.core.types import Commitment
from nodeclient.runner import Emit, Runner
from nodeclient.store.database import Store
from tests.core.test_roles import ASKER, COMMITMENT, OWNER, SPEC, me

KEY = b"k" * 32


class Life:
    """A runner whose only effect signs consents, after ``ready`` is set."""

    def __init__(self, store: Store, ready: bool) -> None:
        self.ready = asyncio.Event()
        if ready:
            self.ready.set()
        who = me(OWNER, Role.BROKER)
        self.runner = Runner(store, who, {do.SignConsent: self.sign}, lambda _: None)

    async def sign(self, action: do.SignConsent, emit: Emit) -> None:
        await self.ready.wait()
        self.runner.answer(action.request, b"consent for " + action.commitment)

    def ask(self, commitment: Commitment) -> asyncio.Task[object]:
        def build(request: int) -> ev.ConsentAsked:
            return ev.ConsentAsked(
                sender=ASKER, request=request, commitment=commitment, spec=SPEC, reasons=()
            )

        return asyncio.create_task(self.runner.ask(build, 60.0))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "node.db", KEY)
    yield store
    store.close()


async def test_restart__answer_owed_in_the_last_life__reaches_nobody_else(store: Store) -> None:
    first, other = Life(store, ready=False), Commitment(b"o" * 32)
    first.ask(COMMITMENT).cancel()
    asked = first.ask(COMMITMENT)
    await asyncio.sleep(0)
    await first.runner.stop()
    second = Life(store, ready=True)
    waiting = second.ask(other)
    second.runner.resume()
    assert await waiting == b"consent for " + other
    asked.cancel()


async def test_restart__same_question_again__is_answered_again(store: Store) -> None:
    first = Life(store, ready=True)
    assert await first.ask(COMMITMENT) == b"consent for " + COMMITMENT
    await first.runner.stop()
    second = Life(store, ready=True)
    assert await second.ask(COMMITMENT) == b"consent for " + COMMITMENT
    await second.runner.stop()
