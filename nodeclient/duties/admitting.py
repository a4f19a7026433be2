"""A committee member's votes on motions, and a candidate's answers to who judges its hardware.

The candidate asks each member for its vote; the member looks the motion up on the chain, asks the
candidate back for its endorsement, judges it against the makers that *it* believes, and lets the
chip answer: a TPM opens a secret that was sealed to its endorsement key and its root key together,
a Zymkey signs a fresh number. What a member cannot check it does not affirm, and nobody takes
another's word for it. Whether to bar something, or who vouches, people decide: on those motions a
member votes as its operator has said beforehand, or not at all. A vote is a signature over what the
chain says: twice is as once.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.formats import p256
from agent.formats.endorsement import CREDENTIAL, Challenge
from nodeclient.attestation.activation import new_activation
from nodeclient.attestation.makers import load_makers
from nodeclient.chain.admission import AdmissionLedger
from nodeclient.core.admission import (
    AdmissionParameters,
    Motion,
    MotionKind,
    MotionState,
    motion_digest,
    sign,
)
from nodeclient.core.hardware import (
    HardwareFault,
    challenge_digest,
    check_candidate,
    check_class,
    check_tpm,
    check_zymkey,
)
from nodeclient.core.types import Address, NodeRecord, RootClass, Verdict
from nodeclient.p2p.errors import PeerBusy, PeerRefused
from nodeclient.p2p.limits import OverLimit, Slots
from nodeclient.p2p.messages import (
    MotionQuestion,
    MotionVoteMessage,
    RootActivation,
    RootChallenge,
    pack,
    unpack,
)
from nodeclient.ports import ChainReader, Root

MAX_ENDORSEMENT = 40 << 10
ASKED_AT_ONCE = 6  # motions that are looked up or judged; each costs the chain's endpoint calls
JUDGED_AT_ONCE = 2  # each makes a TPM and a certificate chain work
Ask = Callable[[Address, str, object], Awaitable[bytes]]


class Admitter:
    """`ask`: one request to a peer, raises PeerError. `makers`: folder of root certificates.
    `decide`: what the operator decided about a motion that admits nobody; None: nothing.

    `account`: the account key, which signs votes; asked for at each, as it may be wiped.
    """

    def __init__(
        self,
        *,
        me: Address,
        chain_id: int,
        account: Callable[[], bytes],
        root: Root,
        chain: ChainReader,
        ledger: AdmissionLedger,
        ask: Ask,
        makers: Path,
        accept_simulated: bool,
        decide: Callable[[Motion], Verdict | None],
    ) -> None:
        self.me, self._chain_id, self._account, self._root = me, chain_id, account, root
        self._chain, self.ledger, self._ask = chain, ledger, ask
        self._makers, self._accept_simulated, self._decide = makers, accept_simulated, decide
        # One each: a candidate that is slow to answer holds up no other.
        self._asking, self._judging = Slots(ASKED_AT_ONCE, 1), Slots(JUDGED_AT_ONCE, 1)
        self._parameters: AdmissionParameters | None = None
        self._asked: dict[int, frozenset[Address]] = {}

    def methods(self) -> dict[str, Callable[[Address, bytes], Awaitable[bytes]]]:
        """What peers may ask, by method: each takes the authenticated sender and the body."""
        return {
            "motion_vote": self._serve_vote,
            "root_endorsement": self._serve_endorsement,
            "root_activate": self._serve_activate,
            "root_challenge": self._serve_challenge,
        }

    async def _serve_vote(self, sender: Address, body: bytes) -> bytes:
        return await self.vote(sender, unpack(MotionQuestion, body).motion)

    async def _serve_endorsement(self, sender: Address, body: bytes) -> bytes:
        return await self.endorsement(sender, unpack(MotionQuestion, body).motion)

    async def _serve_activate(self, sender: Address, body: bytes) -> bytes:
        return await self.activate(sender, unpack(RootActivation, body))

    async def _serve_challenge(self, sender: Address, body: bytes) -> bytes:
        return await self.challenge(sender, unpack(RootChallenge, body))

    async def parameters(self) -> AdmissionParameters:
        """The ledger's immutables; asked for once."""
        if self._parameters is None:
            self._parameters = await self.ledger.parameters()
        return self._parameters

    # --- a member -----------------------------------------------------------------------------

    async def vote(self, sender: Address, number: int) -> bytes:
        """This member's vote on a motion. Raises PeerRefused with the reason for none."""
        try:
            # Before anything is looked up: whoever is PENDING may ask, and about nothing at all.
            with self._asking.hold(sender):
                motion, terms = await self._open_motion(sender, number)
                verdict = await self._verdict(sender, motion)
        except OverLimit:
            raise PeerBusy("busy judging", "ask again") from None
        r, vs = sign(self.digest(motion, terms, verdict), self._account())
        return pack(MotionVoteMessage(terms.vote_end(motion), r, vs))

    async def _verdict(self, sender: Address, motion: Motion) -> Verdict:
        """Of a candidate's hardware this Node's own judgement; else what its operator decided."""
        if motion.kind is not MotionKind.ADMIT:
            decided = self._decide(motion)
            if decided is None:
                raise PeerRefused("this node's operator has not decided that", "ask again later")
            return decided
        record = await self._chain.node(sender)
        if record is None:
            raise PeerRefused("no such node", "register first")
        with self._judging.hold(sender):
            await self._judge(motion, record)
        return Verdict.AFFIRMING

    def digest(self, motion: Motion, terms: AdmissionParameters, verdict: Verdict) -> bytes:
        """What every member of that opinion signs: until the motion's last block."""
        return motion_digest(
            self._chain_id, self.ledger.address, motion, verdict, terms.vote_end(motion)
        )

    async def _open_motion(
        self, sender: Address, number: int
    ) -> tuple[Motion, AdmissionParameters]:
        """The motion, if it is the sender's and this Node has a seat in it. Raises PeerRefused."""
        terms = await self.parameters()
        head = (await self._chain.head()).number
        motion = await self.ledger.motion(number, head - terms.longest)
        if motion is None or motion.proposer != sender or head > terms.vote_end(motion):
            raise PeerRefused("no open motion of yours has this number", "open one")
        if await self.ledger.state(number) is not MotionState.OPEN:
            raise PeerRefused("the motion is decided", "look at the ledger")
        members = await self.ledger.members(motion.round)
        if members is None:
            raise PeerBusy("the round is not drawn", "draw it first")
        if self.me not in terms.seats(motion, members):
            raise PeerRefused("this node has no seat in the motion", "ask its members")
        return motion, terms

    async def _judge(self, motion: Motion, record: NodeRecord) -> None:
        """Raises HardwareFault, FormatError, PeerError, MakersUnreadable: no vote."""
        check_candidate(motion, record)
        kind = check_class(record)
        question = MotionQuestion(motion.id)
        endorsement = await self._ask(record.address, "root_endorsement", question)
        if len(endorsement) > MAX_ENDORSEMENT:
            raise HardwareFault("hardware: the endorsement is too long")
        if kind is RootClass.TPM2:
            makers = await asyncio.to_thread(load_makers, self._makers)
            chip = await asyncio.to_thread(check_tpm, motion, record, endorsement, makers)
            for maker in chip.makers:  # the ledger looks at the first only
                if await self.ledger.is_maker_barred(maker):
                    raise HardwareFault(f"hardware: its maker 0x{maker.hex()} is barred")
            activation = new_activation(chip.ek, chip.key)
            asked = activation.challenge
            request: object = RootActivation(motion.id, asked.blob, asked.secret)
            if not activation.is_answered_by(
                await self._ask(record.address, "root_activate", request)
            ):
                raise HardwareFault("hardware: the root key does not live in that TPM")
            return
        check_zymkey(motion, record, endorsement, accept_simulated=self._accept_simulated)
        nonce = secrets.token_bytes(32)
        request = RootChallenge(motion.id, nonce)
        said = await self._ask(record.address, "root_challenge", request)
        digest = challenge_digest(self._chain_id, self.ledger.address, motion.id, nonce)
        if len(said) != 64 or not p256.verify(record.root_public, digest, said):
            raise HardwareFault("hardware: the root key does not answer")

    # --- a candidate --------------------------------------------------------------------------

    def answer_to(self, motion: int, members: frozenset[Address]) -> None:
        """From now on these members may ask this Node's root about that motion."""
        self._asked = {motion: members}

    async def endorsement(self, sender: Address, motion: int) -> bytes:
        """What this Node's root shows. Raises PeerRefused, RootError."""
        self._check_asker(sender, motion)
        return await asyncio.to_thread(self._root.endorsement)

    async def activate(self, sender: Address, request: RootActivation) -> bytes:
        """The secret that this Node's TPM opened. Raises PeerRefused, RootError."""
        self._check_asker(sender, request.motion)
        activate = getattr(self._root, "activate", None)
        if activate is None:
            raise PeerRefused("this node's root is no TPM", "ask for a signature")
        opened: bytes = await asyncio.to_thread(activate, Challenge(request.blob, request.secret))
        if len(opened) != CREDENTIAL:
            raise PeerRefused("the TPM opened no secret", "check the challenge")
        return opened

    async def challenge(self, sender: Address, request: RootChallenge) -> bytes:
        """The root's signature over a member's number. Raises PeerRefused, RootError."""
        self._check_asker(sender, request.motion)
        digest = challenge_digest(
            self._chain_id, self.ledger.address, request.motion, request.nonce
        )
        return await asyncio.to_thread(self._root.sign, digest)

    def _check_asker(self, sender: Address, motion: int) -> None:
        if sender not in self._asked.get(motion, frozenset()):
            raise PeerRefused("not a member of this node's committee", "look at the round")
