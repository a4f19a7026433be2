"""Whose Evidence this is, about what, and how fresh."""

from __future__ import annotations

from collections.abc import Iterator

from agent.formats import p256
from agent.formats.evidence import TPM_QUOTED, nonce_leaf, session_key_hash, signed_digest
from agent.formats.hashes import verify_path
from agent.formats.messages import Context
from nodeclient.core import claims
from nodeclient.core.checks.case import Case, Finding, not_checked
from nodeclient.core.reasons import Code, reason
from nodeclient.core.types import Phase, RootClass

SIMULATED_ROOT = "root"
_BEHIND_MS, _AHEAD_MS = 2_000, 60_000  # of the date, against the clock that only runs forward


def nonce(case: Case) -> Iterator[Finding]:
    """The Evidence answers the asker's own nonce: alone, or folded with the other members'."""
    own = case.expected.nonce
    if own.member is None:
        fresh = case.evidence.nonce == own.own
    else:
        fresh = verify_path(nonce_leaf(own.member, own.own), own.path, case.evidence.nonce)
    if not fresh:
        yield reason(Code.NONCE, "does not answer the asker's nonce; it may be an old one")


def signature(case: Case) -> Iterator[Finding]:
    """The session key that the Evidence names signed it."""
    _, signing = case.evidence.session()
    digest = signed_digest(case.evidence.root, case.evidence.nonce)
    if not p256.verify(signing, digest, case.evidence.signature):
        yield reason(Code.SIGNATURE, "not signed by the session key that it names")


def header(case: Case) -> Iterator[Finding]:
    """It is the Evidence that the Node's hardware root signed for: root, nonce and session."""
    stated = case.expected.statement
    if stated is None:
        if not case.expected.in_session:
            yield reason(Code.HEADER, "no header signed by the node's root states it")
        return
    if case.evidence.root != stated.evidence_root:
        yield reason(Code.HEADER, "hashes to another root than the signed header's")
    if case.evidence.nonce != stated.nonce_root:
        yield reason(Code.HEADER, "answers another nonce than the signed header's")
    if stated.attempt != case.expected.attempt:
        yield reason(Code.HEADER, "the signed header is of another attempt")
    if session_key_hash(*case.evidence.session()) != stated.session_key_hash:
        yield reason(Code.SESSION, "session keys are not those of the signed header")


def context(case: Case) -> Iterator[Finding]:
    """It speaks of this chain, market, task, commitment, node, phase and attempt."""
    said, known = Context.from_body(case.evidence.claim("chain")).to_body(), case.expected
    for name in ("chain_id", "market", "task", "commitment", "node", "phase", "attempt"):
        if said[name] != getattr(known, name):
            yield reason(Code.CONTEXT, f"{name} is another than the task's")


def session(case: Case) -> Iterator[Finding]:
    """One session from BEFORE to the end of DURING, a fresh one in AFTER."""
    expected, before = case.expected, case.expected.before
    hpke, signing = case.evidence.session()
    if before is None:
        if expected.phase is not Phase.BEFORE:
            yield reason(Code.SESSION, "nothing of the BEFORE evidence to compare the session with")
    elif expected.in_session and (hpke, signing) != (before.hpke, before.signing):
        yield reason(Code.SESSION, "another session than the one that was admitted")
    elif not expected.in_session and (hpke == before.hpke or signing == before.signing):
        yield reason(Code.SESSION, "still the session that ran the task: no fresh boot")


def vouch(case: Case) -> Iterator[Finding]:
    """Who stands for it is accepted. What a TPM states is judged by ``quote`` and ``measured``."""
    who = claims.vouch(case.evidence)
    if who not in case.policy.vouch:
        yield reason(Code.VOUCH_NOT_PERMITTED, f"vouched for as {who!r}, which is not accepted")
    if who != TPM_QUOTED:
        yield not_checked("boot measurements (no TPM quote)")
        for name in sorted(claims.QUOTED.intersection(case.evidence.names)):
            yield not_checked(f"claim {name} (no TPM vouches)")


def simulated(case: Case) -> Iterator[Finding]:
    """Parts that are not real are accepted; a software root counts as one, said or not."""
    parts = set(claims.simulated(case.evidence))
    if case.endorsements.root_class is RootClass.SOFTWARE:
        parts.add(SIMULATED_ROOT)
    for part in sorted(parts - case.policy.simulated):
        yield reason(Code.SIMULATED_NOT_PERMITTED, f"{part} is simulated")
    for text in claims.not_checked(case.evidence):
        yield not_checked(f"{text} (the agent says so)")


def counters(case: Case) -> Iterator[Finding]:
    """Boot count, evidence count and clock never go back."""
    now, boot = claims.counters(case.evidence), claims.boot(case.evidence)
    if now.boot != boot.count:
        yield reason(Code.COUNTERS, "two different boot counts")
    before = case.expected.before
    if before is None:
        return  # a first BEFORE; for the other phases ``session`` refuses
    if case.expected.in_session:
        last = case.expected.last or before
        if now.boot != before.counters.boot or boot.nonce != before.boot_nonce:
            yield reason(Code.COUNTERS, "the machine booted since it was admitted")
        if now.evidence <= last.counters.evidence:
            yield reason(Code.COUNTERS, "evidence count did not grow")
        if now.clock_ms < last.counters.clock_ms:
            yield reason(Code.COUNTERS, "clock went back")
        return
    if now.boot <= before.counters.boot:
        yield reason(Code.COUNTERS, "boot count did not grow: no fresh boot")
    if boot.nonce == before.boot_nonce:
        yield reason(Code.COUNTERS, "same boot nonce as before the run")


def date(case: Case) -> Iterator[Finding]:
    """The Machine's date runs as its clock does: nobody set it since BEFORE.

    Both come from one oscillator, so they part only if somebody sets the date, or if the Machine
    slept, which stops the clock alone. Held against BEFORE and not against the latest answer: many
    small steps are as good as a large one. A simulated Machine's host may be set forward a little.
    """
    now, before = claims.counters(case.evidence), case.expected.before
    if before is None:
        return
    then = before.counters
    if not case.expected.in_session:
        if now.time_ms < then.time_ms:
            yield reason(Code.COUNTERS, "the clock was set back: AFTER is dated before BEFORE")
        return
    gained = (now.time_ms - then.time_ms) - (now.clock_ms - then.clock_ms)
    if gained < -_BEHIND_MS:
        yield reason(Code.COUNTERS, f"the clock was set back by {-gained} ms")
    elif gained > _AHEAD_MS:
        yield reason(Code.COUNTERS, f"the clock was set forward by {gained} ms, or it stood still")
