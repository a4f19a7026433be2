"""Tries mutants: each in a forked child that compiles it and runs the tests until one fails.

pytest collects the tests once, on the chain in process; every child then runs them in its own copy
of that session. A child compiles only the contracts into which the mutated file is compiled; all
others it inherits from the parent. It runs only the tests that execute the mutated statement
(`reach`). Which of them run first is learnt: those that killed other mutants of the same file, then
the quick ones. What a child does stays in the child.
"""

from __future__ import annotations

import contextlib
import gc
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import Phase, settings

from scripts.mutation.children import Children, Result
from scripts.mutation.compiling import Compiled, originals, overlay
from scripts.mutation.reach import UNKNOWN, Codes, Line, Reach, statement_of
from scripts.mutation.sites import ROOT, Mutant

# The kill-suite. The attacks of tests/contracts/attacks compile contracts of their own, with a
# defence removed by hand: they are slow, and what they show is shown there already.
SUITE: Final = (
    "test_task_market.py", "test_node_registry.py", "test_attestation_ledger.py",
    "test_life_cycle.py", "test_reputation_ledger.py", "test_image_registry.py",
    "test_class_grid.py", "test_sortition.py", "test_ecvrf.py", "test_entropy.py",
    "test_p256.py", "test_ticket.py", "test_wiring.py", "test_events.py",
    "test_freeze_pointer.py", "test_admission_ledger.py", "test_barring.py", "withholding",
    "properties",
)  # fmt: skip
# Of tests/contracts, besides the attacks, what kills nothing that the others leave.
LEFT_OUT: Final = (
    "test_admission_gas.py", "test_gas_limits.py", "test_adversary.py", "test_draw_odds.py",
    "test_contracts_page.py", "test_explorer.py", "test_licences.py",
)  # fmt: skip
# Arbitrary sequences of calls: as slow as all others together, and seldom the ones that kill. So
# they try only what survives the others (--survivors), and the mutants of docs/invariants.md.
# Left out, they can but lower the score.
SLOW_TESTS: Final = "properties"
BEST: Final = 6  # tests that come before all others, whatever file they are of
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
        compiled = originals()
        # what stands now is never garbage: collecting would only copy it into every child
        gc.freeze()
        children.start(lambda _: self._baseline(session, compiled))
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
                    lambda folder, m=mutant, o=order: self._try(folder, session, m, o, compiled)
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

    def _baseline(self, session: pytest.Session, compiled: Compiled) -> Result:
        """All tests on the contracts as they are; those that need anvil are left out after."""
        compiled.use()
        failed: dict[bool, list[str]] = {False: [], True: []}
        session.config.option.maxfail = 0
        reach = Reach(Codes(compiled.everything()))
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
        compiled: Compiled,
    ) -> Result:
        gc.disable()
        changed = Compiled(overlay(mutant, folder), mutant.file, compiled)
        try:
            if not changed.differs():
                return {"status": EQUIVALENT, "by": ""}
        except Exception as error:
            return {"status": UNCOMPILABLE, "by": type(error).__name__}
        changed.use()
        gc.freeze()
        gc.enable()
        session.items, self.failed = order, ""
        _run(session)
        if changed.refused:
            return {"status": UNCOMPILABLE, "by": changed.refused}
        if not self.failed and not changed.is_deployed():
            return {"status": EQUIVALENT, "by": ""}
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
            seeing = [item for item in self.items if self.executed[item.nodeid] & lines]
        return in_order(seeing, kills, self.seconds)

    def _is_asked_for(self, item: pytest.Item) -> bool:
        if self.wanted:
            return any(_test(item) in tests for tests in self.wanted.values())
        return self.slow or not _is_slow(item)


def in_order(
    items: Iterable[pytest.Item], kills: Mapping[str, int], seconds: Mapping[str, float]
) -> list[pytest.Item]:
    """First the few tests that killed most, then file by file, the files that kill quickest first:
    what the tests of a file share is made anew whenever one of another file comes between."""
    by_file: dict[Path, list[pytest.Item]] = defaultdict(list)
    for item in items:
        by_file[item.path].append(item)

    def eager(item: pytest.Item) -> tuple[int, float]:
        return -kills.get(item.nodeid, 0), seconds.get(item.nodeid, 0)

    def slowness(file: list[pytest.Item]) -> float:
        # half a kill more, so that a file without any is rated by its time
        killed = sum(kills.get(item.nodeid, 0) for item in file) + 0.5
        return sum(seconds.get(item.nodeid, 0) for item in file) / killed

    first = [item for item in sorted(items, key=eager)[:BEST] if kills.get(item.nodeid, 0)]
    files = sorted(by_file.values(), key=slowness)
    rest = [item for file in files for item in sorted(file, key=eager) if item not in first]
    return first + rest


def _test(item: pytest.Item) -> str:
    return item.nodeid.split("[")[0]


def _is_slow(item: pytest.Item) -> bool:
    return SLOW_TESTS in item.path.parts


def collect(host: Host) -> int:
    """Collect the contract tests on the chain in process and let `host` run them."""
    from tests.contracts import anvil, inprocess

    @pytest.fixture(scope="session")
    def chain() -> Any:
        return inprocess.new_chain()

    # before the test modules import them
    anvil.chain = chain
    # and so that a test executes the same in a child as it did when that was noted
    phases = (Phase.explicit, Phase.generate)  # that it fails is enough; no smallest example
    settings.register_profile("mutation", derandomize=True, database=None, phases=phases)
    settings.load_profile("mutation")
    options = ["-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:terminal"]
    suite = [str(ROOT / "tests" / "contracts" / name) for name in SUITE]
    return int(pytest.main([*options, *suite], plugins=[host]))


def _run(session: pytest.Session) -> None:
    from _pytest.main import pytest_runtestloop

    session.shouldfail, session.shouldstop, session.testsfailed = False, False, 0
    with contextlib.suppress(session.Failed, session.Interrupted):
        pytest_runtestloop(session)


def summary(results: Iterable[Result]) -> Counter[str]:
    """How many mutants ended how."""
    return Counter(str(result["status"]) for result in results)
