"""Appraisal: honest Evidence is affirmed, and every single change is refused for its own reason.

Each row of ``MUTATIONS`` changes one thing in an otherwise honest task and names the codes that
must come out, no more and no fewer. With a check removed, its rows fail.
"""

from __future__ import annotations

import pytest

from agent.formats.cbor import FormatError
from agent.formats.evidence import PI_ONLY
from agent.formats.messages import Ending
from nodeclient.core import appraisal
from nodeclient.core.appraisal import MAX_REASONS, AttestationResult, appraise, merge
from nodeclient.core.checks.case import Case
from nodeclient.core.checks.task import SHARED_ENGINE
from nodeclient.core.evidence_policy import (
    AppraisalPolicy,
    Endorsements,
    Nonce,
    ReferenceValues,
    Remembered,
)
from nodeclient.core.reasons import Code, Reason, reason
from nodeclient.core.types import Phase, RootClass, Verdict
from tests.core import evidence_kit as kits
from tests.core.erasure_mutations import ERASURE_MUTATIONS
from tests.core.evidence_kit import make_kit, make_quoted
from tests.core.mutations import (
    AFTER,
    BEFORE,
    DURING,
    MUTATIONS,
    OLD,
    PERMITTED,
    X32,
    C,
    Mutation,
    answers,
    checked,
    happen,
    outcome,
    put,
)
from tests.core.tpm_mutations import TPM_MUTATIONS


@pytest.mark.parametrize("phase", list(Phase))
def test_appraise__honest__affirmed_and_the_unmade_checks_named(phase: Phase) -> None:
    result = make_kit(phase).appraise()
    assert result.reasons == ()
    assert result.verdict is Verdict.AFFIRMING
    assert "boot measurements (no TPM quote)" in result.not_checked
    assert "running programs (no reference values)" in result.not_checked
    assert "firmware (the agent says so)" in result.not_checked


@pytest.mark.parametrize(
    ("phase", "mutate", "codes"),
    [row[1:] for row in MUTATIONS],
    ids=[f"{row[1].name}: {row[0]}" for row in MUTATIONS],
)
def test_appraise__one_thing_changed__refused_for_that_reason(
    phase: Phase, mutate: Mutation, codes: set[Code]
) -> None:
    kit = make_kit(phase)
    mutate(kit)
    result = kit.appraise()
    assert {each.code for each in result.reasons} == codes
    assert result.verdict is Verdict.CONTRAINDICATED


@pytest.mark.parametrize("phase", list(Phase))
def test_appraise__any_claim_missing__refused(phase: Phase) -> None:
    for name in make_kit(phase).claims:
        kit = make_kit(phase)
        kit.transcript = None if name == "erasure" else kit.transcript
        del kit.claims[name]
        assert kit.appraise().verdict is Verdict.CONTRAINDICATED, name


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("value", [None, 0, "", b"", [], {}, [[]], {"a": 1}, True, ["…"]])
def test_appraise__any_claim_out_of_shape__never_raises(phase: Phase, value: object) -> None:
    for name in make_kit(phase).claims:
        kit = make_kit(phase)
        kit.claims[name] = value
        if name == "erasure":
            kit.transcript = None
        kit.appraise()


def test_checks__each_removed__some_mutation_gets_through() -> None:
    """No check is there in vain: for each there is a row that it alone refuses."""
    alone = set()
    rows = [(make_kit, row) for row in MUTATIONS]
    rows += [(make_quoted, row) for row in (*TPM_MUTATIONS, *ERASURE_MUTATIONS)]
    for make, (_, phase, mutate, _) in rows:
        kit = make(phase)
        mutate(kit)
        kit.appraise()  # states the header
        case = Case(kit.evidence(), kit.expected, kit.reference, kit.endorsements, kit.policy)
        refusing = [
            check.__name__
            for check, phases in appraisal.CHECKS
            if phase in phases and check.__name__ != "header" and _refuses(check, case)
        ]
        if len(refusing) == 1:
            alone.add(refusing[0])
    assert alone == {check.__name__ for check, _ in appraisal.CHECKS} - {"header"}


