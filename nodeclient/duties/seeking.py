"""A PENDING Node seeks its admission: asks for it, draws its round, collects votes, brings them.

All that is remembered stands on the chain, so a restart goes on where it was. A motion burns a fee:
after a rejection, or after `TRIES` motions that nobody decided, it is the operator's turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from agent.formats.cbor import FormatError
from agent.formats.hashes import keccak256
from nodeclient.chain import admission
from nodeclient.chain.errors import OrderReverted
from nodeclient.core.admission import (
    AdmissionParameters,
    Motion,
    MotionKind,
    MotionState,
    is_signed_by,
    quorum_among,
)
from nodeclient.core.types import Address, NodeStatus, Verdict
from nodeclient.duties.admitting import Admitter, Ask
from nodeclient.errors import SealrunError
from nodeclient.p2p.errors import PeerError
from nodeclient.p2p.messages import MotionQuestion, MotionVoteMessage, unpack
from nodeclient.ports import ChainReader, ChainSender, Order, Root

TRIES = 3
log = logging.getLogger(__name__)
Vouch = tuple[int, tuple[int, int]]


class Seeker:
    """`maker`: digest of who made the root; `vouch`: what an admitter signed. Both are read anew
    for each request."""

    def __init__(
        self,
        admitter: Admitter,
        *,
        root: Root,
        chain: ChainReader,
        sender: ChainSender,
        ask: Ask,
        maker: Callable[[], bytes],
        vouch: Callable[[], Vouch],
        poll_seconds: float,
    ) -> None:
        self._admitter, self._root, self._chain, self._sender = admitter, root, chain, sender
        self._ask, self._maker, self._vouch, self._poll = ask, maker, vouch, poll_seconds
        self._ledger = admitter.ledger
        self._refused: Counter[str] = Counter()

    async def run(self) -> None:
        """Until the Node is admitted, or only its operator can help."""
        said = ""
        while True:
            try:
                record = await self._chain.node(self._admitter.me)
                if record is not None and record.status is not NodeStatus.PENDING:
                    return
                if not await self.step():
                    return
            except (SealrunError, FormatError) as error:
                if str(error) != said:  # once for each new reason
                    said = str(error)
                    log.warning("admission: %s", said)
            await asyncio.sleep(self._poll)

    async def step(self) -> bool:
        """What can be done now; False: nothing more without the operator."""
        terms = await self._admitter.parameters()
        head = (await self._chain.head()).number
        mine = [
            one
            for one in await self._ledger.motions_of(
                self._admitter.me, head - TRIES * terms.longest
            )
            if one.kind is MotionKind.ADMIT
        ]
        last = mine[-1] if mine else None
        state = None if last is None else await self._ledger.state(last.id)
        if state is MotionState.REJECTED:
            log.error("admission: the committee refused this node's hardware")
            return False
        if last is None or await self._is_void(last, terms, head):
            if len(mine) >= TRIES:
                log.error("admission: %d motions found no quorum; ask again later", len(mine))
                return False
            # An order of the same key is not carried out again: each request has its own, also
            # once the motions before it lie further back than this Node looks.
            place = f"at {head // (TRIES * terms.longest)}" if last is None else f"after {last.id}"
            await self._request(place, terms)
        elif head > last.round:
            await self._bring(last, terms)
        return True

    async def _is_void(self, motion: Motion, terms: AdmissionParameters, head: int) -> bool:
        """Whether its windows are over: the next block cannot decide it any more."""
        if head >= terms.vote_end(motion):
            return True
        undrawn = await self._ledger.committee(motion.round) is None
        return undrawn and head >= terms.draw_end(motion)

    async def _request(self, place: str, terms: AdmissionParameters) -> None:
        evidence = keccak256(await asyncio.to_thread(self._root.endorsement))
        key = f"admission/request/{self._admitter.me.hex()}/{place}"
        maker = await asyncio.to_thread(self._maker)
        order = admission.request(key, terms.fee, maker, evidence, self._vouch())
        await self._execute(order)

    async def _execute(self, order: Order) -> None:
        """Once; what was mined and refused, under another key when it is due again: the journal
        gives the same answer to the same key for ever."""
        try:
            await self._sender.execute(
                replace(order, key=f"{order.key}/{self._refused[order.key]}")
            )
        except OrderReverted as refused:
            self._refused[order.key] += refused.tx_hash is not None
            raise

    async def _bring(self, motion: Motion, terms: AdmissionParameters) -> None:
        """Draw the round if nobody has, collect votes, and bring them once they are a quorum."""
        members = await self._ledger.members(motion.round)
        if members is None:
            header, _ = await self._chain.block_header(motion.round)
            await self._execute(admission.draw(f"admission/draw/{motion.round}", header))
            return
        seats = tuple(terms.seats(motion, members))
        self._admitter.answer_to(motion.id, frozenset(seats))
        # The vote of one who was barred since would void the whole ballot.
        able = {one for one in seats if not await self._ledger.is_barred(one)}
        votes = await self._collect(motion, seats, able, terms)
        if len(votes) < quorum_among(len(able)):
            return
        await self._execute(
            admission.decide(
                f"admission/decide/{motion.id}",
                motion,
                members,
                Verdict.AFFIRMING,
                terms.vote_end(motion),
                votes,
            )
        )

    async def _collect(
        self,
        motion: Motion,
        seats: Sequence[Address],
        able: Collection[Address],
        terms: AdmissionParameters,
    ) -> list[tuple[int, admission.Signature]]:
        digest = self._admitter.digest(motion, terms)

        async def one(seat: int, member: Address) -> tuple[int, admission.Signature] | None:
            try:
                body = await self._ask(member, "motion_vote", MotionQuestion(motion.id))
                vote = unpack(MotionVoteMessage, body)
            except (PeerError, FormatError) as error:
                log.info("admission: member 0x%s: %s", member.hex(), error)
                return None
            if not is_signed_by(member, digest, (vote.r, vote.vs)):
                log.info("admission: member 0x%s signed something else", member.hex())
                return None
            return seat, (vote.r, vote.vs)

        found = await asyncio.gather(*(one(*pair) for pair in enumerate(seats) if pair[1] in able))
        return [vote for vote in found if vote is not None]
