"""Learns whether an Executor's attestation key lives in a TPM of a maker that this Node believes.

Asked while the Machine is up, of every member and every owner's broker for itself: nobody takes
another's word for it. A key that was shown to live in a TPM cannot leave it, so one proof for each
(Node, registered key) is kept, for ``PROOF_SECONDS``; the maker is looked up anew each time.

An Executor whose Machine keeps quiet is not believed. How long that takes is the caller's choice: a
member must vote, a broker may go on asking.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from agent.formats.cbor import FormatError
from agent.formats.endorsement import Endorsement
from agent.formats.evidence import TPM_QUOTED, Evidence
from nodeclient.attestation.activation import check, new_activation
from nodeclient.attestation.makers import MakersUnreadable, load_makers
from nodeclient.core import claims
from nodeclient.core.evidence_policy import Endorsements, remember
from nodeclient.core.tpm.facts import TpmFacts
from nodeclient.core.types import Address, NodeRecord
from nodeclient.identity.registration import NO_MACHINE_KEY
from nodeclient.p2p.errors import PeerError
from nodeclient.p2p.messages import ActivationRequest, EndorsementRequest
from nodeclient.store.database import Store

PROOF_SECONDS = 30 * 86_400  # what leaves a TPM's maker's hands stays in it; this bounds a mistake
AGAIN_SECONDS = 0.5  # between two tries
Ask = Callable[[Address, str, object], Awaitable[bytes]]


class Endorser:
    """``ask``: one request to a peer, raises PeerError. ``makers``: folder of root certificates."""

    def __init__(
        self, ask: Ask, store: Store, makers: Path, now: Callable[[], float] = time.time
    ) -> None:
        self._ask, self._store, self._makers, self._now = ask, store, makers, now

    def asking(self, ask: Ask) -> Endorser:
        """The same, with another way to ask."""
        return Endorser(ask, self._store, self._makers, self._now)

    async def endorse(
        self, commitment: bytes, record: NodeRecord, evidence: Evidence, patience: float
    ) -> Endorsements:
        """What others vouch for of the Node of ``record``, for the appraisal of ``evidence``.

        Its Machine is asked for at most ``patience`` seconds while it is silent; with ``math.inf``
        until it answers. Evidence that does not speak of a TPM needs no proof.
        """
        facts = Endorsements(record.root_class, attestation_key=record.attestation_key)
        if not says_quoted(evidence):
            return facts
        fault = await self._fault(commitment, record, patience)
        last = self._last(record.attestation_key)
        return replace(facts, ek_proven=not fault, ek_fault=fault, last=last)

    def affirmed(self, record: NodeRecord, evidence: Evidence) -> None:
        """Keep what the TPM said of its boots at the end of a task, for the next task's beginning.

        Members judge in their own time, so of two ends the later one is kept.
        """
        facts, last = remember(evidence).tpm, self._last(record.attestation_key)
        if facts is not None and (last is None or facts.boot > last.boot):
            self._store.put_tpm(record.attestation_key, facts.encode())

    def _last(self, attestation_key: bytes) -> TpmFacts | None:
        kept = self._store.tpm(attestation_key)
        return None if kept is None else TpmFacts.decode(kept)

    async def _fault(self, commitment: bytes, record: NodeRecord, patience: float) -> str:
        """Why the key is not believed; empty: it is."""
        if record.attestation_key == NO_MACHINE_KEY:
            return "the registry holds no attestation key of this node"
        clock = asyncio.get_running_loop()
        end = clock.time() + patience
        while True:
            try:
                makers = await asyncio.to_thread(load_makers, self._makers)
                known = self._known(record)
                if known is None:
                    return await self._prove(commitment, record, makers)
                check(known, record.attestation_key, makers)
                return ""
            except MakersUnreadable as error:
                return error.message
            except FormatError as error:
                return str(error).removeprefix("endorsement: ")
            except PeerError as error:
                if clock.time() >= end:
                    return f"the machine does not prove its TPM: {error.message}"
            await asyncio.sleep(AGAIN_SECONDS)

    def _known(self, record: NodeRecord) -> Endorsement | None:
        """The endorsement of an earlier proof that still counts."""
        kept = self._store.proof(record.address, record.attestation_key)
        if kept is None or not 0 <= self._now() - kept[1] < PROOF_SECONDS:
            return None
        return Endorsement.decode(kept[0])

    async def _prove(self, commitment: bytes, record: NodeRecord, makers: tuple[bytes, ...]) -> str:
        """Ask whose TPM it is, then let that TPM open a secret. Raises PeerError, FormatError."""
        endorsement = Endorsement.decode(
            await self._ask(record.address, "endorsement", EndorsementRequest(commitment))
        )
        activation = new_activation(*check(endorsement, record.attestation_key, makers))
        challenge = activation.challenge
        request = ActivationRequest(commitment, challenge.blob, challenge.secret)
        if not activation.is_answered_by(await self._ask(record.address, "activate", request)):
            return "the attestation key does not live in the TPM of the endorsement"
        self._store.put_proof(
            record.address, record.attestation_key, endorsement.encode(), self._now()
        )
        return ""


def says_quoted(evidence: Evidence) -> bool:
    """Whether Evidence claims that a TPM stands for it; what it lacks, the appraisal will name."""
    try:
        return claims.vouch(evidence) == TPM_QUOTED
    except FormatError:
        return False