def _refuses(check: appraisal.Check, case: Case) -> bool:
    try:
        return any(isinstance(finding, Reason) for finding in check(case))
    except FormatError:
        return True


def test_appraise__no_header_for_a_first_before__refused() -> None:
    kit = make_kit(BEFORE)
    result = appraise(kit.evidence(), kit.expected, kit.reference, kit.endorsements, kit.policy)
    assert {each.code for each in result.reasons} == {Code.HEADER}


def test_appraise__brokers_own_question__affirmed_only_in_the_admitted_session() -> None:
    """No header, the broker's own nonce, and the BEFORE Evidence of the record known."""
    kit = make_kit(BEFORE)
    kit.nonce = b"\x77" * 32
    kit.claims["counters"] |= {"evidence": 5, "clock_ms": 500}
    kit.expect(nonce=Nonce(kit.nonce), before=kits.before_remembered())
    arguments = (kit.expected, kit.reference, kit.endorsements, kit.policy)
    assert appraise(kit.evidence(), *arguments).verdict is Verdict.AFFIRMING
    kit.claims["session"]["hpke"] = X32
    result = appraise(kit.evidence(), *arguments)
    assert {each.code for each in result.reasons} == {Code.SESSION}


def test_appraise__simulated_machine_permitted__affirmed_and_named() -> None:
    kit = make_kit(AFTER)
    kit.claims["simulated"] = [SHARED_ENGINE, "power"]
    kit.claims["containers"] |= {"foreign": 3, "confined": True}
    checked(images=None)(kit)
    kit.policy = AppraisalPolicy(frozenset({PI_ONLY}), frozenset({SHARED_ENGINE, "power", "root"}))
    kit.endorsements = Endorsements(RootClass.SOFTWARE)
    result = kit.appraise()
    assert result.reasons == ()
    assert any("containers of others" in text for text in result.not_checked)
    assert any("removal of the runtime image" in text for text in result.not_checked)


def test_appraise__emulated_machine_with_its_own_engine__foreign_containers_refused() -> None:
    kit = make_kit(AFTER)
    kit.claims["simulated"] = ["machine", "cable", "power", "tpm"]
    kit.claims["containers"]["foreign"] = 3
    kit.policy = AppraisalPolicy(kit.policy.vouch, frozenset(kit.claims["simulated"]))
    assert {each.code for each in kit.appraise().reasons} == {Code.CONTAINERS}


def test_appraise__permitted_usb_device_appears__affirmed() -> None:
    """And with it a disk and a network card that belong to it, and every event of all three."""
    kit = make_kit(DURING)
    kit.claims["inventory"]["usb"].append(["1-2", "1d6b", "0002", ""])
    kit.claims["inventory"]["block"].append(["sda", 2048, 1, 0, "usb:1d6b:0002", "", ""])
    kit.claims["inventory"]["net"].append(["eth1", "52:54:00:00:00:02", 1, "usb:1d6b:0002"])
    happen(*PERMITTED, ("add", "block", "sda", "usb:1d6b:0002"))(kit)
    assert kit.appraise().reasons == ()


@pytest.mark.parametrize("phase", list(Phase))
def test_appraise__kernel_shared_with_others__events_named_as_not_checked(phase: Phase) -> None:
    kit = make_kit(phase)
    kit.claims["events"] = None
    result = kit.appraise()
    assert result.reasons == ()
    assert "kernel events (the machine shares its kernel with others)" in result.not_checked


def test_appraise__permitted_device_passed_in__affirmed_with_its_flag() -> None:
    kit = make_kit(DURING)
    kit.claims["devices"] = [["/dev/ttyUSB0", "/dev/ttyUSB0"]]
    kit.claims["containers"]["own"][0]["flags"]["devices"] = ["/dev/ttyUSB0"]
    assert kit.appraise().verdict is Verdict.AFFIRMING


def test_appraise__function_failed__affirmed_because_the_run_is_what_is_paid() -> None:
    kit = make_kit(AFTER)
    outcome(exit_code=7)(kit)
    assert kit.appraise().verdict is Verdict.AFFIRMING


