"""One parser under atheris: coverage-guided, our mutators beside libFuzzer's own.

    python -m tests.fuzz.guided "event log" 100000 FOLDER

The folder holds what coverage chose; the caller removes it, since libFuzzer ends the process. The
input that broke a parser is written to var/fuzz/.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path

VAR = Path(__file__).resolve().parents[2] / "var" / "fuzz"
_MAX_INPUT = 1 << 16


def available() -> bool:
    """Whether atheris is installed; it has wheels for x86-64 only."""
    return importlib.util.find_spec("atheris") is not None


def main(name: str, runs: int, corpus: Path) -> None:
    """Fuzz one target; ends the process, with an error if the parser broke its promise."""
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

    with atheris.instrument_imports(include=["agent", "nodeclient"]):
        from tests.fuzz.check import judge
        from tests.fuzz.mutate import Mutator
        from tests.fuzz.targets import targets

    target = targets()[name]
    mutators = [Mutator(number, target.codec) for number in range(1 << 8)]
    pick = random.Random(name)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        if pick.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        return mutators[seed % len(mutators)].mutant((data, *target.samples))[:most]

    def one(data: bytes) -> None:
        judge(target, data)

    VAR.mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate(target.samples):
        (corpus / str(number)).write_bytes(sample)
    arguments = [
        *(sys.argv[0], f"-runs={runs}", f"-max_len={_MAX_INPUT}", "-timeout=60"),
        *(f"-artifact_prefix={VAR}/{name.replace(' ', '-')}-", "-print_final_stats=1"),
        str(corpus),
    ]
    atheris.Setup(arguments, one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
