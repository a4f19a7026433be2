"""Try mutants of the contracts, keep the results, write docs/mutation.md.

Examples:
    python -m scripts.mutation -j 2                  # everything that has no result yet
    python -m scripts.mutation --file votes          # one contract or module
    python -m scripts.mutation --sample 50 --seed 7  # some of all
    python -m scripts.mutation --survivors           # survivors again, by the slow tests too
    python -m scripts.mutation --invariants          # each mutant of docs/invariants.md
    python -m scripts.mutation --report              # only write the page
"""

from __future__ import annotations

import argparse
import random
import sys

from scripts.mutation import report, results, trial
from scripts.mutation.sites import ROOT, Mutant, contract_files, mutants_of

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main() -> int:
    """Entry point; 1 if a survivor has no reason or the tests do not pass unmutated, 130 after
    Ctrl-C, when what was tried is kept."""
    asked = _arguments()
    everything = [one for file in contract_files(ROOT) for one in mutants_of(ROOT, file)]
    known = results.load(everything)
    if not asked.report:
        try:
            problem = _run(asked, everything, known)
        except KeyboardInterrupt:
            print("mutation: interrupted; to go on, start it again", file=sys.stderr)
            return INTERRUPTED
        if problem:
            print(f"mutation: {problem}; mend them first", file=sys.stderr)
            return 1
    return report.write(everything, known, complete=not asked.file and not asked.sample)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.mutation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("-j", "--jobs", type=int, default=1, help="children at a time")
    parser.add_argument("--file", help="only this contract or module, by its name")
    parser.add_argument("--sample", type=int, help="only so many mutants, chosen at random")
    parser.add_argument("--seed", type=int, default=1, help="for --sample")
    parser.add_argument("--survivors", action="store_true", help="try survivors again")
    parser.add_argument("--invariants", action="store_true", help="mutants of docs/invariants.md")
    parser.add_argument("--report", action="store_true", help="try nothing, write the page")
    return parser.parse_args()


def _run(
    asked: argparse.Namespace, everything: list[Mutant], known: dict[str, trial.Result]
) -> str:
    wanted = report.named_tests() if asked.invariants else {}
    chosen = [one for one in everything if not asked.file or one.file.endswith(f"/{asked.file}.vy")]
    if asked.invariants:
        chosen = [one for one in chosen if one.name in wanted]
    elif asked.survivors:
        chosen = [one for one in chosen if report.is_open(one, known)]
    else:
        chosen = [one for one in chosen if one.key not in known]
    # at random: the tests that kill are learnt sooner, and what is done so far is a fair sample
    random.Random(asked.seed).shuffle(chosen)  # noqa: S311
    chosen = chosen[: asked.sample] if asked.sample else chosen
    outcome: dict[str, trial.Result] = {}

    def save(mutant: Mutant, result: trial.Result) -> None:
        result["file"], result["slow"] = mutant.file, host.slow
        outcome[mutant.name] = result
        if not asked.invariants:
            known[mutant.key] = result
            results.save(everything, known)
        killer = result["by"].split("::")[-1]
        print(
            f"{len(outcome)}/{len(chosen)} {mutant.name}: {result['status']} {killer}", flush=True
        )

    host = trial.Host(chosen, known, save, asked.jobs, wanted, asked.survivors)
    code = trial.collect(host)
    if host.interrupted:
        raise KeyboardInterrupt
    if code not in (0, 5) and not host.problem:
        host.problem = f"pytest ended with {code} before the first mutant"
    alive = [name for name, result in outcome.items() if result["status"] != trial.KILLED]
    if asked.invariants and alive:
        host.problem = host.problem or f"mutants that their own test does not kill: {alive}"
    return host.problem


if __name__ == "__main__":
    sys.exit(main())
