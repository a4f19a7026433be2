"""Members that do not look, or are not there. Which seat it is, the rogue's name says."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.types import Verdict
from nodeclient.core.votes import sign, vote_on
from nodeclient.duties.services import Services
from nodeclient.runner import Effect, Emit
from tests.e2e.rogues import Rogue

Key = tuple[type[do.Action], Rogue]


def effects(services: Services, honest: Mapping[type, Effect]) -> dict[Key, Effect]:
    """What each rogue replaces."""
    me = services.me

    def seated(action: do.Action, seat: int) -> bool:
        case = services.store.case(action.commitment)
        return case is not None and bool(case.members) and case.members[seat] == me.address

    def always(verdict: Verdict) -> Effect:
        async def vote(action: do.AppraiseEvidence, emit: Emit) -> ev.OutcomeEvent | None:
            if not seated(action, 0):
                return await honest[do.AppraiseEvidence](action, emit)
            task = action.task
            said = vote_on(
                me.parameters, task, task.executor, action.phase, action.statement, verdict
            )
            services.note(action.commitment, f"rogue: {verdict.name} without a look")
            return ev.EvidenceAppraised(
                commitment=action.commitment,
                phase=action.phase,
                vote=sign(me.parameters, said, me.address, services.keys.account),
                evidence_root=action.statement.evidence_root,
                reasons=() if verdict is Verdict.AFFIRMING else ("rogue: no",),
                summary=b"",
            )

        return vote

    async def relay(action: do.SendBrief, emit: Emit) -> ev.OutcomeEvent | None:
        """A member's first duty is to relay the TaskSpec: some seats hang before it."""
        hang = Rogue.of(action.task.executor_fee)
        seats = {0: Rogue.SEAT_0_HALTS, 1: Rogue.SEAT_1_HALTS}
        if not action.members and any(hang & seats[n] and seated(action, n) for n in seats):
            os.kill(os.getpid(), signal.SIGSTOP)
        return await honest[do.SendBrief](action, emit)

    return {
        (do.AppraiseEvidence, Rogue.SEAT_0_SAYS_YES): always(Verdict.AFFIRMING),
        (do.AppraiseEvidence, Rogue.SEAT_0_SAYS_NO): always(Verdict.CONTRAINDICATED),
        (do.SendBrief, Rogue.SEAT_0_HALTS | Rogue.SEAT_1_HALTS): relay,
    }
