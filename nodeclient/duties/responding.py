"""Effects of an incident on the own Machine: members are told, the Machine is stopped, switched off
or banned."""

from __future__ import annotations

import asyncio
import time

from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.responses import Response
from nodeclient.core.types import Address
from nodeclient.duties.services import RETRY_SECONDS, Services
from nodeclient.errors import MachineError
from nodeclient.p2p.errors import PeerError
from nodeclient.p2p.messages import IncidentReport
from nodeclient.runner import Effect, Emit

REPORT_TRIES = 60  # of one member, RETRY_SECONDS apart and more


def effects(services: Services) -> dict[type[do.Action], Effect]:
    """The table of this module."""

    async def report(action: do.ReportIncident, emit: Emit) -> None:
        """Harmless twice: a member keeps a report once."""
        message = IncidentReport(
            action.commitment,
            int(action.phase),
            action.attempt,
            action.kind.value,
            action.text,
            action.ended,
        )

        async def tell(member: Address) -> None:
            for _ in range(REPORT_TRIES):
                try:
                    await services.ask(member, "incident", message)
                    return
                except PeerError:
                    await asyncio.sleep(RETRY_SECONDS)

        async with asyncio.TaskGroup() as telling:
            for member in set(action.members) - {services.me.address}:
                telling.create_task(tell(member))

    async def respond(action: do.RespondToIncident, emit: Emit) -> ev.OutcomeEvent:
        """Harmless twice: a ban stands once, an Agent that erased says so again, and power that is
        off stays off. The ban comes first: it must hold even if the power switch never works."""
        if Response.BAN in action.responses:
            services.ban.impose(f"{action.kind}: {action.text}", int(time.time()))
        if Response.STOP in action.responses:
            await stop(action)
        if Response.POWER_OFF in action.responses:
            await services.machine.power_off(action.resume)
        done = [response.value for response in action.responses]
        services.incidents.add(
            kind=action.kind.value, did=done, tasks=[action.commitment.hex()], number=action.number
        )
        services.note(action.commitment, f"incident {action.kind}: done: {', '.join(done)}")
        return ev.IncidentHandled(commitment=action.commitment, number=action.number)

    async def stop(action: do.RespondToIncident) -> None:
        """Bounded: an Agent that is frozen stops nothing, and only its power helps."""
        try:
            async with asyncio.timeout(services.settings.silence_seconds):
                await services.machine.call(action.resume, "stop", None)
        except (MachineError, TimeoutError) as error:
            services.note(action.commitment, "the agent did not stop the task", f": {error}")

    return {do.ReportIncident: report, do.RespondToIncident: respond}
