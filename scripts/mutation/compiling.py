"""Compiles what a mutant changes, and makes the tests of a child see it.

Everything is compiled once in the parent. A child compiles only the contracts into which the
mutated file is compiled, each of them when a test first asks for it, and once whoever asks: the
tests that deploy outputs of the compiler and those that load through titanoboa. The rest it
inherits.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import boa
from boa.contracts.vyper.vyper_contract import VyperContract
from vyper.ast import nodes as ast  # type: ignore[import-untyped]
from vyper.ast import parse_to_ast
from vyper.cli.vyper_compile import get_search_paths  # type: ignore[import-untyped]
from vyper.compiler.input_bundle import (  # type: ignore[import-untyped]
    FileInput,
    FilesystemInputBundle,
)
from vyper.compiler.output import build_abi_output  # type: ignore[import-untyped]
from vyper.compiler.phases import CompilerData  # type: ignore[import-untyped]
from vyper.compiler.settings import Settings, anchor_settings  # type: ignore[import-untyped]
from vyper.ir import compile_ir, optimizer  # type: ignore[import-untyped]

from scripts.mutation.sites import ROOT, Mutant

FOLDERS: Final = ("contracts", "contracts/mocks", "tests/contracts")
# Every contract that the tests deploy.
ALL: Final = tuple(
    str(source.relative_to(ROOT))
    for folder in FOLDERS
    for source in sorted((ROOT / folder).glob("*.vy"))
)
# Those of them that a network deploys.
CONTRACTS: Final = tuple(source for source in ALL if str(Path(source).parent) == FOLDERS[0])


class Compiled:
    """The sources below a root, each compiled when it is first asked for.

    ``mutated``: a file below the root, relative to it, that differs from the one of the originals;
    every source without it is taken from ``originals``.
    """

    def __init__(self, root: Path, mutated: str = "", originals: Compiled | None = None) -> None:
        self.root = root
        self._mutated = mutated
        self._originals = originals
        self._found: dict[str, Any] = {}
        self.refused = ""  # why the compiler did not take a source, if it did not

    def of(self, source: str) -> Any:
        """What titanoboa keeps of a compiled source. Raises what the compiler raises."""
        if self._originals is not None and self._mutated not in closure(source):
            return self._originals.of(source)
        if source not in self._found:
            try:
                self._found[source] = _compile(self.root, source)
            except Exception as error:
                self.refused = type(error).__name__
                raise
        return self._found[source]

    def output(self, source: str) -> dict[str, Any]:
        """The same as the compiler's output, as far as the tests use it."""
        data = self.of(source)
        with anchor_settings(data.settings):
            return {"abi": build_abi_output(data), "bytecode": f"0x{data.bytecode.hex()}"}

    def everything(self) -> list[Any]:
        """All that was compiled so far."""
        return list(self._found.values())

    def differs(self) -> bool:
        """Whether the code of a source differs from that of the originals, the small ones (mocks
        of a module) tried first: many tests need no other. Raises what the compiler raises."""
        sources = sorted(ALL, key=lambda source: len(self._original(source).bytecode))
        return any(self._has_other_code(source) for source in sources)

    def is_deployed(self) -> bool:
        """Whether the code of a contract that is not a mock differs."""
        return any(self._has_other_code(source) for source in CONTRACTS)

    def _has_other_code(self, source: str) -> bool:
        if self._mutated not in closure(source):
            return False
        return _code(self.of(source)) != _code(self._original(source))

    def _original(self, source: str) -> Any:
        return (self._originals or self).of(source)

    def use(self) -> None:
        """From now on every contract test of this process sees these sources."""
        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").startswith("tests.contracts"):
                if hasattr(module, "ROOT"):
                    module.ROOT = self.root  # type: ignore[attr-defined]
                if hasattr(module, "compiled"):
                    module.compiled = self.output  # type: ignore[attr-defined]
        real = boa.interpret.compiler_data

        def compiler_data(text: str, name: Any, filename: Any, *rest: Any, **options: Any) -> Any:
            path = Path(filename)
            known = path.is_relative_to(self.root) and path.is_file() and path.read_text() == text
            if known and not options:
                return _with_lines(self.of(str(path.relative_to(self.root))))
            return _with_lines(real(text, name, filename, *rest, **options))

        boa.interpret.compiler_data = compiler_data
        # what mutants compile is of no use to anybody after them
        boa.interpret.disable_cache()
        # titanoboa assembles the code anew for every deployment, to know its lines
        VyperContract._deployment_source_map = property(
            lambda contract: creation_map(contract.compiler_data)
        )


def originals() -> Compiled:
    """The unmutated sources, all compiled."""
    found = Compiled(ROOT)
    for source in ALL:
        _with_lines(found.of(source))
    return found


def _code(data: Any) -> bytes:
    """Creation code, in which the runtime code stands, without the metadata behind it: they hold a
    hash of the sources."""
    return bytes(data.bytecode[: -int.from_bytes(data.bytecode[-2:], "big")])


def overlay(mutant: Mutant, root: Path) -> Path:
    """Put a copy of all Vyper sources, with the mutated one in its place, into an empty folder."""
    shutil.copytree(ROOT / "contracts", root / "contracts")
    (root / "tests" / "contracts").mkdir(parents=True)
    for source in (ROOT / "tests" / "contracts").glob("*.vy"):
        shutil.copy(source, root / "tests" / "contracts")
    (root / mutant.file).write_text(mutant.apply((ROOT / mutant.file).read_text()))
    return root


@cache
def closure(source: str) -> frozenset[str]:
    """A source and the modules compiled into it."""
    found, waiting = {source}, [source]
    while waiting:
        tree = parse_to_ast((ROOT / waiting.pop()).read_text())
        for node in tree.get_children(ast.ImportFrom):
            module = f"contracts/modules/{node.name}.vy"
            if module not in found and (ROOT / module).exists():
                found.add(module)
                waiting.append(module)
    return frozenset(found)


def _compile(root: Path, source: str) -> Any:
    path = root / source
    file = FileInput(
        contents=path.read_text(), source_id=-1, path=path, resolved_path=path.resolve()
    )
    data = CompilerData(file, FilesystemInputBundle(get_search_paths([str(root)])), Settings())
    with anchor_settings(data.settings), _settled_once():
        _ = data.bytecode
    return data


@contextmanager
def _settled_once() -> Iterator[None]:
    """The compiler optimizes every expression again with each one around it, and they are deep.
    What it has once left as it was, it leaves so again (below a parent of the same kind): so it is
    not asked again. The code is the same to the byte, in half the time."""
    real = optimizer._optimize

    def once(node: Any, parent: Any) -> tuple[bool, Any]:
        kind = None if parent is None else parent.value
        settled = node.__dict__.setdefault("settled_below", set())
        if kind in settled:
            return False, node
        changed, result = real(node, parent)
        if not changed and result is node:
            settled.add(kind)
        return changed, result

    optimizer._optimize = once
    try:
        yield
    finally:
        optimizer._optimize = real


def _with_lines(data: Any) -> Any:
    """Note the lines behind the code, as titanoboa does where it keeps a cache."""
    if "source_map" not in data.__dict__:
        with anchor_settings(data.settings):
            data.source_map = compile_ir.assembly_to_evm(data.assembly_runtime)[1]
    return data


def creation_map(data: Any) -> Any:
    """The lines behind the code that creates a contract, as the compiler maps them."""
    if "deployment_source_map" not in data.__dict__:
        with anchor_settings(data.settings):
            data.deployment_source_map = compile_ir.assembly_to_evm(data.assembly)[1]
    return data.deployment_source_map
