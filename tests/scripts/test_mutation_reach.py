"""Of which tests a mutant is spared: only of those that cannot notice it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import boa
import pytest

from scripts.mutation.reach import UNKNOWN, Codes, Line, Reach, statement_of
from scripts.mutation.sites import ROOT, Mutant, mutants_of

FILE = "contracts/modules/class_grid.vy"


def lines(first: int, last: int) -> set[Line]:
    return {(FILE, number) for number in range(first, last + 1)}


@pytest.fixture(scope="module")
def by_name() -> dict[str, Mutant]:
    return {one.name: one for one in mutants_of(ROOT, FILE)}


def line_of(text: str) -> int:
    source = (ROOT / FILE).read_text().splitlines()
    return next(number for number, line in enumerate(source, 1) if text in line)


def test_statement_of__plain_statement__its_lines(by_name: dict[str, Mutant]) -> None:
    mutant = by_name["class_grid.remove:removed-assert#1"]
    assert statement_of(mutant, [lines(1, 300)]) == lines(mutant.line, mutant.line)


def test_statement_of__condition__without_the_body(by_name: dict[str, Mutant]) -> None:
    mutant = by_name["class_grid._redraw:comparison#1"]
    assert mutant.line == line_of("if attempt < REDRAWS")
    assert statement_of(mutant, [lines(1, 300)]) == lines(mutant.line, mutant.line)


def test_statement_of__statement_over_several_lines__all_of_them(
    by_name: dict[str, Mutant],
) -> None:
    begin = line_of("beyond: uint256 = (")
    inside = [one for one in by_name.values() if begin < one.line <= begin + 5]
    assert inside
    for mutant in inside:
        assert statement_of(mutant, [lines(1, 300)]) == lines(begin, begin + 5)


def test_statement_of__one_contract_without_code_for_it__whole_function(
    by_name: dict[str, Mutant],
) -> None:
    mutant = by_name["class_grid.remove:removed-assert#1"]
    without = lines(1, 300) - lines(mutant.line, mutant.line)
    found = statement_of(mutant, [lines(1, 300), without])
    assert lines(line_of("def remove("), line_of("return moved")) <= found
    assert (FILE, line_of("def add(")) not in found


def test_statement_of__constant__every_line_of_the_file(by_name: dict[str, Mutant]) -> None:
    constant = next(one for name, one in by_name.items() if ".constants:" in name)
    everything = lines(1, 300)
    assert statement_of(constant, [everything | {("another.vy", 1)}]) == everything


# --- what a test executes -----------------------------------------------------------------------

MOCK = ROOT / "contracts" / "mocks" / "TicketMock.vy"
TICKET = "contracts/modules/ticket.vy"


@pytest.fixture(scope="module")
def codes() -> Codes:
    return Codes([boa.load_partial(str(MOCK)).compiler_data])


@pytest.fixture(scope="module")
def mock() -> Any:
    return boa.load(str(MOCK))


class Item:
    """What `Reach` asks of a test."""

    def __init__(self, *fixtures: Any) -> None:
        self._fixtureinfo = SimpleNamespace(name2fixturedefs={"fixture": fixtures})


def ticket_line(text: str) -> Line:
    source = (ROOT / TICKET).read_text().splitlines()
    return TICKET, next(number for number, line in enumerate(source, 1) if text in line)


def test_reach__call_that_reverts_early__executes_no_later_line(codes: Codes, mock: Any) -> None:
    reach, item = Reach(codes), Item()
    with reach.recording(), boa.reverts("ticket: weight is zero"):
        mock.ticket_of(b"\x01" * 32, 0)
    early = reach.of(item)  # type: ignore[arg-type]
    with reach.recording():
        mock.ticket_of(b"\x01" * 32, 1)
    whole = reach.of(item)  # type: ignore[arg-type]
    assert ticket_line("assert weight != 0") in early & whole
    assert ticket_line("// weight") in whole - early
    assert UNKNOWN not in whole
    assert not reach.of(item)  # type: ignore[arg-type]


def test_reach__shared_fixture__counts_for_every_test_that_uses_it(codes: Codes, mock: Any) -> None:
    reach = Reach(codes)

    class Definition:
        scope = "session"

    with reach.recording():
        setup = reach.pytest_fixture_setup(Definition)  # type: ignore[arg-type]
        next(setup)
        mock.ticket_of(b"\x01" * 32, 1)
        with pytest.raises(StopIteration):
            next(setup)
    line = ticket_line("// weight")
    assert line not in reach.of(Item())  # type: ignore[arg-type]
    for _ in range(2):
        assert line in reach.of(Item(Definition))  # type: ignore[arg-type]


def test_reach__code_without_source__counts_as_executing_everything(codes: Codes) -> None:
    stranger = boa.loads("@external\ndef one() -> uint256:\n    return 1\n")
    reach = Reach(codes)
    with reach.recording():
        stranger.one()
    assert reach.of(Item()) == {UNKNOWN}  # type: ignore[arg-type]


def test_reach__creation_that_reverts__executes_the_constructor() -> None:
    """What only a constructor refuses is seen by the tests that create, and by no call after it."""
    path, module = ROOT / "contracts/mocks/P256Mock.vy", "contracts/modules/p256_signature.vy"
    code = boa.load_partial(str(path))
    reach = Reach(Codes([code.compiler_data]))
    with reach.recording(), boa.reverts("p256: verifier is not a contract"):
        code.deploy(boa.env.generate_address())
    source = (ROOT / module).read_text().splitlines()
    line = next(at for at, text in enumerate(source, 1) if "assert verifier_.is_contract" in text)
    executed = reach.of(Item())  # type: ignore[arg-type]
    assert (module, line) in executed
    assert (module, line + 1) not in executed
