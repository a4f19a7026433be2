"""What peers tell this Node, or ask it to decide: facts that are put to the rules.

What needs the world is looked up first (a policy, a root key, a fresh nonce); the rules' reply goes
back.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from agent.formats import cbor, hpke
from agent.formats.cbor import FormatError
from agent.formats.protocol import taskspec_info
from agent.formats.shape import as_bytes, as_list
from agent.formats.taskspec import MAX_TASKSPEC, TaskSpec, commitment_of, open_commitment
from nodeclient.capsules.consents import MAX_CONSENT, check_consents, owners_of
from nodeclient.core import events as ev
from nodeclient.core.incidents import Kind
from nodeclient.core.roles.broker import owned_cids
from nodeclient.core.types import Address, Commitment, Phase, Vote
from nodeclient.core.votes import is_signed
from nodeclient.duties.services import Services
from nodeclient.inbox.cases import Cases
from nodeclient.p2p import messages as msg
from nodeclient.p2p.errors import PeerRefused
from nodeclient.runner import RefusedByPeer, Runner

REPLY_SECONDS = 15.0  # the asker's own bound is longer, so it gets this side's reason
MAX_OWNERS = 17  # sixteen inputs and the function


class Facts:
    """One method for each kind of fact; each takes the authenticated sender and the body."""

    def __init__(self, services: Services, runner: Runner, cases: Cases) -> None:
        self._services, self._runner, self._cases = services, runner, cases

    def methods(self) -> dict[str, Callable[[Address, bytes], Awaitable[bytes]]]:
        """What peers may say, by method."""
        return {
            "consent": self._consent,
            "brief": self._brief,
            "nonce": self._nonce,
            "appraise": self._appraise,
            "vote": self._vote,
            "incident": self._incident,
            "key": self._key,
            "notice": self._notice,
        }

    async def _consent(self, sender: Address, body: bytes) -> bytes:
        request = msg.unpack(msg.ConsentRequest, body)
        spec = TaskSpec.decode(request.spec)
        committed = Commitment(commitment_of(request.spec))
        cids = owned_cids(spec, self._services.me.address)
        reasons = self._permission(sender, spec, cids, committed, request.committee_size)
        if not reasons:
            reasons = await asyncio.to_thread(self._services.faults, spec, cids)
        if not reasons:
            # Again, and counted before anything else is awaited: questions at once are many uses.
            reasons = self._permission(sender, spec, cids, committed, request.committee_size)
            for cid in () if reasons else cids:
                self._services.store.use_policy(cid, committed)
        try:
            reply = await self._runner.ask(
                lambda request_id: ev.ConsentAsked(
                    sender=sender,
                    request=request_id,
                    commitment=committed,
                    spec=request.spec,
                    reasons=reasons,
                ),
                REPLY_SECONDS,
            )
        except RefusedByPeer as error:
            who = f"consent refused to 0x{sender.hex()}"
            self._services.note(committed, who, f": {error.message}")
            raise
        return as_bytes_reply(reply)

    def _permission(
        self,
        sender: Address,
        spec: TaskSpec,
        cids: tuple[str, ...],
        committed: Commitment,
        committee_size: int,
    ) -> tuple[str, ...]:
        """Why the owner's policy is against it just now; empty: it is not."""
        reasons = self._services.policies.consent_reasons(spec, cids, committed, committee_size)
        if spec.requester != sender:
            reasons = (*reasons, "the TaskSpec names another requester")
        return reasons

    async def _brief(self, sender: Address, body: bytes) -> bytes:
        """From the requester or a relaying member: what counts is that it opens the commitment."""
        request = msg.unpack(msg.Brief, body)
        case = self._cases.case(request.commitment)
        parameters = self._services.me.parameters
        info = taskspec_info(parameters.chain_id, parameters.market, case.on_chain().id)
        plain = hpke.open(self._services.keys.hpke_private, info, request.sealed)
        encoded, consents = as_list(cbor.decode(plain, 2 * MAX_TASKSPEC), 2, 2, "brief")
        spec_bytes = as_bytes(encoded, 1, "taskspec", MAX_TASKSPEC)
        spec = open_commitment(spec_bytes, case.commitment)
        given = tuple(
            as_bytes(consent, 1, "consent", MAX_CONSENT)
            for consent in as_list(consents, 0, MAX_OWNERS, "consents")
        )
        roots = {}
        for owner in owners_of(spec):
            record = await self._services.chain.node(owner)
            if record is not None:
                roots[owner] = record.root_public
        check_consents(parameters, case.commitment, spec, given, roots)
        await self._runner.ask(
            lambda request_id: ev.BriefReceived(
                sender=sender,
                request=request_id,
                commitment=case.commitment,
                spec=spec_bytes,
                consents=given,
            ),
            REPLY_SECONDS,
        )
        return b""

    async def _nonce(self, sender: Address, body: bytes) -> bytes:
        request = msg.unpack(msg.NonceRequest, body)
        fresh = secrets.token_bytes(32)
        return as_bytes_reply(
            await self._runner.ask(
                lambda request_id: ev.NonceAsked(
                    sender=sender,
                    request=request_id,
                    commitment=Commitment(request.commitment),
                    phase=Phase(request.phase),
                    attempt=request.attempt,
                    fresh=fresh,
                ),
                REPLY_SECONDS,
            )
        )

    async def _appraise(self, sender: Address, body: bytes) -> bytes:
        request = msg.unpack(msg.AppraisalRequest, body)
        vote = await self._runner.ask(
            lambda request_id: ev.AppraisalAsked(
                sender=sender,
                request=request_id,
                commitment=Commitment(request.commitment),
                phase=Phase(request.phase),
                statement=request.statement.statement(),
                evidence=request.evidence,
                nonces=tuple((Address(member), nonce) for member, nonce in request.nonces),
            ),
            REPLY_SECONDS,
        )
        if not isinstance(vote, Vote):
            raise PeerRefused("no vote yet", "ask again")
        return msg.pack(msg.vote_message(request.commitment, vote))

    async def _vote(self, sender: Address, body: bytes) -> bytes:
        request = msg.unpack(msg.VoteMessage, body)
        vote = msg.vote_of(request)
        case = self._cases.case(request.commitment)
        if vote.task != case.on_chain().id or not is_signed(self._services.me.parameters, vote):
            raise PeerRefused("the vote is not signed for this task", "sign it again")
        await self._runner.ask(
            lambda request_id: ev.VoteReceived(
                sender=sender, request=request_id, commitment=case.commitment, vote=vote
            ),
            REPLY_SECONDS,
        )
        return b""

    async def _incident(self, sender: Address, body: bytes) -> bytes:
        """Raises ValueError for an unknown phase or kind."""
        request = msg.unpack(msg.IncidentReport, body)
        phase, kind = Phase(request.phase), Kind(request.kind)
        if not request.text.isprintable():
            raise FormatError("message IncidentReport: text is not printable")
        await self._runner.ask(
            lambda request_id: ev.IncidentReported(
                sender=sender,
                request=request_id,
                commitment=Commitment(request.commitment),
                phase=phase,
                attempt=request.attempt,
                kind=kind,
                text=request.text,
                ended=request.ended,
            ),
            REPLY_SECONDS,
        )
        told = f"the executor reports: {kind}" + (", boot given up" if request.ended else "")
        self._services.note(request.commitment, told, f": {request.text}")
        return b""

    async def _key(self, sender: Address, body: bytes) -> bytes:
        request = msg.unpack(msg.KeyRelease, body)
        case = self._cases.case(request.commitment)
        if request.cid not in owned_cids(self._cases.spec_of(case), sender):
            raise PeerRefused("the capsule is not the sender's", "send only own keys")
        await self._runner.ask(
            lambda request_id: ev.KeyOffered(
                sender=sender,
                request=request_id,
                commitment=case.commitment,
                cid=request.cid,
                sealed=request.sealed,
            ),
            REPLY_SECONDS,
        )
        return b""

    async def _notice(self, sender: Address, body: bytes) -> bytes:
        request = msg.unpack(msg.ResultNotice, body)
        await self._runner.ask(
            lambda request_id: ev.ResultAnnounced(
                sender=sender, request=request_id, commitment=Commitment(request.commitment)
            ),
            REPLY_SECONDS,
        )
        return b""


def as_bytes_reply(reply: object) -> bytes:
    """A reply of the rules that must be bytes."""
    if not isinstance(reply, bytes):
        raise PeerRefused("no answer", "ask again")
    return reply
