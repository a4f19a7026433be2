"""What the Pi can ask of the Agent, and nothing else: eleven calls, each checked for its moment."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from agent.engine import EngineFailed
from agent.evidence import Witness
from agent.formats.cbor import FormatError
from agent.formats.endorsement import Challenge
from agent.formats.hpke import OpenError
from agent.formats.messages import (
    AFTER,
    BEFORE,
    DURING,
    MAX_ANSWERS,
    Context,
    Prepare,
    Question,
    Release,
)
from agent.formats.outcome import State, Status, Transcript
from agent.formats.rpc import RpcError
from agent.kernel import KernelUnreadable
from agent.measured import Unmeasured
from agent.scratch import ScratchError
from agent.session import Session, SessionGone
from agent.tpm import Tpm
from agent.tpm_wire import TpmError
from agent.work import Work

# These must not wait behind a long step: a member proves the attestation key while keys come in.
_AT_ONCE = frozenset({"status", "stop", "endorsement", "activate", "rest"})
_KEPT = 32  # Evidence kept to answer a repeated question with the same bytes


class Service:
    """The handler of the channel. One lock: a Pi that calls twice at once is served in turn."""

    def __init__(
        self, session: Session, witness: Witness, work: Work, tpm: Tpm | None = None
    ) -> None:
        self._session, self._witness, self._work, self._tpm = session, witness, work, tpm
        self._lock = asyncio.Lock()
        self._answers: OrderedDict[bytes, bytes] = OrderedDict()  # DURING: nonce → root
        self._kept: OrderedDict[bytes, tuple[Context, bytes]] = OrderedDict()
        self._transcript = b""
        self._methods: dict[str, Callable[[object], Awaitable[object]]] = {
            "prepare": self._prepare,
            "ask": self._ask,
            "monitor": self._monitor,
            "release": self._release,
            "start": self._start,
            "status": self._status,
            "clean": self._clean,
            "stop": self._stop,
            "endorsement": self._endorsement,
            "activate": self._activate,
            "rest": self._rest,
        }

    async def handle(self, method: str, body: object) -> object:
        """Serve one call. Raises RpcError or FormatError, which the channel answers with."""
        serve = self._methods.get(method)
        if serve is None:
            raise RpcError("unknown_method", f"the Agent has no {method}")
        try:
            if method in _AT_ONCE:
                return await serve(body)
            async with self._lock:
                return await serve(body)
        except SessionGone as error:
            raise RpcError("session_gone", str(error)) from error
        except OpenError as error:
            raise RpcError("bad_key", str(error)) from error
        except TpmError as error:
            raise RpcError("tpm", str(error)) from error
        except (EngineFailed, ScratchError, KernelUnreadable, Unmeasured) as error:
            raise RpcError("machine_failed", f"{error}; cut the power") from error

    async def _prepare(self, body: object) -> object:
        await self._work.prepare(Prepare.from_body(body))
        return {"missing": self._missing()}

    async def _ask(self, body: object) -> object:
        question = Question.from_body(body)
        kept = self._kept.get(question.nonce)
        if kept is not None:
            # The same bytes for the same question: another root for one attempt would make the
            # Pi sign two headers, which costs its Deposit.
            if kept[0] != question.context:
                raise RpcError("nonce_used", "this nonce was used; ask with a fresh one")
            return kept[1]
        self._check_moment(question)
        if question.nonce in self._answers or len(self._answers) >= MAX_ANSWERS:
            raise RpcError("nonce_used", "this nonce was used; ask with a fresh one")
        evidence = await asyncio.to_thread(self._witness.answer, question, self._work.facts)
        if question.context.phase == BEFORE and self._work.keys is not None:
            self._work.keys.add_root(evidence.root)
        if question.context.phase == DURING:
            self._answers[question.nonce] = evidence.root
        encoded = evidence.encode()
        self._kept[question.nonce] = (question.context, encoded)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return encoded

    async def _monitor(self, body: object) -> object:
        """Evidence for the Pi itself. It is no answer: it neither brings DURING nearer to its end
        nor can a key be sealed under it, so the Pi takes no room of a member's or an owner's.
        """
        question = Question.from_body(body)
        if question.context.phase == AFTER:
            raise RpcError("wrong_phase", "nothing runs after the run; ask as AFTER")
        self._check_moment(question)
        evidence = await asyncio.to_thread(self._witness.answer, question, self._work.facts)
        return evidence.encode()

    def _check_moment(self, question: Question) -> None:
        """Refuse a question about another task, or at a moment when its phase is not on."""
        phase, state = question.context.phase, self._work.state
        if phase == AFTER:
            if state is not State.FRESH:
                raise RpcError("wrong_phase", "AFTER needs a fresh boot; boot the Machine again")
            earlier = Transcript.open(question.transcript)
            if earlier.signing == self._session.signing:
                raise RpcError("wrong_phase", "the transcript is of this boot; boot again")
            if not earlier.context.same_task(question.context):
                raise FormatError("the transcript is of another task; send the right one")
            return
        prepared = self._work.context
        if prepared is None or not prepared.same_task(question.context):
            raise RpcError("not_prepared", "this boot has no such task; prepare it first")
        if phase == DURING and state not in (State.RUNNING, State.DONE):
            raise RpcError("wrong_phase", "the run has not begun; release the keys first")
        if phase == BEFORE and state is not State.PREPARED:
            raise RpcError("wrong_phase", "the run has begun; ask as DURING")

    async def _release(self, body: object) -> object:
        self._work.take_key(Release.from_body(body))
        return {"missing": self._missing()}

    async def _start(self, body: object) -> object:
        self._work.start()
        return await self._status(body)

    async def _status(self, _body: object) -> object:
        outcome = self._work.facts.outcome
        status = Status(self._work.state, tuple(self._missing()), len(self._answers), outcome)
        return status.to_body()

    async def _clean(self, _body: object) -> object:
        """DURING ends here, and only after enough answers: a run too short to be watched waits."""
        if self._transcript:
            return self._transcript
        if self._work.state is not State.DONE:
            raise RpcError("too_early", "the run is not over; ask for the status")
        if len(self._answers) < self._work.min_answers:
            raise RpcError(
                "too_early",
                f"{len(self._answers)} of {self._work.min_answers} questions answered; ask more",
            )
        return await self._erase()

    async def _stop(self, _body: object) -> object:
        """Give the task up, in whatever state it is."""
        await self._work.halt()
        async with self._lock:
            if self._work.context is None:
                raise RpcError("not_prepared", "this boot has no task; nothing to stop")
            return self._transcript or await self._erase()

    async def _endorsement(self, _body: object) -> object:
        """The TPM's keys and what its maker says of them."""
        return (await asyncio.to_thread(self._vouching_tpm().endorsement)).to_body()

    async def _activate(self, body: object) -> object:
        """Open what somebody sealed to the TPM and its attestation key together."""
        challenge = Challenge.from_body(body)
        return await asyncio.to_thread(self._vouching_tpm().activate, challenge)

    async def _rest(self, _body: object) -> object:
        """The power goes next. Cut without a word, a TPM may come back with an earlier clock."""
        if self._tpm is not None:
            await asyncio.to_thread(self._tpm.rest)
        return None

    def _vouching_tpm(self) -> Tpm:
        if self._tpm is None:
            raise RpcError("no_tpm", "this Machine has no TPM; PI-ONLY is all it can be")
        return self._tpm

    async def _erase(self) -> bytes:
        """Erase, sign what was done with the session's last signature, and forget its keys."""
        context = self._work.context
        if context is None:
            raise RpcError("not_prepared", "this boot has no task; nothing to clean")
        erased = await self._work.erase()
        self._kept.clear()
        keys = self._work.keys
        transcript = Transcript(
            self._session.hpke,
            self._session.signing,
            context,
            self._work.facts.outcome,
            tuple(self._answers.items()),
            erased.removed,
            {**erased.checked, "content_keys": keys is None or keys.empty},
        )
        self._transcript = transcript.sign(self._session.signer)
        self._session.drop()
        return self._transcript

    def _missing(self) -> list[str]:
        return list(self._work.keys.missing) if self._work.keys and not self._over else []

    @property
    def _over(self) -> bool:
        return self._work.state in (State.RUNNING, State.DONE, State.CLEANED)
