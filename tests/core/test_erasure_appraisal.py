"""Appraisal of a proof of erasure: honest ones pass, each change is refused as an erasure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.formats.erasure import WINDOW, ErasureProof
from nodeclient.core.claims import Region
from nodeclient.core.erasure import plan_ranges, uncovered
from nodeclient.core.evidence_policy import Remembered
from nodeclient.core.types import Phase, Verdict
from tests.core.erasure_kit import MIB, RANGES, UNCOVERED
from tests.core.erasure_mutations import ERASURE_MUTATIONS, SPARE, eraser_tpm, less, proved
from tests.core.evidence_kit import before_quoted, make_kit, make_quoted
from tests.core.mutations import AFTER, C, Mutation
from tests.core.tpm_mutations import tpm


def test_erased__honest_proof__affirmed_and_the_figures_told() -> None:
    result = make_quoted(AFTER).appraise()
    assert result.verdict is Verdict.AFFIRMING
    size = sum(length for _, length in RANGES)
    assert f"RAM: {size} bytes erased, {UNCOVERED} not covered" in result.notes
    assert not any("RAM after" in text or "boots between" in text for text in result.not_checked)


@pytest.mark.parametrize(
    ("phase", "mutate", "codes"),
    [row[1:] for row in ERASURE_MUTATIONS],
    ids=[f"{row[1].name}: {row[0]}" for row in ERASURE_MUTATIONS],
)
def test_erased__one_thing_changed__refused_for_that_reason(
    phase: Phase, mutate: Mutation, codes: set[C]
) -> None:
    kit = make_quoted(phase)
    mutate(kit)
    result = kit.appraise()
    assert {each.code for each in result.reasons} == codes
    assert result.verdict is Verdict.CONTRAINDICATED


def test_erased__boots_between_run_and_erasure__named() -> None:
    kit = make_quoted(AFTER)
    eraser_tpm(resets=9)(kit)
    tpm(resets=10)(kit)
    result = kit.appraise()
    assert result.verdict is Verdict.AFFIRMING
    assert "what 1 boots between the run and the erasure did with the RAM" in result.not_checked


def test_erased__boot_between_that_saved_the_tpms_state__named() -> None:
    """TPM2_Shutdown(STATE) before a reset: the eraser's boot is a TPM Restart, not a TPM Reset."""
    kit = make_quoted(AFTER)
    eraser_tpm(restarts=1)(kit)
    result = kit.appraise()
    assert result.verdict is Verdict.AFFIRMING
    assert "what 1 boots between the run and the erasure did with the RAM" in result.not_checked


def test_erased__pi_vouches__named_as_not_checked() -> None:
    result = make_kit(AFTER).appraise()
    assert result.verdict is Verdict.AFFIRMING
    told = "RAM after the run (no TPM vouches: only its Pi could know it erased)"
    assert told in result.not_checked


def test_erased__no_more_left_out_than_accepted__affirmed() -> None:
    """The row of one page more stands in the table."""
    kit = make_quoted(AFTER)
    proved(ranges=less(SPARE))(kit)
    assert kit.appraise().verdict is Verdict.AFFIRMING


def test_remembered__memory__comes_back() -> None:
    remembered = before_quoted()
    assert remembered.memory
    assert Remembered.decode(remembered.encode()) == remembered


def test_proof__honest__comes_back() -> None:
    kit = make_quoted(AFTER)
    assert kit.erasure is not None
    encoded = kit.erasure.encode()
    proof = ErasureProof.decode(encoded)
    assert proof.encode() == encoded
    assert replace(proof, quote=None, event_log=b"") == kit.erasure.proof


def ram(start: int, end: int, kind: str = "System RAM") -> Region:
    return Region(start, end, kind)


def test_plan__whole_pages_of_ram_above_the_window() -> None:
    memory = (
        ram(1 << 32, (1 << 32) + MIB + 5),
        ram(0, 640 << 10),
        ram(640 << 10, MIB, "Reserved"),
        ram(MIB, WINDOW + 4096 + 1),
        ram(WINDOW + 8191, WINDOW + 3 * 4096),
        ram(WINDOW + MIB, WINDOW + MIB + 4095),
    )
    assert plan_ranges(memory) == (
        (WINDOW, 4096),
        (WINDOW + 8192, 4096),
        (1 << 32, MIB),
    )
    left = (640 << 10) + (WINDOW - MIB) + 1 + 1 + 4095 + 5
    assert uncovered(memory, plan_ranges(memory)) == left


def test_plan__rows_that_overlap__counted_once() -> None:
    memory = (ram(WINDOW, WINDOW + MIB), ram(WINDOW + 4096, WINDOW + 2 * MIB))
    assert plan_ranges(memory) == ((WINDOW, 2 * MIB),)
    assert uncovered(memory, ()) == 2 * MIB


def test_plan__more_pieces_than_an_order_takes__the_largest() -> None:
    memory = tuple(
        ram(WINDOW + n * MIB, WINDOW + n * MIB + (4096 if n % 2 else 8192)) for n in range(400)
    )
    ranges = plan_ranges(memory)
    assert len(ranges) == 256
    assert ranges == tuple(sorted(ranges))
    assert sum(length == 8192 for _, length in ranges) == 200
    assert uncovered(memory, ranges) == 144 * 4096


def test_plan__no_ram_above_the_window__nothing() -> None:
    assert plan_ranges((ram(0, WINDOW), ram(1 << 32, 1 << 33, "Reserved"))) == ()
