"""The short run: the same changes in every run, to samples with fresh keys. Long: `make fuzz`."""

from __future__ import annotations

import pytest

from tests.fuzz.check import Target, Violation, count_steps, judge, judge_cost, measure_memory
from tests.fuzz.mutate import Mutator
from tests.fuzz.targets import targets

MUTANTS, COSTED = 250, 40
everywhere = pytest.mark.parametrize("name", sorted(targets()))


@everywhere
def test_sample__unchanged__accepted(name: str) -> None:
    """The control: without it a parser that refuses everything would pass."""
    target = targets()[name]
    assert any(judge(target, sample) for sample in target.samples)


@everywhere
def test_mutants__each__refused_with_a_typed_error_or_means_what_it_says(name: str) -> None:
    target = targets()[name]
    mutator = Mutator(name, target.codec)
    refused = sum(not judge(target, mutator.mutant(target.samples)) for _ in range(MUTANTS))
    assert refused > 0 or not target.errors


@everywhere
def test_mutants__each__memory_and_steps_bounded_by_its_size(name: str) -> None:
    target = targets()[name]
    mutator = Mutator(name + " costs", target.codec)
    for sample in target.samples:
        judge_cost(target, sample)
    for _ in range(COSTED):
        judge_cost(target, mutator.mutant(target.samples))


# ------------------------------------------------------------------ that the harness sees anything


def toy(parse: object, meaning: object = None) -> Target:
    return Target(
        "toy", (b"1",), parse, (ValueError,), meaning or (lambda data, value: True), ()  # type: ignore[arg-type]
    )  # fmt: skip


def test_judge__untyped_error_or_wrong_meaning__violation() -> None:
    with pytest.raises(Violation, match="ZeroDivisionError"):
        judge(toy(lambda data: 1 // 0), b"x")
    with pytest.raises(Violation, match="means something else"):
        judge(toy(int, lambda data, value: str(value).encode() == data), b"01")
    assert judge(toy(int, lambda data, value: str(value).encode() == data), b"1")
    assert not judge(toy(int), b"x")


def test_judge_cost__memory_or_steps_beyond_the_input__violation() -> None:
    with pytest.raises(Violation, match="of memory"):
        judge_cost(toy(lambda data: bytearray(1 << 22)), b"x")
    with pytest.raises(Violation, match="steps"):
        judge_cost(toy(lambda data: [len(data) for _ in range(20_000)]), b"x")


def test_costs__more_work__more_counted() -> None:
    assert count_steps(lambda: [len("") for _ in range(100)]) >= 100
    assert measure_memory(lambda: bytearray(1 << 20)) >= 1 << 20


def test_mutator__same_seed__same_mutants_and_most_differ_from_the_sample() -> None:
    samples = targets()["TaskSpec"].samples
    one, other = (Mutator("seed", "cbor") for _ in range(2))
    first = [one.mutant(samples) for _ in range(300)]
    assert first == [other.mutant(samples) for _ in range(300)]
    assert len(set(first)) > 250
    assert sum(each in samples for each in first) < 30
