"""Runs a node's daemon with the rogue effects beside its own. See the package's docstring."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from nodeclient import daemon
from nodeclient.config.node import load_config
from nodeclient.core import events as ev
from nodeclient.core.actions import Action
from nodeclient.duties.services import Services
from nodeclient.runner import Effect, Emit
from tests.e2e.rogues import Rogue, executor, member, requester
from tests.e2e.rogues.inbox import RogueInbox

build_honest = daemon.build_effects


def build_effects(services: Services) -> dict[type, Effect]:
    """The honest table with a switch before each effect that some rogue replaces."""
    table = build_honest(services)
    for module in (executor, member, requester):
        for (kind, rogue), effect in module.effects(services, dict(table)).items():
            table[kind] = switch(services, rogue, effect, table[kind])
    return table


def switch(services: Services, rogue: Rogue, wrong: Effect, honest: Effect) -> Effect:
    """``wrong`` in tasks whose fee names ``rogue``, else what was there before."""

    async def effect(action: Action, emit: Emit) -> ev.OutcomeEvent | None:
        case = services.store.case(action.commitment)
        fee = 0
        if case is not None and case.task is not None:
            fee = case.task.executor_fee
        elif case is not None and case.requester is not None:
            fee = case.requester.executor_fee
        return await (wrong if Rogue.of(fee) & rogue else honest)(action, emit)

    return effect


if __name__ == "__main__":
    daemon.build_effects = build_effects
    vars(daemon)["Inbox"] = RogueInbox
    asyncio.run(daemon.run_daemon(load_config(Path(sys.argv[1]))))
