"""After the run: the memory of the boot that ran the task was overwritten, and its TPM shows it.

The Pi found the eraser's answer right; nobody else can have seen that. What a member holds in its
hands is the quote: the PC's own TPM, in a boot between BEFORE and AFTER, ran an approved eraser,
and that eraser took these ranges, these keys and this answer. It quotes only what it has written
and read back itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.formats.cbor import FormatError
from agent.formats.erasure import ErasureProof
from nodeclient.core import claims
from nodeclient.core.checks import booted
from nodeclient.core.checks.case import Case, Finding, not_checked, note
from nodeclient.core.erasure import Quoted, read_quoted, uncovered
from nodeclient.core.evidence_policy import Remembered
from nodeclient.core.reasons import Code, reason
from nodeclient.core.tpm.event_log import EventLog
from nodeclient.core.tpm.facts import TpmFacts, firmware_digest
from nodeclient.core.tpm.material import SELECTION, count_covered

_NO_IMA = ()  # the eraser's kernel keeps no list of files


def memory(case: Case) -> Iterator[Finding]:
    """The memory map that a later proof is held against is stated, and stays while a boot lasts."""
    stated, before = claims.memory(case.evidence), case.expected.before
    if case.material is not None and not stated:
        yield reason(Code.INVENTORY, "no memory map is stated: what is not named is never erased")
    if before is not None and case.expected.in_session and stated != before.memory:
        yield reason(Code.INVENTORY, "the memory changed since BEFORE")


def erased(case: Case) -> Iterator[Finding]:
    """Where a TPM vouched for BEFORE, a proof of erasure of that boot's memory, quoted by it."""
    before = case.expected.before
    encoded = claims.proof(case.evidence)
    if before is None:
        return  # ``after.erasure`` names that
    if before.tpm is None:
        yield not_checked("RAM after the run (no TPM vouches: only its Pi could know it erased)")
        return
    if not encoded:
        yield reason(Code.ERASURE, "no proof that the RAM was erased")
        return
    try:
        proof = ErasureProof.decode(encoded)
        quoted = read_quoted(proof)
    except FormatError as error:
        yield reason(Code.ERASURE, str(error))
        return
    yield from _coverage(case, before, proof)
    yield from _statement(quoted)
    yield from _eraser(case, quoted.log, proof)
    yield from _between(case, before.tpm, quoted)


def _coverage(case: Case, before: Remembered, proof: ErasureProof) -> Iterator[Finding]:
    """The ranges leave out no more of the memory that BEFORE stated than the asker accepts."""
    if not before.memory:
        yield reason(
            Code.ERASURE, "the BEFORE evidence states no memory to hold the ranges against"
        )
        return
    left, most = uncovered(before.memory, proof.ranges), case.policy.uncovered
    if left > most:
        text = f"{left} bytes of RAM were not covered, at most {most} are accepted"
        yield reason(Code.ERASURE, text)
    yield note(f"RAM: {proof.covered} bytes erased, {left} not covered")


def _statement(quoted: Quoted) -> Iterator[Finding]:
    """A TPM's key signed exactly this erasure, and the event log leads to what it signed."""
    if not quoted.genuine:
        yield reason(Code.ERASURE, "its quote is not signed by the attestation key that it names")
    if not quoted.bound:
        yield reason(Code.ERASURE, "its quote is over another nonce, range, key or answer")
    if quoted.attested.selection != SELECTION:
        yield reason(Code.ERASURE, "its quote is not over the PCRs that were asked for")
    elif count_covered(quoted.attested, quoted.log, _NO_IMA) is None:
        yield reason(Code.ERASURE, "its event log does not replay to the quoted PCRs")


def _eraser(case: Case, log: EventLog, proof: ErasureProof) -> Iterator[Finding]:
    """An approved eraser of the asker's own copy was booted, whole, and nothing beside it."""
    known = case.reference.eraser
    if known is None or known.image != proof.image:
        text = f"{proof.image.hex()} is no eraser that is approved and at hand"
        yield reason(Code.ERASURE, text)
        return
    for faults in (
        booted.programs(log, known),
        booted.parts(log, known),
        booted.additions(log),
        booted.drivers(log, case.reference.drivers),
        booted.separators(log),
    ):
        yield from (reason(Code.ERASURE, f"eraser: {fault}") for fault in faults)


def _between(case: Case, before: TpmFacts, quoted: Quoted) -> Iterator[Finding]:
    """The same TPM and firmware as in BEFORE, in a boot after that one and before this one."""
    if quoted.key.digest != before.key:
        yield reason(Code.ERASURE, "quoted by another TPM than the BEFORE evidence")
    if firmware_digest(quoted.log) != before.firmware:
        yield reason(Code.ERASURE, "another firmware than in the BEFORE evidence")
    clock = quoted.attested.clock
    then = clock.resets
    # A system that saves the TPM's state before it resets the PC makes the next boot a restart.
    between = then - before.resets - 1 + clock.restarts
    if then <= before.resets:
        yield reason(Code.ERASURE, "quoted in no later boot than BEFORE: of an earlier erasure")
    elif between:
        yield not_checked(f"what {between} boots between the run and the erasure did with the RAM")
    now = None if case.material is None else case.material.attested
    if now is not None and then >= now.clock.resets:
        yield reason(Code.ERASURE, "not quoted in a boot before this one")
