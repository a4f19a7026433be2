"""Requesters that keep the TaskSpec for themselves, or post without asking the owners."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from agent.formats.taskspec import TaskSpec
from nodeclient.capsules.consents import build_consent, owners_of
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.duties.services import Services
from nodeclient.runner import Effect, Emit
from tests.e2e.rogues import Rogue

Key = tuple[type[do.Action], Rogue]


def effects(services: Services, honest: Mapping[type, Effect]) -> dict[Key, Effect]:
    """What each rogue replaces."""

    async def keep_brief(action: do.SendBrief, emit: Emit) -> ev.OutcomeEvent | None:
        await asyncio.Event().wait()
        return None

    async def forge_consents(action: do.GatherConsents, emit: Emit) -> ev.OutcomeEvent | None:
        """Nobody is asked: each owner's consent is signed with the requester's own root."""
        owners = owners_of(TaskSpec.decode(action.spec))
        consents = tuple(
            build_consent(
                services.me.parameters, action.commitment, owner, cids, services.root.sign
            )
            for owner, cids in owners.items()
        )
        return ev.ConsentsGathered(commitment=action.commitment, consents=consents)

    return {
        (do.SendBrief, Rogue.NO_BRIEF): keep_brief,
        (do.GatherConsents, Rogue.NO_CONSENT): forge_consents,
    }
