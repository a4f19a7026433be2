"""Appraisal of a PC whose TPM vouches: honest ones pass, every single change is refused for itself.

The table stands in ``tpm_mutations``; ``test_appraisal`` shows that no check is there in vain.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.formats.cbor import FormatError
from agent.formats.evidence import PI_ONLY, TPM_QUOTED
from agent.formats.p256 import ORDER, SigningKey
from nodeclient.core.evidence_policy import Remembered, remember
from nodeclient.core.types import Phase, Verdict
from tests.core import tpm_builder as pcs
from tests.core.evidence_kit import before_quoted, make_kit, make_quoted
from tests.core.mutations import AFTER, BEFORE, DURING, X32, C, Mutation, put, refer
from tests.core.tpm_builder import Measurement
from tests.core.tpm_mutations import (
    TPM_MUTATIONS,
    endorse,
    known_tpm,
    measure,
    pc,
    pc_of,
    requote,
    tpm,
)


@pytest.mark.parametrize("phase", list(Phase))
def test_appraise__honest_quote__affirmed_and_the_unmade_checks_named(phase: Phase) -> None:
    kit = make_quoted(phase)
    result = kit.appraise()
    assert result.reasons == ()
    assert result.verdict is Verdict.AFFIRMING
    assert "boot measurements (no TPM quote)" not in result.not_checked
    shown = remember(kit.evidence()).tpm
    assert shown is not None
    unread = f"firmware {shown.firmware.hex()} (PCRs 0, 2, 3, 7: no reference values)"
    assert unread in result.not_checked


@pytest.mark.parametrize(
    ("phase", "mutate", "codes"),
    [row[1:] for row in TPM_MUTATIONS],
    ids=[f"{row[1].name}: {row[0]}" for row in TPM_MUTATIONS],
)
def test_appraise__one_thing_changed__refused_for_that_reason(
    phase: Phase, mutate: Mutation, codes: set[C]
) -> None:
    kit = make_quoted(phase)
    mutate(kit)
    result = kit.appraise()
    assert {each.code for each in result.reasons} == codes
    assert result.verdict is Verdict.CONTRAINDICATED


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("value", [None, 0, "", b"", [], {}, [[]], {"a": 1}, True, ["…"]])
def test_appraise__a_claim_of_the_tpm_out_of_shape__refused(phase: Phase, value: object) -> None:
    for name in ("quote", "event_log", "ima", "kernel", "root"):
        kit = make_quoted(phase)
        pc_of(kit).edits.append(lambda claims, name=name: claims.update({name: value}))
        assert kit.appraise().verdict is Verdict.CONTRAINDICATED, name


def test_appraise__several_things_wrong__every_reason_named() -> None:
    kit = make_quoted(BEFORE)
    for mutate in (
        tpm(key=SigningKey.generate()),
        endorse(ek_proven=False, ek_fault="maker unknown"),
        measure(12, pcs.IPL),
        pc(nonce=X32),
        put("kernel/0/2", X32),
    ):
        mutate(kit)
    result = kit.appraise()
    codes = {each.code for each in result.reasons}
    assert codes == {C.ATTESTATION_KEY, C.ENDORSEMENT, C.PCR, C.QUOTE, C.KERNEL}
    assert "maker unknown" in [each.text for each in result.reasons]


def test_appraise__approved_driver_and_firmware__affirmed_and_checked() -> None:
    kit = make_quoted(BEFORE)
    measure(2, pcs.DRIVER, digest=X32)(kit)
    before = remember(kit.evidence()).tpm
    assert before is not None
    refer(drivers=frozenset({X32}), firmware=frozenset({before.firmware}))(kit)
    result = kit.appraise()
    assert result.reasons == ()
    assert not any("no reference values" in text and "PCR" in text for text in result.not_checked)


def test_appraise__files_measured_by_ima__approved_ones_pass_others_are_named() -> None:
    kit = make_quoted(BEFORE)
    pc_of(kit).files = [pc_of(kit).aggregate(), ("/usr/bin/python3", X32)]
    result = kit.appraise()
    assert result.reasons == ()
    assert "IMA list of 1 files (no reference values)" in result.not_checked
    refer(files=frozenset({X32}))(kit)
    result = kit.appraise()
    assert result.reasons == ()
    assert not any("IMA" in text for text in result.not_checked)


def test_appraise__ima_grew_since_the_quote__prefix_accepted_and_told() -> None:
    kit = make_quoted(BEFORE)
    pc_of(kit).newer = [("/late", X32)]
    result = kit.appraise()
    assert result.verdict is Verdict.AFFIRMING
    assert result.notes == ("1 IMA entries are newer than the quote",)


def test_appraise__kernel_without_ima__affirmed_and_named() -> None:
    kit = make_quoted(BEFORE)
    pc_of(kit).files = []
    result = kit.appraise()
    assert result.verdict is Verdict.AFFIRMING
    assert "IMA list (the kernel measured nothing)" in result.not_checked


def test_appraise__clock_behind_after_a_power_loss__told_and_not_held_against() -> None:
    kit = make_quoted(AFTER)
    tpm(time_ms=10, safe=0)(kit)
    result = kit.appraise()
    assert result.verdict is Verdict.AFFIRMING
    assert "the TPM's clock is behind after a power loss" in result.notes


def test_appraise__tpm_known_from_an_earlier_task__affirmed() -> None:
    kit = make_quoted(BEFORE)
    known_tpm(resets=6, restarts=3, time_ms=4000)(kit)
    assert kit.appraise().reasons == ()


def test_appraise__quote_beside_a_pi_that_vouches__not_checked() -> None:
    kit = make_kit(BEFORE)
    kit.claims["quote"] = {"attest": b"", "signature": b"", "ak": b""}
    result = kit.appraise()
    assert result.verdict is Verdict.AFFIRMING
    assert "claim quote (no TPM vouches)" in result.not_checked


@pytest.mark.parametrize("phase", list(Phase))
def test_appraise__registered_with_a_tpm_but_the_pi_vouches__refused(phase: Phase) -> None:
    """The Pi alone could make all of it up: who promised a TPM is not let off by its operator."""
    kit = make_kit(phase)
    kit.endorsements = replace(kit.endorsements, attestation_key=bytes(32))
    assert kit.appraise().verdict is Verdict.AFFIRMING
    kit.endorsements = replace(kit.endorsements, attestation_key=X32)
    assert {each.code for each in kit.appraise().reasons} == {C.ATTESTATION_KEY}


def test_appraise__upper_half_signature_of_a_tpm__accepted() -> None:
    """TPMs do not normalise s; ours on chain must, a quote's need not."""

    def upper(signature: bytes) -> bytes:
        return signature[:-32] + (ORDER - int.from_bytes(signature[-32:], "big")).to_bytes(
            32, "big"
        )

    kit = make_quoted(BEFORE)
    requote("signature", upper)(kit)
    assert kit.appraise().reasons == ()


