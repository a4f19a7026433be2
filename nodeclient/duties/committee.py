"""Effects of a Committee member: appraise, ask at own times, sign, share.

Judging stands in ``appraising``, the run in ``questioning``; here is what goes to the fellows.
"""

from __future__ import annotations

import asyncio

from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.types import Address, Verdict
from nodeclient.core.votes import sign, unsigned
from nodeclient.duties.appraising import Appraiser
from nodeclient.duties.questioning import Questioner
from nodeclient.duties.services import RETRY_SECONDS, Services
from nodeclient.p2p.errors import PeerError
from nodeclient.p2p.messages import vote_message
from nodeclient.runner import Effect, Emit

SHARE_TRIES = 20


def effects(services: Services) -> dict[type[do.Action], Effect]:
    """The table of this module."""
    me = services.me
    appraiser = Appraiser(services)
    questioner = Questioner(services, appraiser)

    async def sign_dissent(action: do.SignDissent, emit: Emit) -> ev.OutcomeEvent:
        """The same vote every time: it follows from the chain."""
        vote = unsigned(
            me.parameters,
            action.task,
            action.phase,
            action.attempt,
            action.header,
            Verdict.CONTRAINDICATED,
        )
        signed = sign(me.parameters, vote, me.address, services.keys.account)
        return ev.DissentSigned(commitment=action.commitment, vote=signed)

    async def share_vote(action: do.ShareVote, emit: Emit) -> None:
        """Harmless twice: a fellow counts a member's vote once."""
        message = vote_message(action.commitment, action.vote)

        async def tell(member: Address) -> None:
            for _ in range(SHARE_TRIES):
                try:
                    await services.ask(member, "vote", message)
                    return
                except PeerError:
                    await asyncio.sleep(RETRY_SECONDS)

        async with asyncio.TaskGroup() as sharing:
            for member in set(action.members) - {me.address}:
                sharing.create_task(tell(member))

    return {
        do.AppraiseEvidence: appraiser.appraise,
        do.LearnBefore: questioner.learn_before,
        do.AskDuring: questioner.ask,
        do.SignDissent: sign_dissent,
        do.ShareVote: share_vote,
    }
