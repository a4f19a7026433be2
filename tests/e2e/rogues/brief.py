"""A requester that sends another TaskSpec than the one it committed to:
``python -m tests.e2e.rogues.brief <folder>``."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from agent.formats.taskspec import TaskSpec
from nodeclient import daemon
from nodeclient.config.node import load_config
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.duties.services import Services
from nodeclient.runner import Effect, Emit

build_honest = daemon.build_effects


def build_effects(services: Services) -> dict[type, Effect]:
    """The honest table; what is sent names another command."""
    table = build_honest(services)
    honest = table[do.SendBrief]

    async def send(action: do.SendBrief, emit: Emit) -> ev.OutcomeEvent | None:
        other = replace(TaskSpec.decode(action.spec), command=("/bin/cp", "-r", "/capsule/in"))
        return await honest(replace(action, spec=other.encode()), emit)

    return {**table, do.SendBrief: send}


if __name__ == "__main__":
    daemon.build_effects = build_effects
    asyncio.run(daemon.run_daemon(load_config(Path(sys.argv[1]))))