def test_appraise__firmware_started_at_locality_3__replayed_from_there() -> None:
    kit = make_quoted(BEFORE)
    pc_of(kit).events.insert(0, Measurement(0, pcs.NO_ACTION, b"StartupLocality\0\x03"))
    assert kit.appraise().reasons == ()


def test_appraise__failed_boot_option_first__affirmed() -> None:
    kit = make_quoted(BEFORE)
    returning = b"Returning from EFI Application from Boot Option"
    pc_of(kit).events.insert(5, Measurement(4, pcs.ACTION, returning))
    assert kit.appraise().reasons == ()


def test_appraise__policy_of_both__each_affirmed() -> None:
    for kit in (make_kit(DURING), make_quoted(DURING)):
        kit.policy = replace(kit.policy, vouch=frozenset({PI_ONLY, TPM_QUOTED}))
        assert kit.appraise().verdict is Verdict.AFFIRMING


def test_remembered__of_a_quote__comes_back() -> None:
    remembered = before_quoted()
    assert remembered.tpm is not None
    assert remembered.tpm.resets == 7
    assert Remembered.decode(remembered.encode()) == remembered


def test_remember__quote_that_does_not_parse__refused() -> None:
    kit = make_quoted(BEFORE)
    requote("attest", lambda attest: attest[:-1])(kit)
    with pytest.raises(FormatError):
        remember(kit.evidence())
