"""Brings a motion of this Node to its decision: draws its round, collects votes, carries them in.

The same for every kind. All that is remembered stands on the chain, so a restart goes on there.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from agent.formats.cbor import FormatError
from nodeclient.chain import admission
from nodeclient.chain.errors import OrderReverted
from nodeclient.core.admission import (
    AdmissionParameters,
    Motion,
    MotionKind,
    able_among,
    is_signed_by,
    quorum_among,
)
from nodeclient.core.types import Address, Verdict
from nodeclient.duties.admitting import Admitter, Ask
from nodeclient.p2p.errors import PeerError
from nodeclient.p2p.messages import MotionQuestion, MotionVoteMessage, unpack
from nodeclient.ports import ChainReader, ChainSender, Order

log = logging.getLogger(__name__)
VERDICTS = (Verdict.AFFIRMING, Verdict.CONTRAINDICATED)
Vote = tuple[int, Verdict, admission.Signature]


class Motions:
    """`ask`: one request to a peer, raises PeerError."""

    def __init__(
        self, admitter: Admitter, *, chain: ChainReader, sender: ChainSender, ask: Ask
    ) -> None:
        self._admitter, self._chain, self._sender, self._ask = admitter, chain, sender, ask
        self._ledger = admitter.ledger
        self._refused: Counter[str] = Counter()

    async def is_void(self, motion: Motion, terms: AdmissionParameters, head: int) -> bool:
        """Whether its windows are over: the next block cannot decide it any more."""
        if head >= terms.vote_end(motion):
            return True
        undrawn = await self._ledger.committee(motion.round) is None
        return undrawn and head >= terms.draw_end(motion)

    async def execute(self, order: Order) -> None:
        """Once; what was mined and refused, under another key when it is due again: the journal
        gives the same answer to the same key for ever."""
        try:
            await self._sender.execute(
                replace(order, key=f"{order.key}/{self._refused[order.key]}")
            )
        except OrderReverted as refused:
            self._refused[order.key] += refused.tx_hash is not None
            raise

    async def bring(self, motion: Motion, terms: AdmissionParameters) -> Verdict | None:
        """Draw the round if nobody has, collect votes, and bring them once they are a quorum.

        The verdict that was brought; None: not yet. Raises Reverted, ChainUnavailable.
        """
        members = await self._ledger.members(motion.round)
        if members is None:
            header, _ = await self._chain.block_header(motion.round)
            await self.execute(admission.draw(f"admission/draw/{motion.round}", header))
            return None
        seats = tuple(terms.seats(motion, members))
        if motion.kind is MotionKind.ADMIT:
            self._admitter.answer_to(motion.id, frozenset(seats))
        # The vote of one who may not vote, say because it was barred since, would void the ballot.
        barred = {one for one in seats if await self._ledger.is_barred(one)}
        able = able_among(seats, barred, await self._ledger.accused(motion, seats))
        votes = await self._collect(motion, seats, able, terms)
        for verdict in VERDICTS:
            agreeing = [(seat, signature) for seat, said, signature in votes if said is verdict]
            if not able or len(agreeing) < quorum_among(len(able)):
                continue
            key, end = f"admission/decide/{motion.id}", terms.vote_end(motion)
            await self.execute(admission.decide(key, motion, members, verdict, end, agreeing))
            return verdict
        return None

    async def _collect(
        self,
        motion: Motion,
        seats: Sequence[Address],
        able: Sequence[Address],
        terms: AdmissionParameters,
    ) -> list[Vote]:
        """By seat, ascending. Who says nothing, or signs something else, is left out."""
        digests = {said: self._admitter.digest(motion, terms, said) for said in VERDICTS}

        async def one(seat: int, member: Address) -> Vote | None:
            try:
                vote = unpack(MotionVoteMessage, await self._asked(member, motion.id))
            except (PeerError, FormatError) as error:
                log.info("motion %d: member 0x%s: %s", motion.id, member.hex(), error)
                return None
            for verdict, digest in digests.items():
                if is_signed_by(member, digest, (vote.r, vote.vs)):
                    return seat, verdict, (vote.r, vote.vs)
            log.info("motion %d: member 0x%s signed something else", motion.id, member.hex())
            return None

        found = await asyncio.gather(*(one(*pair) for pair in enumerate(seats) if pair[1] in able))
        return [vote for vote in found if vote is not None]

    async def _asked(self, member: Address, motion: int) -> bytes:
        if member == self._admitter.me:
            return await self._admitter.vote(member, motion)
        return await self._ask(member, "motion_vote", MotionQuestion(motion))
