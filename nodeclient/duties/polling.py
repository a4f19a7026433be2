"""Effects of the Executor towards its Committee and the receivers: nonces, votes, notices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from agent.formats.taskspec import TaskSpec
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.types import Address, Vote, quorum_of
from nodeclient.core.votes import is_signed, vote_on
from nodeclient.duties.machine import evidence_key
from nodeclient.duties.services import RETRY_SECONDS, Services
from nodeclient.errors import MachineError
from nodeclient.p2p.errors import PeerError
from nodeclient.p2p.messages import (
    AppraisalRequest,
    NonceRequest,
    ResultNotice,
    VoteMessage,
    statement_fields,
    vote_of,
)
from nodeclient.runner import Effect, Emit

# How long a quorum waits for each member that is still missing: one block of 12 s, by which an
# honest member may be behind. Who is left out is not paid.
WAIT_FOR_ALL_SECONDS = 12.0
Answer = TypeVar("Answer")


def effects(services: Services) -> dict[type[do.Action], Effect]:
    """The table of this module."""
    me, store = services.me, services.store

    async def collect_nonces(action: do.CollectNonces, emit: Emit) -> ev.OutcomeEvent:
        """Harmless twice: a member gives the same nonce again."""
        request = NonceRequest(action.commitment, int(action.phase), action.attempt)
        nonces = await from_members(
            action.members, quorum_of(len(action.members)), lambda m: one_nonce(m, request)
        )
        return ev.NoncesCollected(
            commitment=action.commitment,
            phase=action.phase,
            attempt=action.attempt,
            nonces=tuple(sorted(nonces.items())),
        )

    async def one_nonce(member: Address, request: NonceRequest) -> bytes | None:
        try:
            nonce = await services.ask(member, "nonce", request)
        except PeerError:
            return None
        return nonce if len(nonce) == 32 else None

    async def collect_votes(action: do.CollectVotes, emit: Emit) -> ev.OutcomeEvent:
        """Harmless twice: a member repeats the vote that it cast."""
        evidence = store.blob(evidence_key(action.statement.evidence_root))
        if evidence is None:
            raise MachineError("the Evidence of this root is not stored", "report this defect")
        request = AppraisalRequest(
            commitment=action.commitment,
            phase=int(action.phase),
            statement=statement_fields(action.statement),
            evidence=evidence,
            nonces=action.nonces,
        )
        asked = tuple(member for member, _ in action.nonces)
        votes = await from_members(
            asked, quorum_of(len(action.members)), lambda m: one_vote(m, action, request)
        )
        return ballot(action, list(votes.values()))

    async def from_members(
        members: tuple[Address, ...],
        enough: int,
        ask: Callable[[Address], Awaitable[Answer | None]],
    ) -> dict[Address, Answer]:
        """Ask all at once, each until it answers, so that a silent one keeps nobody waiting.

        Ends when all answered, or ``WAIT_FOR_ALL_SECONDS`` after enough did.
        """
        answers: dict[Address, Answer] = {}

        async def insist(member: Address) -> None:
            while member not in answers:
                answer = await ask(member)
                if answer is None:
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    answers[member] = answer

        asking = {asyncio.create_task(insist(member)) for member in members}
        try:
            patience = None
            while asking:
                done, asking = await asyncio.wait(
                    asking, timeout=patience, return_when=asyncio.FIRST_COMPLETED
                )
                for each in done:
                    each.result()
                if not done:
                    break
                if len(answers) >= enough:
                    patience = WAIT_FOR_ALL_SECONDS
        finally:
            for each in asking:
                each.cancel()
        return dict(answers)

    async def one_vote(
        member: Address, action: do.CollectVotes, request: AppraisalRequest
    ) -> Vote | None:
        """An affirming vote over this very header, or None."""
        try:
            vote = vote_of(await services.ask_for(member, "appraise", request, VoteMessage))
        except (PeerError, ValueError):
            return None
        expected = replace(
            vote_on(me.parameters, action.task, me.address, action.phase, action.statement),
            member=member,
            r=vote.r,
            vs=vote.vs,
        )
        if vote != expected or not is_signed(me.parameters, vote):
            return None
        return vote

    def ballot(action: do.CollectVotes, votes: list[Vote]) -> ev.OutcomeEvent:
        seats = {member: seat for seat, member in enumerate(action.members)}
        ordered = sorted(votes, key=lambda vote: seats[vote.member])
        return ev.BallotCollected(
            commitment=action.commitment,
            phase=action.phase,
            valid_until=ordered[0].valid_until,
            voters=sum(1 << seats[vote.member] for vote in ordered),
            signatures=tuple((vote.r, vote.vs) for vote in ordered),
        )

    async def announce(action: do.AnnounceResults, emit: Emit) -> None:
        """One try each: receivers with a consent fetch without being told."""
        for receiver in TaskSpec.decode(action.spec).receivers:
            try:
                await services.ask(
                    Address(receiver.node), "notice", ResultNotice(action.commitment)
                )
            except PeerError as error:
                services.note(action.commitment, "a receiver was not reached", f": {error.message}")

    return {
        do.CollectNonces: collect_nonces,
        do.CollectVotes: collect_votes,
        do.AnnounceResults: announce,
    }
