"""Effects of a key broker: consent, its own appraisal of the Machine, release.

The broker trusts neither the Committee nor the Executor's Pi: the Evidence must hash to the root
on chain *and* the Machine must answer the broker's own nonce with the same session, both appraised
under the owner's policy.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from dataclasses import dataclass

from agent.formats import hpke
from agent.formats.cbor import FormatError
from agent.formats.evidence import Evidence, session_key_hash
from agent.formats.messages import Context
from agent.formats.protocol import release_info
from agent.formats.taskspec import TaskSpec
from nodeclient.capsules.consents import build_consent
from nodeclient.capsules.keys import load_key
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.appraisal import appraise
from nodeclient.core.evidence_policy import (
    AppraisalPolicy,
    Endorsements,
    Expected,
    Nonce,
    owner_appraisal,
    remember,
)
from nodeclient.core.policy import ExecutorFacts
from nodeclient.core.roles.broker import owned_cids
from nodeclient.core.types import Address, NodeRecord, Phase, Statement, Verdict
from nodeclient.duties.services import RETRY_SECONDS, Services
from nodeclient.errors import ChainUnavailable
from nodeclient.p2p.errors import PeerError
from nodeclient.p2p.messages import EvidenceRequest, KeyRelease, Question
from nodeclient.runner import Effect, Emit


@dataclass(frozen=True, slots=True)
class Seen:
    """What a broker saw of a Machine: Evidence behind the record, fresh Evidence over ``nonce``,
    and what others vouch for."""

    recorded: Evidence
    fresh: Evidence
    nonce: bytes
    endorsed: Endorsements


def effects(services: Services) -> dict[type[do.Action], Effect]:
    """The table of this module."""
    me = services.me

    async def sign_consent(action: do.SignConsent, emit: Emit) -> None:
        """The same consent may be signed again; its use was counted when the policy said yes."""
        consent = await asyncio.to_thread(
            build_consent,
            *(me.parameters, action.commitment, me.address, action.cids, services.root.sign),
        )
        services.answer(action.request, consent)

    async def query_machine(action: do.QueryMachine, emit: Emit) -> ev.OutcomeEvent:
        """Reads only; each try asks with a nonce of its own."""
        spec = TaskSpec.decode(action.spec)
        try:
            seen = await look(action)
            reasons = await own_reasons(action, spec, seen)
            session_hpke = seen.recorded.session()[0]
        except FormatError as error:
            reasons, session_hpke = (f"malformed: {error}",), b""
        for text in reasons:
            services.note_reason(action.commitment, "no key is released", text)
        return ev.MachineQueried(
            commitment=action.commitment,
            session_hpke=session_hpke,
            evidence_root=action.evidence_root,
            reasons=reasons,
        )

    async def look(action: do.QueryMachine) -> Seen:
        """The Evidence of the record, and fresh Evidence over a nonce of this broker."""
        executor = action.task.executor
        while True:
            nonce = secrets.token_bytes(32)
            try:
                request = EvidenceRequest(action.commitment)
                recorded = Evidence.decode(await services.ask(executor, "evidence", request))
                record = await registered(executor)
                # As long as it takes: a key is released late or not at all, never unproven. And
                # before the fresh Evidence is asked for, which must not grow old meanwhile.
                endorsed = await services.endorser.endorse(
                    action.commitment, record, recorded, math.inf
                )
                question = Question(action.commitment, nonce, during=False)
                fresh = Evidence.decode(await services.ask(executor, "question", question))
            except PeerError:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            return Seen(recorded, fresh, nonce, endorsed)

    async def registered(executor: Address) -> NodeRecord:
        record = await services.chain.node(executor)
        if record is None:
            # Reorganised away, or an endpoint that lags: no reason to refuse for good.
            raise ChainUnavailable("the executor is not on chain now", "it is asked for again")
        return record

    async def own_reasons(action: do.QueryMachine, spec: TaskSpec, seen: Seen) -> tuple[str, ...]:
        """Every reason against releasing; the quorum is necessary, never sufficient."""
        task, recorded = action.task, seen.recorded
        record = await registered(task.executor)
        on_chain = await services.chain.record(task.id, Phase.BEFORE)
        if on_chain is None:
            raise ChainUnavailable("the BEFORE record is not on chain now", "it is asked for again")
        if on_chain.verdict is not Verdict.AFFIRMING:
            return ("record: no affirming BEFORE record on chain",)
        if on_chain.evidence_root != action.evidence_root:
            return ("record: the root on chain is another one",)
        facts = ExecutorFacts(
            await services.chain.reputation(task.executor), record.deposit, record.root_class
        )
        cids = owned_cids(spec, me.address)
        reasons: tuple[str, ...] = ()
        if spec.requester != me.address:
            reasons += services.policies.release_reasons(
                spec, cids, action.commitment, task.committee_size, facts
            )
        attempt = Context.from_body(recorded.claim("chain")).attempt
        recorded_header = Statement(
            attempt=attempt,
            nonce_root=recorded.nonce,
            evidence_root=on_chain.evidence_root,
            session_key_hash=session_key_hash(*recorded.session()),
            r=0,
            s=0,
        )
        before = remember(recorded)
        for evidence, own in ((recorded, recorded.nonce), (seen.fresh, seen.nonce)):
            is_recorded = evidence is recorded
            expected = Expected(
                chain_id=me.parameters.chain_id,
                market=me.parameters.market,
                task=task.id,
                commitment=task.commitment,
                node=task.executor,
                phase=Phase.BEFORE,
                attempt=attempt,
                nonce=Nonce(own),
                spec=spec,
                statement=recorded_header if is_recorded else None,
                before=None if is_recorded else before,
            )
            reference = await services.reference.values(spec.runtime_image, evidence)
            for policy in appraisal_policies(spec, cids):
                result = await asyncio.to_thread(
                    appraise, evidence, expected, reference, seen.endorsed, policy
                )
                reasons += tuple(f"{each.code}: {each.text}" for each in result.reasons)
        return tuple(dict.fromkeys(reasons))

    def appraisal_policies(spec: TaskSpec, cids: tuple[str, ...]) -> list[AppraisalPolicy]:
        """The owner's policy of each Capsule; for the requester's own function the deployment's."""
        found = []
        for cid in cids:
            policy = services.policies.load(cid)
            if policy is not None:
                found.append(owner_appraisal(policy))
            elif spec.requester == me.address:
                found.append(services.settings.appraisal)
            else:
                found.append(AppraisalPolicy())
        return found

    async def seal_keys(action: do.SealKeys, emit: Emit) -> ev.OutcomeEvent:
        """Nothing leaves before the event is committed, so sealing twice releases once."""
        parameters = me.parameters
        keys = []
        for cid in action.cids:
            info = release_info(
                parameters.chain_id, parameters.market, action.task.id, cid, action.evidence_root
            )
            content_key = await asyncio.to_thread(load_key, services.root, services.vault, cid)
            keys.append((cid, hpke.seal(action.session_hpke, info, content_key)))
        return ev.KeysSealed(commitment=action.commitment, keys=tuple(keys))

    async def send_keys(action: do.SendKeys, emit: Emit) -> ev.OutcomeEvent:
        """The journalled bytes, until the Executor has them; the same bytes every time."""
        missing = dict(action.keys)
        while missing:
            for cid, sealed in list(missing.items()):
                try:
                    release = KeyRelease(action.commitment, cid, sealed)
                    await services.ask(action.executor, "key", release)
                except PeerError:
                    continue
                del missing[cid]
                services.note(action.commitment, "key released", f" for {cid}")
            if missing:
                await asyncio.sleep(RETRY_SECONDS)
        return ev.ActionDone(commitment=action.commitment, action=do.SendKeys.__name__)

    async def warn_owner(action: do.WarnOwner, emit: Emit) -> None:
        """Harmless twice."""
        for cid in action.cids:
            services.note(
                action.commitment,
                "EXPOSED: the task failed after a key was released; seal the capsule again",
                f": {cid}",
            )

    return {
        do.SignConsent: sign_consent,
        do.QueryMachine: query_machine,
        do.SealKeys: seal_keys,
        do.SendKeys: send_keys,
        do.WarnOwner: warn_owner,
    }