def test_appraise__input_missing__affirmed_without_results() -> None:
    kit = make_kit(AFTER)
    outcome(status=Ending.INPUT_MISSING, exit_code=None, results={})(kit)
    assert kit.appraise().verdict is Verdict.AFFIRMING


def test_appraise__connections_refused__told_and_not_held_against() -> None:
    kit = make_kit(DURING)
    kit.claims["network"]["counts"] = {"refused": 3, "permitted": 0}
    result = kit.appraise()
    assert result.verdict is Verdict.AFFIRMING
    assert result.notes == ("connections refused: 3",)


def test_appraise__answer_that_got_lost__question_of_mine_accepted() -> None:
    kit = make_kit(AFTER)
    answers(*kits.ANSWERS, (kits.MEMBER, b"\x04" * 32, X32))(kit)
    kit.expect(asked=frozenset({b"\x04" * 32}))
    assert kit.appraise().verdict is Verdict.AFFIRMING


def test_appraise__ran_no_longer_than_it_was_let_ask__affirmed() -> None:
    kit = make_kit(Phase.AFTER)
    text = "that questions were answered for as long as it ran (never declined)"
    assert text in kit.appraise().not_checked
    for longest in (0, 3_000, 9_000):  # the run took 3 s; clocks may differ a little
        kit.expect(longest=longest)
        result = kit.appraise()
        assert result.reasons == ()
        assert text not in result.not_checked


def test_appraise__many_things_wrong__every_reason_named() -> None:
    kit = make_kit(DURING)
    for mutate in (
        put("chain/task", 9),
        put("agent/digest", X32),
        put("boot/image", X32),
        put("network/policy", []),
        put("containers/own/0/user", "root"),
    ):
        mutate(kit)
    codes = {each.code for each in kit.appraise().reasons}
    assert codes == {C.CONTEXT, C.AGENT, C.BOOT_IMAGE, C.NETWORK, C.HARDENING}


def test_appraise__unknown_claims_and_keys__named_as_not_checked() -> None:
    kit = make_kit(DURING)
    kit.claims["weather"] = "fine"
    kit.claims["agent"]["mood"] = "good"
    kit.claims["containers"]["own"][0]["flags"]["colour"] = "red"
    result = kit.appraise()
    assert {"claim weather", "claim agent.mood", "container flag colour"} <= set(result.not_checked)


def test_appraise__thousands_of_findings__result_bounded_and_negative() -> None:
    kit = make_kit(DURING)
    kit.claims["devices"] = [[f"/dev/x{n}", f"/dev/x{n}"] for n in range(250)]
    result = kit.appraise()
    assert len(result.reasons) == MAX_REASONS
    assert result.verdict is Verdict.CONTRAINDICATED


def test_appraise__no_reference_values__refused() -> None:
    kit = make_kit(BEFORE)
    kit.reference = ReferenceValues()
    codes = {each.code for each in kit.appraise().reasons}
    assert codes == {C.BOOT_IMAGE, C.AGENT, C.RANGES, C.RUNTIME_IMAGE}


def test_reason__foreign_text__printable_and_bounded() -> None:
    text = reason(Code.NONCE, "a\x1b[31m\nb" + "x" * 500).text
    assert text.isprintable()
    assert len(text) == 200


def test_remembered__encoded__comes_back() -> None:
    assert Remembered.decode(OLD.encode()) == OLD


def test_merge__one_failure_among_good__stays_a_failure() -> None:
    good, bad = make_kit(DURING), make_kit(DURING)
    put("agent/digest", X32)(bad)
    results = [good.appraise(), bad.appraise(), good.appraise()]
    merged = merge(results)
    assert merged.verdict is Verdict.CONTRAINDICATED
    assert {each.code for each in merged.reasons} == {Code.AGENT}
    assert merge(results[:1]).verdict is Verdict.AFFIRMING


def test_merge__nothing_or_a_bare_failure__a_failure() -> None:
    assert merge([]).verdict is Verdict.CONTRAINDICATED
    bare = AttestationResult(Verdict.CONTRAINDICATED, (), ())
    assert merge([bare]).verdict is Verdict.CONTRAINDICATED
