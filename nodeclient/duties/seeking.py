"""A PENDING Node seeks its admission: asks for it, draws its round, collects votes, brings them.

All that is remembered stands on the chain, so a restart goes on where it was. A motion burns a fee:
after a rejection, or after `TRIES` motions that nobody decided, it is the operator's turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from agent.formats.cbor import FormatError
from agent.formats.hashes import keccak256
from nodeclient.chain import admission
from nodeclient.core.admission import AdmissionParameters, MotionKind, MotionState
from nodeclient.core.types import NodeStatus
from nodeclient.duties.admitting import Admitter, Ask
from nodeclient.duties.motions import Motions
from nodeclient.errors import SealrunError
from nodeclient.ports import ChainReader, ChainSender, Root

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
        self._admitter, self._root, self._chain = admitter, root, chain
        self._maker, self._vouch, self._poll = maker, vouch, poll_seconds
        self._ledger = admitter.ledger
        self._motions = Motions(admitter, chain=chain, sender=sender, ask=ask)

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
        if last is None or await self._motions.is_void(last, terms, head):
            if len(mine) >= TRIES:
                log.error("admission: %d motions found no quorum; ask again later", len(mine))
                return False
            # An order of the same key is not carried out again: each request has its own, also
            # once the motions before it lie further back than this Node looks.
            place = f"at {head // (TRIES * terms.longest)}" if last is None else f"after {last.id}"
            await self._request(place, terms)
        elif head > last.round:
            await self._motions.bring(last, terms)
        return True

    async def _request(self, place: str, terms: AdmissionParameters) -> None:
        evidence = keccak256(await asyncio.to_thread(self._root.endorsement))
        key = f"admission/request/{self._admitter.me.hex()}/{place}"
        maker = await asyncio.to_thread(self._maker)
        order = admission.request(key, terms.fee, maker, evidence, self._vouch())
        await self._motions.execute(order)
