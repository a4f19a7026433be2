"""Votes: what is signed, by whom, and until when it counts. Pure.

A vote's ``valid_until`` is the deadline of the step that it is for. It follows from the chain, so
all members sign one digest without agreeing on anything, and a member that restarts signs the same.
"""

from __future__ import annotations

from dataclasses import replace

from coincurve import PrivateKey, PublicKey

from agent.formats.hashes import keccak256
from nodeclient.core.digests import header_digest, vote_digest
from nodeclient.core.types import (
    ZERO_ADDRESS,
    ZERO_HASH,
    Address,
    Parameters,
    Phase,
    Statement,
    Task,
    TaskState,
    Verdict,
    Vote,
)


def vote_on(
    parameters: Parameters,
    task: Task,
    executor: Address,
    phase: Phase,
    statement: Statement,
    verdict: Verdict = Verdict.AFFIRMING,
) -> Vote:
    """The unsigned vote about a phase's root-signed header."""
    header = header_digest(
        parameters.chain_id,
        parameters.ledger,
        task.id,
        task.commitment,
        executor,
        phase,
        statement,
    )
    return unsigned(parameters, task, phase, statement.attempt, header, verdict)


def unsigned(
    parameters: Parameters, task: Task, phase: Phase, attempt: int, header: bytes, verdict: Verdict
) -> Vote:
    """A vote without member and signature."""
    state = TaskState.ACCEPTED if phase is Phase.BEFORE else TaskState.ADMITTED
    return Vote(
        task=task.id,
        phase=phase,
        attempt=attempt,
        header=header,
        verdict=verdict,
        valid_until=parameters.deadline(task, state),
        member=ZERO_ADDRESS,
        r=ZERO_HASH,
        vs=ZERO_HASH,
    )


def sign(parameters: Parameters, vote: Vote, member: Address, account_key: bytes) -> Vote:
    """Sign with the member's account key: EIP-712, compact as in EIP-2098 (low s by RFC 6979)."""
    digest = vote_digest(parameters.chain_id, parameters.ledger, vote)
    signature = PrivateKey(account_key).sign_recoverable(digest, hasher=None)
    s, parity = int.from_bytes(signature[32:64], "big"), signature[64]
    vs = (s | parity << 255).to_bytes(32, "big")
    return replace(vote, member=member, r=signature[:32], vs=vs)


def is_signed(parameters: Parameters, vote: Vote) -> bool:
    """True when ``vote.member`` signed exactly this vote."""
    digest = vote_digest(parameters.chain_id, parameters.ledger, vote)
    packed = int.from_bytes(vote.vs, "big")
    s, parity = packed & ((1 << 255) - 1), packed >> 255
    signature = vote.r + s.to_bytes(32, "big") + bytes([parity])
    try:
        public = PublicKey.from_signature_and_message(signature, digest, hasher=None)
    except Exception:  # coincurve raises a bare Exception for what is no signature
        return False
    return keccak256(public.format(compressed=False)[1:])[12:] == vote.member
