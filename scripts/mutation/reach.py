"""Which tests execute which lines of the contracts, so that a mutant meets no test in vain.

A test that never executes the mutated statement runs exactly as without the mutation: leaving it
out changes no result. Measured once, on the unmutated contracts: each test is charged with what its
own calls execute and with what the fixtures execute that it shares with others. Whatever cannot be
told for certain counts as executed by every test that executes anything of the file: constants,
constructors and what they call, statements without code of their own. A test that calls code with
unknown source counts as executing everything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from boa.vm import py_evm
from vyper.ast import nodes as ast  # type: ignore[import-untyped]
from vyper.ast import parse_to_ast

from scripts.mutation.compiling import creation_map
from scripts.mutation.sites import ROOT, Mutant

Line = tuple[str, int]  # file from the root of the repository (a library's: from /), line from 1
UNKNOWN: Final[Line] = ("", 0)


class Codes:
    """The source lines behind the opcodes of all contracts that the tests deploy."""

    def __init__(self, compiled: Iterable[Any]) -> None:
        self._lines: list[tuple[bytes, dict[int, Line]]] = []
        self._found: dict[bytes, dict[int, Line] | None] = {}
        for one in compiled:
            self._add(one)

    def _add(self, compiled: Any) -> None:
        # behind the code of a contract stand its immutables, behind that of a creation arguments
        self._lines.append((compiled.bytecode_runtime, _lines(compiled.source_map)))
        self._lines.append((compiled.bytecode, _lines(creation_map(compiled))))

    def executed(self, code: bytes, trace: set[int]) -> set[Line]:
        """The lines behind some opcodes of a code."""
        if code not in self._found:
            known = (lines for start, lines in self._lines if code.startswith(start))
            self._found[code] = next(known, None)
        lines = self._found[code]
        return {UNKNOWN} if lines is None else {lines[pc] for pc in trace if pc in lines}

    def all(self) -> list[set[Line]]:
        """By contract: every line that has code of its own there."""
        return [set(lines.values()) for _, lines in self._lines]


def _lines(source_map: Any) -> dict[int, Line]:
    return {
        pc: (node.module_node.resolved_path.removeprefix(f"{ROOT}/"), int(node.lineno))
        for pc, node in source_map["pc_raw_ast_map"].items()
    }


class Reach:
    """A pytest plugin that notes what every test executes, while `recording`."""

    def __init__(self, codes: Codes) -> None:
        self._codes = codes
        self._streams: list[Any] = []
        self._shared: dict[int, set[Line]] = {}  # by fixture definition

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note each code that starts to run."""
        real = py_evm.TracingCodeStream.__init__

        def noted(stream: Any, *arguments: Any, **options: Any) -> None:
            real(stream, *arguments, **options)
            self._streams.append(stream)

        py_evm.TracingCodeStream.__init__ = noted
        try:
            yield
        finally:
            py_evm.TracingCodeStream.__init__ = real

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
        """What a fixture executes once is executed for all tests that use it."""
        before, self._streams = self._streams, []
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                self._shared[id(fixturedef)] = self._take()
            self._streams += before

    def of(self, item: pytest.Item) -> set[Line]:
        """The lines that the test executed which has just ended."""
        found = self._take()
        fixtures = getattr(item, "_fixtureinfo").name2fixturedefs.values()  # noqa: B009
        return found.union(
            *(self._shared.get(id(one), set()) for several in fixtures for one in several)
        )

    def _take(self) -> set[Line]:
        streams, self._streams = self._streams, []
        traces: dict[bytes, set[int]] = defaultdict(set)
        for stream in streams:
            traces[bytes(stream._raw_code_bytes)].update(stream._trace)
        return {
            line
            for code, trace in traces.items()
            if code
            for line in self._codes.executed(code, trace)
        }

    def lines(self) -> list[set[Line]]:
        """By contract: every line that has code of its own there."""
        return self._codes.all()


def statement_of(mutant: Mutant, with_code: list[set[Line]]) -> set[Line]:
    """The lines of which a test must execute one to notice the mutant; all of the file's, if that
    cannot be told.

    ``with_code``: by contract, the lines that have code of their own there.
    """
    everything = {line for lines in with_code for line in lines if line[0] == mutant.file}
    tree = parse_to_ast((ROOT / mutant.file).read_text())
    called = {
        call.func.attr
        for function in tree.get_children(ast.FunctionDef)
        if function.name == "__init__"
        for call in function.get_descendants(ast.Call)
        if isinstance(call.func, ast.Attribute)
    }
    for function in tree.get_children(ast.FunctionDef):
        if not function.lineno <= mutant.line <= function.end_lineno:
            continue
        if function.name in called | {"__init__"}:
            return everything
        whole = {(mutant.file, line) for line in range(function.lineno, function.end_lineno + 1)}
        inside = [
            {(mutant.file, line) for line in range(begin, end + 1)}
            for begin, end in map(_extent, function.get_descendants(ast.Stmt))
            if function.lineno < begin <= mutant.line <= end
        ]
        # A contract with the function, but without code for the statement, has it elsewhere.
        homes = [lines for lines in with_code if lines & whole]
        fitting = (one for one in [*inside, whole] if homes and all(one & at for at in homes))
        return next(fitting, everything)
    return everything


def _extent(statement: Any) -> tuple[int, int]:
    """First and last line of a statement, without the statements inside of it."""
    body = getattr(statement, "body", None)
    return statement.lineno, (body[0].lineno - 1 if body else statement.end_lineno)
