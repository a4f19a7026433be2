"""Effects of a Committee member: appraise, ask at own times, sign, share."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

from agent.formats import cbor, p256
from agent.formats.capsule import parse_header
from agent.formats.cbor import FormatError
from agent.formats.evidence import Evidence, fold_nonces, nonce_path
from agent.formats.messages import Outcome, Transcript
from agent.formats.shape import as_bytes, as_list
from agent.formats.taskspec import TaskSpec
from nodeclient.attestation.schedule import next_wait
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.appraisal import AttestationResult, appraise
from nodeclient.core.evidence_policy import (
    Endorsements,
    Expected,
    Nonce,
    Remembered,
    remember,
)
from nodeclient.core.types import Address, Phase, Statement, Task, Verdict
from nodeclient.core.votes import sign, unsigned, vote_on
from nodeclient.duties.services import RETRY_SECONDS, Services
from nodeclient.p2p.errors import PeerDeclined, PeerError
from nodeclient.p2p.messages import MAX_OUTCOME, EvidenceRequest, Question, vote_message
from nodeclient.runner import Effect, Emit

SHARE_TRIES = 20
FETCH_TRIES = 8  # of one result, RETRY_SECONDS apart


def effects(services: Services) -> dict[type[do.Action], Effect]:
    """The table of this module."""
    me = services.me

    async def appraise_evidence(action: do.AppraiseEvidence, emit: Emit) -> ev.OutcomeEvent:
        """Reads, then signs; a second vote of the (phase, attempt) is dropped by the rules."""
        reasons, summary = await judge(action)
        for text in reasons:
            services.note_reason(action.commitment, f"{action.phase.name} contraindicated", text)
        if not reasons:
            services.note(action.commitment, f"{action.phase.name} affirmed")
        verdict = Verdict.CONTRAINDICATED if reasons else Verdict.AFFIRMING
        task = action.task
        vote = vote_on(me.parameters, task, task.executor, action.phase, action.statement, verdict)
        return ev.EvidenceAppraised(
            commitment=action.commitment,
            phase=action.phase,
            vote=sign(me.parameters, vote, me.address, services.keys.account),
            evidence_root=action.statement.evidence_root,
            reasons=reasons,
            summary=summary,
        )

    async def judge(action: do.AppraiseEvidence) -> tuple[tuple[str, ...], bytes]:
        """(reasons against, what later steps need of the Evidence)."""
        if action.findings:
            return action.findings, b""  # sticky: nothing that comes later launders a finding
        if not await header_signed(action.task, action.phase, action.statement):
            return ("header: not signed by the executor's root key",), b""
        try:
            evidence = Evidence.decode(action.evidence)
            nonces = {bytes(member): nonce for member, nonce in action.nonces}
            expected = await expectation(action, evidence, nonces)
        except FormatError as error:
            return (f"malformed: {error}",), b""
        result = await appraise_with(action.task, action.spec, evidence, expected)
        reasons = tuple(f"{each.code}: {each.text}" for each in result.reasons)
        if reasons:
            return reasons, b""
        if action.phase is Phase.BEFORE:
            return (), remember(evidence).encode()
        return (), results_summary(evidence)

    async def expectation(
        action: do.AppraiseEvidence, evidence: Evidence, nonces: dict[bytes, bytes]
    ) -> Expected:
        """What this member knows. Raises FormatError when the nonces do not fold as stated."""
        if action.statement.nonce_root != fold_nonces(nonces):
            raise FormatError("the nonce root does not fold the nonces")
        if nonces.get(me.address) != action.own_nonce:
            raise FormatError("this member's nonce is not among the nonces")
        if not set(nonces) <= set(action.members):
            raise FormatError("a nonce of somebody outside the committee")
        spec = TaskSpec.decode(action.spec)
        expected = base_expectation(action.task, spec, action.phase, action.statement.attempt)
        expected = replace(
            expected,
            nonce=Nonce(action.own_nonce, me.address, nonce_path(nonces, me.address)),
            statement=action.statement,
        )
        if action.phase is Phase.BEFORE:
            return expected
        return replace(
            expected,
            before=Remembered.decode(action.before) if action.before else None,
            member=me.address,
            committee=frozenset(action.members),
            answers=action.answers,
            asked=frozenset(action.asked),
            fetched=await fetch_results(evidence, action.task.executor),
        )

    def base_expectation(task: Task, spec: TaskSpec, phase: Phase, attempt: int) -> Expected:
        return Expected(
            chain_id=me.parameters.chain_id,
            market=me.parameters.market,
            task=task.id,
            commitment=task.commitment,
            node=task.executor,
            phase=phase,
            attempt=attempt,
            nonce=Nonce(b""),
            spec=spec,
        )

    async def appraise_with(
        task: Task, spec: bytes, evidence: Evidence, expected: Expected
    ) -> AttestationResult:
        """Bring reference values and endorsements; the appraisal itself is pure."""
        record = await services.chain.node(task.executor)
        if record is None:
            raise PeerError("the executor is not in the registry", "ask the chain again")
        image = TaskSpec.decode(spec).runtime_image
        reference = await services.reference.values(image, evidence.nonce)
        return appraise(
            evidence,
            expected,
            reference,
            Endorsements(record.root_class),
            services.settings.appraisal,
        )

    async def header_signed(task: Task, phase: Phase, statement: Statement) -> bool:
        record = await services.chain.node(task.executor)
        if record is None:
            return False
        header = vote_on(me.parameters, task, task.executor, phase, statement).header
        signature = statement.r.to_bytes(32, "big") + statement.s.to_bytes(32, "big")
        return p256.verify(record.root_public, header, signature)

    async def fetch_results(evidence: Evidence, executor: Address) -> frozenset[str]:
        """The result CIDs whose every block this member now holds."""
        stated = evidence.claim("outcome")
        if stated is None:
            return frozenset()
        cids = Outcome.from_body(stated).results.values()
        return frozenset([cid for cid in cids if await fetched(cid, executor)])

    async def fetched(cid: str, executor: Address) -> bool:
        """Tries for a while: the vote is for ever, a lost packet not the Executor's fault."""
        for _ in range(FETCH_TRIES):
            try:
                header = parse_header(await services.await_block(cid, (executor,)))
                for chunk in header.chunks:
                    await services.await_block(chunk, (executor,))
                return True
            except PeerError:
                await asyncio.sleep(RETRY_SECONDS)
        return False

    async def learn_before(action: do.LearnBefore, emit: Emit) -> ev.OutcomeEvent:
        """Reads only. What counts is the root on chain, which a quorum affirmed."""
        while True:
            try:
                answer = await services.ask(
                    action.task.executor, "evidence", EvidenceRequest(action.commitment)
                )
                evidence = Evidence.decode(answer)
                if evidence.root == action.evidence_root:
                    return ev.BeforeLearned(
                        commitment=action.commitment,
                        evidence_root=evidence.root,
                        summary=remember(evidence).encode(),
                    )
            except (PeerError, FormatError) as error:
                services.note(action.commitment, "no evidence to learn from", f": {error}")
            await asyncio.sleep(RETRY_SECONDS)

    async def ask_during(action: do.AskDuring, emit: Emit) -> None:
        """Asks until the Task is over, at times that only this member knows. After a restart it
        asks on with new nonces; the old ones are remembered as asked."""
        last: Remembered | None = None
        told: set[str] = set()
        while True:
            await asyncio.sleep(next_wait(services.settings.question_rate))
            nonce = secrets.token_bytes(32)
            emit(ev.QuestionDrawn(commitment=action.commitment, nonce=nonce))
            answer = await put_question(action, nonce)
            if answer is None:
                continue
            root, reasons, last = await judge_answer(action, nonce, answer, last, told)
            emit(
                ev.QuestionAnswered(
                    commitment=action.commitment, nonce=nonce, evidence_root=root, reasons=reasons
                )
            )
            for text in reasons:
                services.note_reason(action.commitment, "DURING contraindicated", text)

    async def put_question(action: do.AskDuring, nonce: bytes) -> bytes | None:
        """The answer; None when the Machine does not run now; b"" when nobody answers in time."""
        waited = 0.0
        while waited < services.settings.silence_seconds:
            started = asyncio.get_running_loop().time()
            try:
                question = Question(action.commitment, nonce, during=True)
                return await services.ask(action.task.executor, "question", question)
            except PeerDeclined:
                return None  # the Machine does not run now: before the keys, or after the end
            except PeerError:
                await asyncio.sleep(RETRY_SECONDS)
            waited += asyncio.get_running_loop().time() - started
        return b""

    async def judge_answer(
        action: do.AskDuring,
        nonce: bytes,
        answer: bytes,
        last: Remembered | None,
        told: set[str],
    ) -> tuple[bytes, tuple[str, ...], Remembered | None]:
        """(evidence root, reasons, latest affirmed Evidence). What the Evidence tells without
        being a reason, refused connections say, is noted once; ``told`` remembers it.
        """
        if not answer:
            return b"", ("silence: the machine did not answer in time",), last
        try:
            evidence = Evidence.decode(answer)
            attempt = as_attempt(evidence)
        except FormatError as error:
            return b"", (f"malformed: {error}",), last
        spec = TaskSpec.decode(action.spec)
        expected = replace(
            base_expectation(action.task, spec, Phase.DURING, attempt),
            nonce=Nonce(nonce),
            before=Remembered.decode(action.before),
            last=last,
        )
        result = await appraise_with(action.task, action.spec, evidence, expected)
        for text in result.notes:
            if text not in told:
                told.add(text)
                services.note(action.commitment, f"DURING: {text}")
        reasons = tuple(f"{each.code}: {each.text}" for each in result.reasons)
        return evidence.root, reasons, last if reasons else remember(evidence)

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
        do.AppraiseEvidence: appraise_evidence,
        do.LearnBefore: learn_before,
        do.AskDuring: ask_during,
        do.SignDissent: sign_dissent,
        do.ShareVote: share_vote,
    }


def as_attempt(evidence: Evidence) -> int:
    """The attempt that Evidence of a run speaks of: the one whose session the record names."""
    stated = evidence.claim("chain")
    attempt = stated.get("attempt") if isinstance(stated, dict) else None
    if not isinstance(attempt, int):
        raise FormatError("claim chain names no attempt")
    return attempt


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
