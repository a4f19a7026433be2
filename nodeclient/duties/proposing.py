"""What this Node moves: to bar a chip or a maker, to name or dismiss who vouches for Zymkeys.

The operator opens a motion, once; from then on the daemon brings it to its decision, over restarts.
Operators of the other members may take days to decide, so they are asked ever more rarely.
"""

from __future__ import annotations

import asyncio
import logging

from agent.formats.cbor import FormatError
from nodeclient.chain import admission
from nodeclient.core.admission import AdmissionParameters, Motion, MotionKind, MotionState
from nodeclient.duties.admitting import Admitter
from nodeclient.duties.motions import Motions
from nodeclient.errors import ChainUnavailable, SealrunError
from nodeclient.ports import ChainReader

log = logging.getLogger(__name__)
LAST_PAUSE = 60.0  # seconds between two rounds of questions, at most


class Proposer:
    """``open`` is the operator's; ``run`` goes on by itself. ``poll_seconds``: the first pause."""

    def __init__(
        self, admitter: Admitter, motions: Motions, chain: ChainReader, poll_seconds: float
    ) -> None:
        self._admitter, self._motions, self._chain = admitter, motions, chain
        self._ledger, self._poll = admitter.ledger, poll_seconds
        self._opening, self._news = asyncio.Lock(), asyncio.Event()
        self._said: dict[int, str] = {}

    async def propose(self, kind: MotionKind, subject: bytes, evidence: bytes) -> Motion:
        """Move it, which burns a fee; one that is open already is given instead.

        Raises Reverted (an ACTIVE Node alone may), ChainUnavailable.
        """
        async with self._opening:
            terms = await self._admitter.parameters()
            head = (await self._chain.head()).number
            found = await self._find(kind, subject, terms, head)
            if found is None:
                own = await self._ledger.motions_of(self._admitter.me, head - terms.longest)
                # An order of the same key is not carried out again: one that is in the air is
                # waited for, and each motion has its own.
                place = f"after {own[-1].id}" if own else f"at {head // terms.longest}"
                key = f"admission/propose/{kind.name}/{subject.hex()}/{place}"
                order = admission.propose(key, terms.fee, kind, subject, evidence)
                await self._motions.execute(order)
                found = await self._find(kind, subject, terms, head)
            if found is None:
                # Only a motion that was found is brought, and counted as this Node's yes.
                again = "open it again: that burns nothing more"
                raise ChainUnavailable("the chain does not show the motion yet", again)
        self._news.set()
        return found

    async def _find(
        self, kind: MotionKind, subject: bytes, terms: AdmissionParameters, head: int
    ) -> Motion | None:
        open_ = await self._own(terms, head)
        return next((one for one in open_ if (one.kind, one.subject) == (kind, subject)), None)

    async def _own(self, terms: AdmissionParameters, head: int) -> list[Motion]:
        """This Node's motions that can still be decided; not that of its own admission."""
        moved = await self._ledger.motions_of(self._admitter.me, head - terms.longest)
        return [
            one
            for one in moved
            if one.kind is not MotionKind.ADMIT
            and await self._ledger.state(one.id) is MotionState.OPEN
            and not await self._motions.is_void(one, terms, head)
        ]

    async def run(self) -> None:
        """Bring what is open, after a start what an earlier life opened. Ends by cancellation."""
        self._news.set()
        while True:
            await self._news.wait()
            pause, going = self._poll, True
            while going:
                self._news.clear()
                try:
                    going = await self.step()
                except ChainUnavailable as error:
                    log.info("motions: %s", error)
                try:
                    async with asyncio.timeout(pause):
                        await self._news.wait()
                    pause = self._poll
                except TimeoutError:
                    pause = min(2 * pause, LAST_PAUSE)

    async def step(self) -> bool:
        """What can be done now; False: nothing is open. Raises ChainUnavailable."""
        terms = await self._admitter.parameters()
        head = (await self._chain.head()).number
        open_ = await self._own(terms, head)
        for motion in open_:
            try:
                brought = head > motion.round and await self._motions.bring(motion, terms)
                if brought:
                    log.info("motion %d: decided, %s", motion.id, brought.name)
            except (SealrunError, FormatError) as error:
                if self._said.get(motion.id) != str(error):  # once for each new reason
                    self._said[motion.id] = str(error)
                    log.warning("motion %d: %s", motion.id, error)
        return bool(open_)
