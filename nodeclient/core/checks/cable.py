"""Whether the Machine tried to reach anybody but its Pi, as its Pi tells it.

The Pi's word alone: no member can hold it against anything. A Pi that drops frames and stays silent
hides no channel, since what it dropped went nowhere; one that lets them pass lies about that too.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.formats.cable import COUNTERS, CableReport
from nodeclient.core import claims
from nodeclient.core.checks.case import Case, Finding, not_checked, note
from nodeclient.core.reasons import Code, reason
from nodeclient.core.types import Phase

SIMULATED_CABLE = "cable"
_NAMED = 4  # frames named one by one


def isolation(case: Case) -> Iterator[Finding]:
    """While it ran, it sent next to nothing past its Pi; the run's boot counts in AFTER, too."""
    report = claims.cable(case.evidence)
    if report is None:
        if SIMULATED_CABLE in claims.simulated(case.evidence):
            yield not_checked("frames of the machine to others (the cable is simulated)")
        else:
            yield reason(Code.ISOLATION, "the pi says nothing of its cable")
        return
    yield from _order(case, report)
    strays = report.strays
    before = case.expected.before
    if case.expected.phase is Phase.AFTER and before is not None and before.cable is not None:
        whole = report.since(before.cable)
        if whole is None:
            yield note("the cable's counters began anew since the run")
        else:
            strays = whole
    if strays > case.policy.most_strays:
        yield reason(Code.ISOLATION, f"{strays} frames to others than its pi{_named(report)}")
    elif strays:
        yield note(f"{strays} frames to others than its pi{_named(report)}")


def _order(case: Case, report: CableReport) -> Iterator[Finding]:
    """Within one boot the Pi's counters never go back, and that boot began once."""
    known = case.expected.last or case.expected.before
    if not case.expected.in_session or known is None:
        return
    if known.cable is None:
        yield reason(Code.COUNTERS, "a cable appeared since the machine was admitted")
    elif report.began != known.cable.began:
        yield reason(Code.COUNTERS, "the cable's counters name another beginning of this boot")
    elif any(report.now[name] < known.cable.now[name] for name in COUNTERS):
        yield reason(Code.COUNTERS, "a counter of the cable went back")


def _named(report: CableReport) -> str:
    texts = [f"{each.protocol} {each.destination}:{each.destination_port}" for each in report.seen]
    return f": {', '.join(texts[:_NAMED])}" if texts else ""
