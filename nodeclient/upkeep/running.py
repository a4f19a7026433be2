"""What this Node runs, stated to its peers; and what they run, asked and held against the chain.

One peer after another is asked, at intervals; one whose answer did not fit is asked again when the
grace is over, so that a finding stands on two answers. What a finding does is little, and on
purpose (docs/adr/0028): it is written down and shown, and as a member this Node does not let a
Machine begin a task while its Pi runs what the chain does not approve. Whoever does not answer
is no finding.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from agent.formats import p256
from agent.formats.cbor import FormatError
from nodeclient.core.images import ImageKind
from nodeclient.core.running import (
    GRACE_BLOCKS,
    Known,
    Mismatch,
    RunningSet,
    findings,
    mismatches,
    running_digest,
    weigh,
)
from nodeclient.core.types import Address, BlockRef, Parameters
from nodeclient.errors import ChainUnavailable
from nodeclient.images.picture import Picture
from nodeclient.p2p.errors import PeerError
from nodeclient.p2p.messages import RunningAnswer, RunningRequest, unpack
from nodeclient.ports import ChainReader, Root
from nodeclient.upkeep.loads import LoadBook

log = logging.getLogger(__name__)
RETRY_SECONDS = 5.0
Ask = Callable[[Address, str, object], Awaitable[bytes]]
UNSIGNED = Mismatch(b"", grave=False, reason="its statement is not its own")


@dataclass(frozen=True)
class OwnSet:
    """States what this Node runs. ``boot`` gives the image of the Machine that is on, if any;
    ``picture`` what the guard of the services saw last."""

    address: Address
    parameters: Parameters
    registry: Address
    root: Root
    head: Callable[[], int]
    boot: Callable[[], bytes]
    picture: Callable[[], Picture]

    def now(self, nonce: bytes = bytes(32)) -> RunningSet:
        """The statement's content."""
        picture = self.picture()
        return RunningSet(
            self.address, nonce, self.head(), self.boot(), picture.services, picture.block
        )

    async def signed(self, nonce: bytes) -> RunningAnswer:
        """The answer to a peer. Raises RootError."""
        statement = self.now(nonce).encode()
        digest = running_digest(self.parameters.chain_id, self.registry, statement)
        return RunningAnswer(statement, await asyncio.to_thread(self.root.sign, digest))


@dataclass
class PeerState:
    """What is known of one peer's running set."""

    standing: Mapping[Mismatch, int] = field(default_factory=dict)
    block: int = 0
    stated: RunningSet | None = None

    @property
    def findings(self) -> tuple[Mismatch, ...]:
        """What two answers showed."""
        return findings(self.standing, self.block)


class RunningWatch:
    """Asks peers. ``found`` is told of every new finding; ``counters`` what was asked and found."""

    def __init__(
        self,
        chain: ChainReader,
        parameters: Parameters,
        registry: Address,
        loads: LoadBook,
        ask: Ask,
        peers: Callable[[], tuple[Address, ...]],
        found: Callable[[Address, Mismatch], None],
        seconds: float,
    ) -> None:
        self._chain, self._parameters, self._registry = chain, parameters, registry
        self._loads, self._ask, self._peers, self._found = loads, ask, peers, found
        self._seconds = seconds
        self._states: dict[Address, PeerState] = {}
        self._round: list[Address] = []
        self.counters = {"asked": 0, "unanswered": 0, "findings": 0}

    @property
    def standing(self) -> dict[Address, tuple[Mismatch, ...]]:
        """All findings that stand now."""
        return {who: each.findings for who, each in self._states.items() if each.findings}

    def against(self, node: Address) -> str:
        """Why a Machine behind this Node should not begin a task; empty: nothing is known."""
        state = self._states.get(node)
        grave = [each for each in state.findings if each.grave] if state else []
        return str(grave[0]) if grave else ""

    async def run(self) -> None:
        """Ask for ever. Ends only by cancellation."""
        while True:
            await asyncio.sleep(self._seconds * random.uniform(0.5, 1.5))  # noqa: S311  (no lottery)
            try:
                head = await self._chain.head()
                peer = self._next(head.number)
                if peer is not None:
                    await self.look(peer, head)
            except ChainUnavailable:
                await asyncio.sleep(RETRY_SECONDS)

    def _next(self, head: int) -> Address | None:
        """Who is due: first those whose grace is over, then one after the other."""
        known = set(self._peers())
        self._states = {who: each for who, each in self._states.items() if who in known}
        for who, state in self._states.items():
            if state.standing and not state.findings and head - state.block >= GRACE_BLOCKS:
                return who
        self._round = [each for each in self._round if each in known] or sorted(known)
        if not self._round:
            return None
        return self._round.pop(secrets.randbelow(len(self._round)))

    async def look(self, peer: Address, head: BlockRef) -> None:
        """Ask one peer and weigh its answer. Raises ChainUnavailable."""
        nonce = secrets.token_bytes(32)
        self.counters["asked"] += 1
        try:
            body = await self._ask(peer, "running", RunningRequest(nonce))
        except PeerError as error:
            self.counters["unanswered"] += 1
            log.info("0x%s does not say what it runs: %s", peer.hex(), error)
            return
        stated, shown = await self._judge(peer, nonce, body, head)
        state = self._states.setdefault(peer, PeerState())
        former = set(state.findings)
        state.standing = weigh(state.standing, shown, head.number)
        state.block, state.stated = head.number, stated
        for each in state.findings:
            if each not in former:
                self.counters["findings"] += 1
                self._found(peer, each)

    async def _judge(
        self, peer: Address, nonce: bytes, body: bytes, head: BlockRef
    ) -> tuple[RunningSet | None, tuple[Mismatch, ...]]:
        try:
            answer = unpack(RunningAnswer, body)
            stated = RunningSet.decode(answer.statement)
        except FormatError:
            return None, (UNSIGNED,)
        record = await self._chain.node(peer)
        digest = running_digest(self._parameters.chain_id, self._registry, answer.statement)
        own = stated.node == peer and stated.nonce == nonce
        if (
            record is None
            or not own
            or not p256.verify(record.root_public, digest, answer.signature)
        ):
            return None, (UNSIGNED,)
        known = {
            image: Known(await self._chain.image(image), self._loads.reported(peer, image))
            for image, _ in stated.images()
        }
        return stated, mismatches(stated, known, head.timestamp)


def boot_of(newest: Callable[[ImageKind], bytes | None], is_on: Callable[[], bool]) -> bytes:
    """The boot image to state: only while a Machine is on, else none runs."""
    return (newest(ImageKind.BOOT) or b"") if is_on() else b""
