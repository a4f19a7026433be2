"""Tries mutants: each in a forked child that compiles it and runs the tests until one fails.

pytest collects the tests once, on the chain in process; every child then runs them in its own copy
of that session. A child compiles only the contracts into which the mutated file is compiled; all
others it inherits from the parent. It runs only the tests that execute the mutated statement
(`reach`). Which of them run first is learnt: those that killed other mutants of the same file, then
the quick ones. What a child does stays in the child.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import settings
from vyper.ast import nodes as ast  # type: ignore[import-untyped]
from vyper.ast import parse_to_ast

from scripts.mutation.children import Children, Result
from scripts.mutation.reach import UNKNOWN, Codes, Line, Reach, all_sources, statement_of
from scripts.mutation.sites import ROOT, Mutant

CONTRACTS: Final = (
    "contracts/P256Verifier.vy",
    "contracts/NodeRegistry.vy",
    "contracts/ReputationLedger.vy",
    "contracts/ImageRegistry.vy",
    "contracts/AttestationLedger.vy",
    "contracts/TaskMarket.vy",
)
# The kill-suite. The attacks of tests/contracts/attacks compile contracts of their own, with a
# defence removed by hand: they are slow, and what they show is shown there already.
SUITE: Final = (
    "test_task_market.py", "test_node_registry.py", "test_attestation_ledger.py",
    "test_life_cycle.py", "test_reputation_ledger.py", "test_image_registry.py",
    "test_class_grid.py", "test_sortition.py", "test_ecvrf.py", "test_entropy.py",
    "test_p256.py", "test_ticket.py", "test_wiring.py", "test_events.py",
    "test_freeze_pointer.py", "withholding", "properties",
)  # fmt: skip
# Arbitrary sequences of calls: as slow as all others together, and seldom the ones that kill. So
# they try only what survives the others (--survivors), and the mutants of docs/invariants.md.
# Left out, they can but lower the score.
SLOW_TESTS: Final = "properties"
# What is told to a constructor is tried by creating all contracts anew, mostly in vain: what these
# tests execute does not show what they see.
WIRING: Final = "test_wiring.py"
KILLED, SURVIVED, EQUIVALENT, UNCOMPILABLE, SLOW, BROKEN = (
    "killed", "survived", "equivalent", "uncompilable", "killed: out of time", "tool failed",
)  # fmt: skip


class Host:
    """A pytest plugin that replaces the test loop by one round of all tests for each mutant."""

    def __init__(
        self,
        mutants: list[Mutant],
        done: dict[str, Result],
        save: Callable[[Mutant, Result], None],
        jobs: int,
        wanted: dict[str, list[str]],
        slow: bool,
    ) -> None:
        self.mutants, self.done, self.save, self.jobs = mutants, done, save, jobs
        self.wanted = wanted  # by mutant's name: only these tests
        self.slow = slow  # whether the slow tests run too
        self.with_code: list[set[Line]] = []
        self.executed: dict[str, set[Line]] = {}  # by test
        self.items: list[pytest.Item] = []
        self.failed = ""
        self.elsewhere = False  # whether it failed for want of a chain of its own
        self.seconds: dict[str, float] = {}
        self.problem = ""
        self.interrupted = False

    @pytest.hookimpl
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Ctrl-C, which pytest tells by the same hook and exit code as its own reasons to stop."""
        self.interrupted = excinfo.type is KeyboardInterrupt

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Baseline first, then the mutants, `jobs` at a time."""
        with Children() as children:
            self._try_all(session, children)
        return True

    def _try_all(self, session: pytest.Session, children: Children) -> None:
        self.items = [item for item in session.items if self._is_asked_for(item)]
        originals = {source: _compiled(ROOT, source) for source in CONTRACTS}
        children.start(lambda _: self._baseline(session, originals))
        baseline = children.wait().result
        broken = baseline.get("failed", ["the baseline did not end"])
        if broken:
            self.problem = f"tests fail on the unmutated contracts in process: {broken}"
            return
        self.seconds = baseline["seconds"]
        lines: list[Line] = [(file, number) for file, number in baseline["lines"]]
        self.with_code = [{lines[at] for at in one} for one in baseline["with_code"]]
        self.executed = {
            test: {lines[at] for at in numbers} for test, numbers in baseline["executed"].items()
        }
        self.items = [item for item in self.items if item.nodeid not in baseline["elsewhere"]]
        waiting = list(reversed(self.mutants))
        running: dict[int, Mutant] = {}
        while waiting or running:
            while waiting and len(running) < self.jobs:
                mutant = waiting.pop()
                order = self._order(mutant)
                pid = children.start(
                    lambda folder, m=mutant, o=order: self._try(folder, session, m, o, originals)
                )
                running[pid] = mutant
            ended = children.wait()
            mutant = running.pop(ended.pid)
            result = ended.result or {"status": SLOW if ended.out_of_time else BROKEN, "by": ""}
            self.done[mutant.key] = result
            self.save(mutant, result)

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember the first failure, and how long each test took."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration
        if report.failed and not self.failed:
            self.failed = report.nodeid
            self.elsewhere = "NeedsAnvil" in str(report.longrepr)

    # --- in a child ---------------------------------------------------------------------------

    def _baseline(self, session: pytest.Session, originals: dict[str, Any]) -> Result:
        """All tests on the contracts as they are; those that need anvil are left out after."""
        _use(ROOT, originals)
        failed: dict[bool, list[str]] = {False: [], True: []}
        session.config.option.maxfail = 0
        reach = Reach(Codes(all_sources()))
        session.config.pluginmanager.register(reach)
        executed = {}
        for item, after in zip(self.items, [*self.items[1:], None], strict=True):
            self.failed = ""
            # what the slow tests execute would fill the memory; they count as executing all
            with contextlib.nullcontext() if _is_slow(item) else reach.recording():
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            executed[item.nodeid] = {UNKNOWN} if _is_slow(item) else reach.of(item)
            if self.failed:
                failed[self.elsewhere].append(self.failed)
        with_code = reach.lines()
        lines = sorted(set().union(*with_code, *executed.values()))
        number = {line: at for at, line in enumerate(lines)}
        return {
            "failed": failed[False],
            "elsewhere": failed[True],
            "seconds": self.seconds,
            "lines": lines,
            "with_code": [[number[line] for line in one] for one in with_code],
            "executed": {test: [number[line] for line in one] for test, one in executed.items()},
        }

    def _try(
        self,
        folder: Path,
        session: pytest.Session,
        mutant: Mutant,
        order: list[pytest.Item],
        originals: dict[str, Any],
    ) -> Result:
        root = _overlay(mutant, folder)
        try:
            changed = {
                source: _compiled(root, source)
                for source in CONTRACTS
                if mutant.file in _closure(source)
            }
        except Exception as error:
            return {"status": UNCOMPILABLE, "by": type(error).__name__}
        if all(_code(changed[one]) == _code(originals[one]) for one in changed):
            return {"status": EQUIVALENT, "by": ""}
        _use(root, originals | changed)
        session.items, self.failed = order, ""
        _run(session)
        return {"status": KILLED if self.failed else SURVIVED, "by": self.failed}

    def _order(self, mutant: Mutant) -> list[pytest.Item]:
        """The tests that can see the mutant, the likeliest to fail first."""
        kills = Counter(
            result["by"] for result in self.done.values() if result.get("file") == mutant.file
        )
        if mutant.name in self.wanted:
            seeing = [item for item in self.items if _test(item) in self.wanted[mutant.name]]
        else:
            lines = statement_of(mutant, self.with_code) | {UNKNOWN}
            seeing = [
                item
                for item in self.items
                if self.executed[item.nodeid] & lines
                or (item.path.name == WIRING and _is_told_at_creation(mutant))
            ]
        return sorted(
            seeing, key=lambda item: (-kills[item.nodeid], self.seconds.get(item.nodeid, 0))
        )

    def _is_asked_for(self, item: pytest.Item) -> bool:
        if self.wanted:
            return any(_test(item) in tests for tests in self.wanted.values())
        return self.slow or not _is_slow(item)


def _test(item: pytest.Item) -> str:
    return item.nodeid.split("[")[0]


def _is_slow(item: pytest.Item) -> bool:
    return SLOW_TESTS in item.path.parts


def _is_told_at_creation(mutant: Mutant) -> bool:
    return any(scope in mutant.name for scope in (".__init__:", ".constants:"))


def collect(host: Host) -> int:
    """Collect the contract tests on the chain in process and let `host` run them."""
    from tests.contracts import anvil, inprocess

    @pytest.fixture(scope="session")
    def chain() -> Any:
        return inprocess.new_chain()

    # before the test modules import them
    anvil.chain = chain
    # and so that a test executes the same in a child as it did when that was noted
    settings.register_profile("mutation", derandomize=True, database=None)
    settings.load_profile("mutation")
    options = ["-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:terminal"]
    suite = [str(ROOT / "tests" / "contracts" / name) for name in SUITE]
    return int(pytest.main([*options, *suite], plugins=[host]))


def _run(session: pytest.Session) -> None:
    from _pytest.main import pytest_runtestloop

    session.shouldfail, session.shouldstop, session.testsfailed = False, False, 0
    with contextlib.suppress(session.Failed, session.Interrupted):
        pytest_runtestloop(session)


def _overlay(mutant: Mutant, root: Path) -> Path:
    """Put a copy of all Vyper sources, with the mutated one in its place, into an empty folder."""
    shutil.copytree(ROOT / "contracts", root / "contracts")
    (root / "tests" / "contracts").mkdir(parents=True)
    for source in (ROOT / "tests" / "contracts").glob("*.vy"):
        shutil.copy(source, root / "tests" / "contracts")
    (root / mutant.file).write_text(mutant.apply((ROOT / mutant.file).read_text()))
    return root


def _compiled(root: Path, source: str) -> dict[str, Any]:
    from vyper.cli.vyper_compile import compile_files  # type: ignore[import-untyped]

    wanted = ["abi", "bytecode", "bytecode_runtime"]
    outputs = compile_files([root / source], wanted, paths=[str(root)])
    return dict(next(iter(outputs.values())))


def _code(output: dict[str, Any]) -> tuple[bytes, bytes]:
    """Both codes without the trailing metadata, which hold a hash of the sources."""
    creation = bytes.fromhex(output["bytecode"][2:])
    metadata = int.from_bytes(creation[-2:], "big")
    return creation[:-metadata], bytes.fromhex(output["bytecode_runtime"][2:])


def _closure(source: str) -> set[str]:
    """A contract and the modules compiled into it."""
    found, waiting = {source}, [source]
    while waiting:
        tree = parse_to_ast((ROOT / waiting.pop()).read_text())
        for node in tree.get_children(ast.ImportFrom):
            module = f"contracts/modules/{node.name}.vy"
            if module not in found and (ROOT / module).exists():
                found.add(module)
                waiting.append(module)
    return found


def _use(root: Path, outputs: dict[str, Any]) -> None:
    """Make the tests of this child see the mutated sources."""
    from tests.contracts import anvil

    real = anvil.compiled

    def compiled(source: str) -> dict[str, Any]:
        return dict(outputs[source]) if source in outputs else real(source)

    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("tests.contracts"):
            if hasattr(module, "ROOT"):
                module.ROOT = root  # type: ignore[attr-defined]
            if hasattr(module, "compiled"):
                module.compiled = compiled  # type: ignore[attr-defined]


def summary(results: Iterable[Result]) -> Counter[str]:
    """How many mutants ended how."""
    return Counter(str(result["status"]) for result in results)
