"""What a mutant's child compiles: what differs, as the compiler does it, and no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boa
import pytest
from vyper.cli.vyper_compile import compile_files  # type: ignore[import-untyped]

from scripts.mutation.children import Children, Result
from scripts.mutation.compiling import Compiled, overlay
from scripts.mutation.sites import ROOT, Mutant, mutants_of
from scripts.mutation.trial import BEST, in_order

MODULE = "contracts/modules/ticket.vy"
MOCK = "contracts/mocks/TicketMock.vy"
OTHER = "contracts/mocks/P256Mock.vy"


@pytest.fixture(scope="module")
def mutant() -> Mutant:
    return next(one for one in mutants_of(ROOT, MODULE) if one.name == "ticket.ticket_of:swapped#3")


@pytest.fixture(scope="module")
def originals() -> Compiled:
    return Compiled(ROOT)


def mutated(mutant: Mutant, folder: Path, originals: Compiled) -> Compiled:
    return Compiled(overlay(mutant, folder), mutant.file, originals)


def plain(root: Path, source: str) -> str:
    outputs = compile_files([root / source], ["bytecode"], paths=[str(root)])
    return str(next(iter(outputs.values()))["bytecode"])


@pytest.mark.parametrize(
    "source", [MOCK, "contracts/AttestationLedger.vy", "contracts/ReputationLedger.vy"]
)
def test_of__original__code_of_the_compiler(originals: Compiled, source: str) -> None:
    """Though it optimizes nothing twice that it has left as it was."""
    assert originals.output(source)["bytecode"] == plain(ROOT, source)


def test_of__mutant__only_what_it_is_compiled_into_differs(
    mutant: Mutant, tmp_path: Path, originals: Compiled
) -> None:
    changed = mutated(mutant, tmp_path, originals)
    assert changed.of(OTHER) is originals.of(OTHER)
    assert changed.output(MOCK)["bytecode"] == plain(tmp_path, MOCK)
    assert changed.output(MOCK) != originals.output(MOCK)
    assert changed.of(MOCK) is changed.of(MOCK)


def test_differs__mutant__found_by_the_mock_alone(
    mutant: Mutant, tmp_path: Path, originals: Compiled
) -> None:
    changed = mutated(mutant, tmp_path, originals)
    assert changed.differs()
    assert [one.contract_path for one in changed.everything()] == [tmp_path / MOCK]


def test_differs__another_comment__no(mutant: Mutant, tmp_path: Path, originals: Compiled) -> None:
    """The sources' hash stands behind the code; it is no behaviour."""
    same = mutated(replace(mutant, after=mutant.before), tmp_path, originals)
    (tmp_path / MODULE).write_text((ROOT / MODULE).read_text() + "# more\n")
    assert same.of(MOCK).bytecode != originals.of(MOCK).bytecode
    assert not same.differs()
    assert not same.is_deployed()


def test_differs__does_not_compile__raises_and_is_said(
    mutant: Mutant, tmp_path: Path, originals: Compiled
) -> None:
    broken = mutated(replace(mutant, after='"text"'), tmp_path, originals)
    with pytest.raises(Exception, match="text"):
        broken.differs()
    assert broken.refused


def test_use__titanoboa_in_a_child__loads_the_mutant(mutant: Mutant, originals: Compiled) -> None:
    def ticket(_: Path) -> Result:
        found = boa.load(str(ROOT / MOCK)).ticket_of(b"\x01" * 32, 7)
        return {"ticket": found}

    def of_mutant(folder: Path) -> Result:
        mutated(mutant, folder, originals).use()
        found: Any = boa.load(str(folder / MOCK)).ticket_of(b"\x01" * 32, 7)
        # what no file holds is compiled as ever
        other = boa.loads("@external\ndef one() -> uint256:\n    return 1\n").one()
        return {"ticket": found, "other": other}

    with Children() as children:
        children.start(ticket)
        true = children.wait().result["ticket"]
        children.start(of_mutant)
        answer = children.wait().result
    assert true > 0
    assert answer == {"ticket": 0, "other": 1}


def test_in_order__best_killers__then_file_by_file() -> None:
    """What tests of a file share must not be made again for each of them."""
    names = [f"{file}::{number}" for number in range(20) for file in "abc"]
    items: Any = [SimpleNamespace(nodeid=name, path=Path(name[0])) for name in names]
    kills = dict.fromkeys(names[:BEST], 3) | {"c::19": 1}
    seconds = {name: 2.0 if name[0] == "a" else 1.0 for name in names}
    found = [item.nodeid for item in in_order(items, kills, seconds)]
    assert set(found[:BEST]) == set(names[:BEST])
    assert sorted(found) == sorted(names)
    rest = [name[0] for name in found[BEST:]]
    assert rest == sorted(rest, key="cba".index)
