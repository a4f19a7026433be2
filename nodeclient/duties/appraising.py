"""A Committee member's judgement of BEFORE and AFTER Evidence, and the vote that says it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from agent.formats import cbor, p256
from agent.formats.capsule import parse_header
from agent.formats.cbor import FormatError
from agent.formats.evidence import Evidence, fold_nonces, nonce_path
from agent.formats.messages import Outcome, Transcript
from agent.formats.shape import as_bytes, as_list
from agent.formats.taskspec import TaskSpec
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.appraisal import AttestationResult, appraise
from nodeclient.core.evidence_policy import (
    Expected,
    Nonce,
    Remembered,
    remember,
)
from nodeclient.core.types import Address, Phase, Statement, Task, Verdict
from nodeclient.core.votes import sign, vote_on
from nodeclient.duties.services import RETRY_SECONDS, Services
from nodeclient.p2p.errors import PeerError
from nodeclient.p2p.messages import MAX_OUTCOME
from nodeclient.runner import Emit

FETCH_TRIES = 8  # of one result, RETRY_SECONDS apart


class Appraiser:
    """Gathers what an appraisal needs (nonces, results, reference values); judging is pure."""

    def __init__(self, services: Services) -> None:
        self._services, self._me = services, services.me

    async def appraise(self, action: do.AppraiseEvidence, _emit: Emit) -> ev.OutcomeEvent:
        """Reads, then signs; a second vote of the (phase, attempt) is dropped by the rules."""
        reasons, summary = await self._reasons(action)
        for text in reasons:
            self._services.note_reason(
                action.commitment, f"{action.phase.name} contraindicated", text
            )
        if not reasons:
            self._services.note(action.commitment, f"{action.phase.name} affirmed")
        verdict = Verdict.CONTRAINDICATED if reasons else Verdict.AFFIRMING
        task = action.task
        vote = vote_on(
            self._me.parameters, task, task.executor, action.phase, action.statement, verdict
        )
        return ev.EvidenceAppraised(
            commitment=action.commitment,
            phase=action.phase,
            vote=sign(self._me.parameters, vote, self._me.address, self._services.keys.account),
            evidence_root=action.statement.evidence_root,
            reasons=reasons,
            summary=summary,
        )

    async def _reasons(self, action: do.AppraiseEvidence) -> tuple[tuple[str, ...], bytes]:
        """(reasons against, what later steps need of the Evidence)."""
        if action.findings:
            return action.findings, b""  # sticky: nothing that comes later launders a finding
        unfit = self._services.images.watch.against(action.task.executor)
        if unfit and action.phase is Phase.BEFORE:
            # Only before: what has begun is judged by its Evidence, or an image that is revoked
            # while a task runs would cost its Executor a run that was sound.
            return (f"running: the executor's Pi runs {unfit}",), b""
        if not await self._header_signed(action.task, action.phase, action.statement):
            return ("header: not signed by the executor's root key",), b""
        try:
            evidence = Evidence.decode(action.evidence)
            nonces = {bytes(member): nonce for member, nonce in action.nonces}
            expected = await self._expectation(action, evidence, nonces)
        except FormatError as error:
            return (f"malformed: {error}",), b""
        result = await self.judge(action.task, action.spec, evidence, expected)
        reasons = tuple(f"{each.code}: {each.text}" for each in result.reasons)
        if reasons:
            return reasons, b""
        if action.phase is Phase.BEFORE:
            return (), remember(evidence).encode()
        return (), results_summary(evidence)

    async def _expectation(
        self, action: do.AppraiseEvidence, evidence: Evidence, nonces: dict[bytes, bytes]
    ) -> Expected:
        """What this member knows. Raises FormatError when the nonces do not fold as stated."""
        if action.statement.nonce_root != fold_nonces(nonces):
            raise FormatError("the nonce root does not fold the nonces")
        if nonces.get(self._me.address) != action.own_nonce:
            raise FormatError("this member's nonce is not among the nonces")
        if not set(nonces) <= set(action.members):
            raise FormatError("a nonce of somebody outside the committee")
        spec = TaskSpec.decode(action.spec)
        expected = self.expected(action.task, spec, action.phase, action.statement.attempt)
        expected = replace(
            expected,
            nonce=Nonce(action.own_nonce, self._me.address, nonce_path(nonces, self._me.address)),
            statement=action.statement,
        )
        if action.phase is Phase.BEFORE:
            return expected
        return replace(
            expected,
            before=Remembered.decode(action.before) if action.before else None,
            member=self._me.address,
            committee=frozenset(action.members),
            answers=action.answers,
            asked=frozenset(action.asked),
            longest=action.longest,
            fetched=await self._results_held(evidence, action.task.executor),
        )

    def expected(self, task: Task, spec: TaskSpec, phase: Phase, attempt: int) -> Expected:
        """What every question about a Task has in common."""
        return Expected(
            chain_id=self._me.parameters.chain_id,
            market=self._me.parameters.market,
            task=task.id,
            commitment=task.commitment,
            node=task.executor,
            phase=phase,
            attempt=attempt,
            nonce=Nonce(b""),
            spec=spec,
        )

    async def judge(
        self, task: Task, spec: bytes, evidence: Evidence, expected: Expected
    ) -> AttestationResult:
        """Bring reference values and endorsements; the appraisal itself is pure, and long enough
        (foreign bytes, at worst half a second) for a thread of its own."""
        record = await self._services.chain.node(task.executor)
        if record is None:
            raise PeerError("the executor is not in the registry", "ask the chain again")
        image = TaskSpec.decode(spec).runtime_image
        reference = await self._services.reference.values(image, evidence)
        # Before judging, because only now the Machine is up: a silent one is waited for, then a
        # reason, as it is when it leaves a question unanswered.
        endorsements = await self._services.endorser.endorse(
            task.commitment, record, evidence, self._services.settings.silence_seconds
        )
        result = await asyncio.to_thread(
            appraise,
            evidence,
            expected,
            reference,
            endorsements,
            self._services.settings.appraisal,
        )
        if expected.phase is Phase.AFTER and result.verdict is Verdict.AFFIRMING:
            self._services.endorser.affirmed(record, evidence)
        return result

    async def _header_signed(self, task: Task, phase: Phase, statement: Statement) -> bool:
        record = await self._services.chain.node(task.executor)
        if record is None:
            return False
        header = vote_on(self._me.parameters, task, task.executor, phase, statement).header
        signature = statement.r.to_bytes(32, "big") + statement.s.to_bytes(32, "big")
        return p256.verify(record.root_public, header, signature)

    async def _results_held(self, evidence: Evidence, executor: Address) -> frozenset[str]:
        """The result CIDs whose every block this member now holds."""
        stated = evidence.claim("outcome")
        if stated is None:
            return frozenset()
        cids = Outcome.from_body(stated).results.values()
        return frozenset([cid for cid in cids if await self._held(cid, executor)])

    async def _held(self, cid: str, executor: Address) -> bool:
        """Tries for a while: the vote is for ever, a lost packet not the Executor's fault."""
        for _ in range(FETCH_TRIES):
            try:
                header = parse_header(await self._services.await_block(cid, (executor,)))
                for chunk in header.chunks:
                    await self._services.await_block(chunk, (executor,))
                return True
            except PeerError:
                await asyncio.sleep(RETRY_SECONDS)
        return False


def results_summary(evidence: Evidence) -> bytes:
    """What requester and receivers will ask for: the outcome, and the key that signed results."""
    outcome = Outcome.from_body(evidence.claim("outcome"))
    transcript = evidence.claim("erasure")
    if not isinstance(transcript, bytes):
        raise FormatError("claim erasure is missing")
    return cbor.encode([outcome.to_body(), Transcript.open(transcript).signing])


def read_summary(summary: bytes) -> tuple[Outcome, bytes]:
    """(outcome, session signing key) of what ``results_summary`` kept."""
    outcome, signing = as_list(cbor.decode(summary, MAX_OUTCOME), 2, 2, "summary")
    return Outcome.from_body(outcome), as_bytes(signing, 64, "signing key")
