"""What a Pi says of its cable, and what appraisal makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.formats.cable import COUNTERS, MAX_SIGHTINGS, CableReport, Sighting
from agent.formats.cbor import FormatError
from agent.formats.evidence import PI_ONLY
from nodeclient.core.evidence_policy import AppraisalPolicy, Remembered
from nodeclient.core.reasons import Code
from nodeclient.core.types import Phase, Verdict
from tests.core import evidence_kit as kits
from tests.core.evidence_kit import make_kit


@pytest.mark.parametrize("phase", list(Phase))
def test_isolation__frame_or_two__told_and_not_held_against(phase: Phase) -> None:
    kit = make_kit(phase)
    kit.claims["cable"] = kits.cable(phase, stray_running=3).encode()
    result = kit.appraise()
    assert result.verdict is Verdict.AFFIRMING
    assert any(text.startswith("3 frames to others") for text in result.notes)
    kit.policy = replace(kit.policy, most_strays=2)
    assert {each.code for each in kit.appraise().reasons} == {Code.ISOLATION}


def test_isolation__frames_while_it_boots__no_word_of_them() -> None:
    kit = make_kit(Phase.DURING)
    more = {"stray_booting": 500, "stray_off": 5, "leak": 9, "foreign": 9}
    kit.claims["cable"] = kits.cable(Phase.DURING, **more).encode()
    result = kit.appraise()
    assert (result.reasons, result.notes) == ((), ())


def test_isolation__pi_started_anew_before_after__own_boot_judged_and_that_is_told() -> None:
    kit = make_kit(Phase.AFTER)
    zeros = dict.fromkeys(COUNTERS, 0)
    kit.claims["cable"] = CableReport(zeros, zeros | {"stray_running": 1}).encode()
    result = kit.appraise()
    assert result.verdict is Verdict.AFFIRMING
    assert "the cable's counters began anew since the run" in result.notes
    kit.claims["cable"] = CableReport(zeros, zeros | {"stray_running": 4}).encode()
    assert {each.code for each in kit.appraise().reasons} == {Code.ISOLATION}


def test_isolation__no_cable__named_where_it_is_simulated_and_refused_where_not() -> None:
    kit = make_kit(Phase.BEFORE)
    kit.claims |= {"cable": b"", "simulated": ["cable"]}
    kit.policy = AppraisalPolicy(frozenset({PI_ONLY}), frozenset({"cable"}))
    result = kit.appraise()
    assert result.verdict is Verdict.AFFIRMING
    assert any("the cable is simulated" in text for text in result.not_checked)
    kit.policy = AppraisalPolicy(frozenset({PI_ONLY}))
    assert {each.code for each in kit.appraise().reasons} == {Code.SIMULATED_NOT_PERMITTED}


def test_isolation__what_was_tried__named_in_the_reason() -> None:
    kit = make_kit(Phase.DURING)
    kit.claims["cable"] = kits.cable(Phase.DURING, stray_running=9).encode()
    (found,) = kit.appraise().reasons
    assert found.text == "9 frames to others than its pi: udp 192.0.2.1:53"


def test_remembered__with_and_without_a_cable__comes_back() -> None:
    known = kits.before_remembered()
    assert known.cable is not None
    for each in (known, replace(known, cable=None)):
        assert Remembered.decode(each.encode()) == each


def test_report__largest__fits() -> None:
    counters = dict.fromkeys(COUNTERS, 1 << 62)
    longest = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
    rows = [Sighting("arp-request" * 1, longest, 65535, longest, 65535, 1 << 62)] * MAX_SIGHTINGS
    report = CableReport(counters, counters, tuple(rows))
    assert CableReport.decode(report.encode()) == report


@pytest.mark.parametrize("name", COUNTERS)
def test_report__counter_below_its_beginning__refused(name: str) -> None:
    ones = dict.fromkeys(COUNTERS, 1)
    with pytest.raises(FormatError, match=name):
        CableReport.decode(CableReport(ones, ones | {name: 0}).encode())
