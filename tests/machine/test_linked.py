"""Calls to an Agent that has enough to do: they wait their turn, and the Machine is not lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.formats.link import HELLO, new_certificate
from agent.formats.rpc import Handler, RpcError
from nodeclient.errors import MachineRefused
from nodeclient.machine.link import Link
from nodeclient.machine.local import LocalSettings
from nodeclient.machine.supply import Supply
from tests.machine.linked import Linked
from tests.machine.test_link import KEYS, SECONDS, dial, hello

CALLS = 40  # an Agent has eight in progress, and at four times that number it hangs up


@asynccontextmanager
async def machine(folder: Path, agent: Handler, call_seconds: float) -> AsyncIterator[Linked]:
    """A Machine with an Agent that said hello and answers by this handler."""

    async def refuse(*_: object) -> Any:
        raise RpcError("missing", "nothing here")

    slot: Any = None
    settings = LocalSettings(folder, boot_seconds=SECONDS, call_seconds=call_seconds)
    made = Linked(settings, Supply(refuse, refuse, refuse), slot, lambda _: None)
    link = made._link = Link(KEYS, made._serve)
    certificate, key = new_certificate("agent")
    caller = await dial(link.listen("127.0.0.1", 0), certificate, certificate, key, agent)
    try:
        await caller.call(HELLO, hello(KEYS.boot_secret, certificate), SECONDS)
        yield made
    finally:
        await caller.close()
        await made.let_go()


async def test_call__more_at_once_than_the_agent_takes__all_are_answered(tmp_path: Path) -> None:
    """Held until the Agent has refused some: without asking again those would be lost."""
    began, most = 0, asyncio.Event()

    async def slow(_method: str, body: object) -> object:
        nonlocal began
        began += 1
        if began == 8:
            most.set()
        await most.wait()
        await asyncio.sleep(0.3)
        return body

    async with machine(tmp_path, slow, SECONDS) as made:
        answers = await asyncio.gather(*(made.call("ask", number) for number in range(CALLS)))
    assert answers == list(range(CALLS))
    assert began == CALLS


async def test_call__agent_that_stays_busy__given_up_with_its_own_words(tmp_path: Path) -> None:
    async def busy(_method: str, _body: object) -> object:
        raise RpcError("busy", "8 requests in progress; try again")

    async with machine(tmp_path, busy, 0.5) as made:
        with pytest.raises(MachineRefused, match="8 requests in progress"):
            await made.call("ask", None)


async def test_call__another_refusal__is_not_asked_again(tmp_path: Path) -> None:
    asked = 0

    async def refuse(_method: str, _body: object) -> object:
        nonlocal asked
        asked += 1
        raise RpcError("no_task", "nothing was prepared")

    async with machine(tmp_path, refuse, SECONDS) as made:
        with pytest.raises(MachineRefused, match="nothing was prepared"):
            await made.call("ask", None)
    assert asked == 1


async def test_let_go__while_calls_wait_for_their_turn_and_for_the_agent__all_are_told(
    tmp_path: Path,
) -> None:
    async def busy_or_silent(_method: str, body: object) -> object:
        if body == 0:
            raise RpcError("busy", "8 requests in progress; try again")
        return await asyncio.Event().wait()

    async with machine(tmp_path, busy_or_silent, SECONDS) as made:
        calls = [asyncio.create_task(made.call("ask", number % 2)) for number in range(CALLS)]
        await asyncio.sleep(0.3)  # some are refused, some answered by nobody, the rest not sent yet
        await made.let_go()
        async with asyncio.timeout(SECONDS):
            ended = await asyncio.gather(*calls, return_exceptions=True)
    assert {str(each).partition(";")[0] for each in ended} == {"the Machine was let go"}
