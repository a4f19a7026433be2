"""Appraisal of Evidence: pure, complete, and negative unless everything was shown.

Every check runs, whatever the others find, so that a result names *every* reason; every check that
could not be made is named too. Only an Evidence without any reason is affirmed: a claim that is
missing or out of shape is a reason. Nothing here reads a file, a clock or a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from agent.formats.cbor import FormatError
from agent.formats.evidence import Evidence
from nodeclient.core import claims
from nodeclient.core.checks import (
    after,
    cable,
    erasure,
    hardware,
    machine,
    measured,
    origin,
    quote,
    task,
)
from nodeclient.core.checks.case import Case, Finding
from nodeclient.core.evidence_policy import (
    AppraisalPolicy,
    Endorsements,
    Expected,
    ReferenceValues,
)
from nodeclient.core.reasons import Code, Reason, reason
from nodeclient.core.types import Phase, Verdict

MAX_REASONS = 64
MAX_NOTES = 128
_ALL = frozenset(Phase)
_AFTER = frozenset({Phase.AFTER})
_NOT_AFTER = frozenset({Phase.BEFORE, Phase.DURING})

Check = Callable[[Case], Iterator[Finding]]
CHECKS: tuple[tuple[Check, frozenset[Phase]], ...] = (
    (origin.nonce, _ALL),
    (origin.signature, _ALL),
    (origin.header, _ALL),
    (origin.context, _ALL),
    (origin.session, _ALL),
    (origin.vouch, _ALL),
    (origin.simulated, _ALL),
    (origin.counters, _ALL),
    (origin.date, _ALL),
    (quote.readable, _ALL),
    (quote.registered, _ALL),
    (quote.endorsed, _ALL),
    (quote.signed, _ALL),
    (quote.bound, _ALL),
    (quote.selection, _ALL),
    (quote.replayed, _ALL),
    (quote.files, _ALL),
    (quote.clock, _ALL),
    (quote.same_machine, _ALL),
    (measured.image, _ALL),
    (measured.loader, _ALL),
    (measured.stub, _ALL),
    (measured.unused, _ALL),
    (measured.drivers, _ALL),
    (measured.separators, _ALL),
    (measured.firmware, _ALL),
    (measured.kernel, _ALL),
    (measured.root, _ALL),
    (machine.boot_image, _ALL),
    (machine.agent, _ALL),
    (machine.ranges, _ALL),
    (hardware.inventory, _ALL),
    (hardware.events, _ALL),
    (erasure.memory, _ALL),
    (machine.executables, _ALL),
    (machine.modules, _ALL),
    (machine.mounts, _ALL),
    (machine.sockets, _ALL),
    (cable.isolation, _ALL),
    (task.containers, _ALL),
    (task.runtime_image, _NOT_AFTER),
    (task.function, _NOT_AFTER),
    (task.network, _NOT_AFTER),
    (task.devices, _NOT_AFTER),
    (task.scratch, _ALL),
    (task.early_outcome, _NOT_AFTER),
    (after.residue, _AFTER),
    (after.erasure, _AFTER),
    (erasure.erased, _AFTER),
    (after.outcome, _AFTER),
    (after.during, _AFTER),
)


@dataclass(frozen=True, slots=True)
class AttestationResult:
    """A verdict with all that led to it. ``notes`` inform and decide nothing."""

    verdict: Verdict
    reasons: tuple[Reason, ...]
    not_checked: tuple[str, ...]
    notes: tuple[str, ...] = ()


def appraise(
    evidence: Evidence,
    expected: Expected,
    reference: ReferenceValues,
    endorsements: Endorsements,
    policy: AppraisalPolicy,
) -> AttestationResult:
    """Judge ``evidence``. Never raises for what Evidence says."""
    given = Case(evidence, expected, reference, endorsements, policy)
    reasons: list[Reason] = []
    unmade: list[str] = []
    notes: list[str] = []
    for check, phases in CHECKS:
        if expected.phase not in phases:
            continue
        try:
            for finding in check(given):
                match finding:
                    case Reason():
                        reasons.append(finding)
                    case ("not checked", text):
                        unmade.append(text)
                    case (_, text):
                        notes.append(text)
        except FormatError as error:
            reasons.append(reason(Code.CLAIM_MALFORMED, str(error)))
    unmade.extend(claims.unread(evidence))
    return _result(reasons, unmade, notes)


def merge(results: Iterable[AttestationResult]) -> AttestationResult:
    """One result of several, for example of all answers during a run. One failure fails all, and
    none at all is a failure."""
    every = tuple(results)
    reasons = [each for result in every for each in result.reasons]
    if not every:
        reasons.append(reason(Code.CLAIM_MALFORMED, "nothing was appraised"))
    if not reasons and any(result.verdict is not Verdict.AFFIRMING for result in every):
        reasons.append(reason(Code.CLAIM_MALFORMED, "an earlier appraisal did not affirm"))
    return _result(
        reasons,
        [each for result in every for each in result.not_checked],
        [each for result in every for each in result.notes],
    )


def _result(reasons: list[Reason], unmade: list[str], notes: list[str]) -> AttestationResult:
    # Bounded, without ever dropping the last reason: the verdict is taken from the whole list.
    verdict = Verdict.CONTRAINDICATED if reasons else Verdict.AFFIRMING
    return AttestationResult(
        verdict,
        tuple(dict.fromkeys(reasons))[:MAX_REASONS],
        tuple(sorted({text[:200] for text in unmade}))[:MAX_NOTES],
        tuple(dict.fromkeys(text[:200] for text in notes))[:MAX_NOTES],
    )
