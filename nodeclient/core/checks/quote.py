"""The TPM's quote: whose it is, what it answers, and that log and lists lead to what it states.

Where no TPM vouches these checks have nothing to say: ``origin.vouch`` names that. A part that does
not parse is None in the material, and ``readable`` refuses.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.formats.context import Context
from agent.formats.evidence import session_key_hash
from agent.formats.quote import qualifying_data
from nodeclient.core.checks.case import Case, Finding, not_checked, note
from nodeclient.core.reasons import Code, reason
from nodeclient.core.tpm import ima
from nodeclient.core.tpm.attest import verify_attest
from nodeclient.core.tpm.facts import TpmFacts
from nodeclient.core.tpm.material import SELECTION
from nodeclient.core.tpm.reader import TpmError

_NAMED = 8  # files named one by one
_UNPROVEN = "the attestation key was never proven to live in the TPM of an EK certificate"


def readable(case: Case) -> Iterator[Finding]:
    """Quote, key, event log and IMA list parse."""
    if case.material is not None:
        yield from case.material.faults


def registered(case: Case) -> Iterator[Finding]:
    """The key is the one that the registry holds for this Node; a Node that registered one does
    not go back to a Pi that vouches, whatever the policy accepts of others."""
    material, known = case.material, case.endorsements.attestation_key
    if material is None:
        if any(known):  # zeros: registered without a TPM
            yield reason(Code.ATTESTATION_KEY, "the node is registered with a TPM; none vouches")
    elif material.key is not None and material.key.digest != known:
        yield reason(Code.ATTESTATION_KEY, "quoted by another key than the node's registered one")


def endorsed(case: Case) -> Iterator[Finding]:
    """The asker made sure that this key lives in a TPM of a maker that it trusts."""
    if case.material is not None and not case.endorsements.ek_proven:
        yield reason(Code.ENDORSEMENT, case.endorsements.ek_fault or _UNPROVEN)


def signed(case: Case) -> Iterator[Finding]:
    """The key signed this quote."""
    material = case.material
    if material is None or material.key is None:
        return
    stated = material.quote
    try:
        genuine = verify_attest(material.key.point, stated.attest, stated.signature)
    except TpmError as error:
        yield reason(Code.QUOTE, str(error))
        return
    if not genuine:
        yield reason(Code.QUOTE, "not signed by the attestation key that it names")


def bound(case: Case) -> Iterator[Finding]:
    """It was made for this question, this session, this step of this task."""
    material = case.material
    if material is None or material.attested is None:
        return
    said = Context.from_body(case.evidence.claim("chain"))
    session = session_key_hash(*case.evidence.session())
    if material.attested.qualifying != qualifying_data(case.evidence.nonce, session, said):
        yield reason(Code.QUOTE, "made for another nonce, session or step than the evidence's")


def selection(case: Case) -> Iterator[Finding]:
    """It is over exactly the PCRs that were asked for, in the SHA-256 bank."""
    material = case.material
    if material is None or material.attested is None:
        return
    if material.attested.selection != SELECTION:
        yield reason(Code.PCR, "not over the PCRs that were asked for, or of another hash bank")


def replayed(case: Case) -> Iterator[Finding]:
    """Event log and IMA list lead to the quoted digest."""
    material = case.material
    if material is None or None in (material.attested, material.log, material.ima):
        return
    if material.covered is None:
        yield reason(Code.EVENT_LOG, "does not replay, with the IMA list, to the quoted PCRs")


def files(case: Case) -> Iterator[Finding]:
    """The IMA list begins with what the firmware left, and holds approved files only."""
    material = case.material
    if material is None or material.ima is None or material.covered is None:
        return
    covered = material.ima[: material.covered]
    if not covered:
        yield not_checked("IMA list (the kernel measured nothing)")
        return
    first, rest = covered[0], covered[1:]
    assert material.log is not None  # ``covered`` needs it
    wanted = ima.boot_aggregate(material.log.values)
    if first.path != ima.BOOT_AGGREGATE or first.algorithm != "sha256" or first.digest != wanted:
        yield reason(Code.IMA, "does not begin with the aggregate of what was booted")
    approved = case.reference.files
    if approved is None and rest:
        yield not_checked(f"IMA list of {len(rest)} files (no reference values)")
    wrong = [] if approved is None else [e for e in rest if e.digest not in approved]
    for entry in wrong[:_NAMED]:
        yield reason(Code.IMA, f"{entry.path} ({entry.digest.hex()}) is not approved")
    if len(material.ima) > material.covered:
        yield note(f"{len(material.ima) - material.covered} IMA entries are newer than the quote")


def clock(case: Case) -> Iterator[Finding]:
    """Resets, restarts and time never go back; none within a run, a reset before AFTER."""
    material, before = case.material, case.expected.before
    if before is not None and (material is None) != (before.tpm is None):
        yield reason(Code.RESET, "a TPM vouches for only one of this evidence and BEFORE")
    if material is None or material.attested is None or material.faults:
        return
    now, safe = material.facts(), material.attested.clock.safe
    last = case.expected.last or before
    then = case.endorsements.last if last is None else last.tpm
    if then is not None:
        yield from _went_back(now, then, safe)
    if before is None or before.tpm is None:
        return
    if case.expected.in_session and now.boot != before.tpm.boot:
        yield reason(Code.RESET, "the TPM was reset or restarted since BEFORE")
    if not case.expected.in_session and now.resets <= before.tpm.resets:
        yield reason(Code.RESET, "the TPM's reset count did not grow: no fresh boot")


def same_machine(case: Case) -> Iterator[Finding]:
    """One TPM and one firmware from BEFORE to AFTER."""
    material, before = case.material, case.expected.before
    if material is None or before is None or before.tpm is None or material.faults:
        return
    now = material.facts()
    if now.key != before.tpm.key:
        yield reason(Code.ATTESTATION_KEY, "another TPM than in the BEFORE evidence")
    if now.firmware != before.tpm.firmware:
        yield reason(Code.PCR, "another firmware than in the BEFORE evidence")


def _went_back(now: TpmFacts, then: TpmFacts, safe: bool) -> Iterator[Finding]:
    if now.boot < then.boot:
        yield reason(Code.RESET, "the TPM's reset count went back")
    if now.time_ms >= then.time_ms:
        return
    if now.boot == then.boot or safe:
        yield reason(Code.RESET, "the TPM's clock went back")
    else:  # Part 1, §36.2.2: after an abrupt power loss it may be behind by minutes
        yield note("the TPM's clock is behind after a power loss")
