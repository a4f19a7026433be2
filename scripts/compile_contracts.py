"""Compile every deployable contract anew (no cache) and check what a reviewer would: `make check`.

A module is compiled with each contract that uses it. Checked besides: the size limit of deployed
code (EIP-170) and a NatSpec notice on every external function.
"""

import re
import sys
import warnings
from pathlib import Path
from typing import Any

from vyper.cli.vyper_compile import compile_files
from vyper.exceptions import VyperException

ROOT = Path(__file__).resolve().parents[1]
MAX_CODE = 24_576  # bytes, EIP-170
OUTPUTS = ["abi", "bytecode_runtime", "userdoc"]


def faults_of(name: str, output: dict[str, Any], sources: str) -> list[str]:
    """What is wrong with one compiled contract, each in one line.

    The getter of a public variable has no body in ``sources`` where a notice could stand.
    """
    faults = []
    size = len(output["bytecode_runtime"]) // 2 - 1
    if size > MAX_CODE:
        faults.append(f"{name}: {size} bytes of code exceed {MAX_CODE}; move some of it out")
    noted = {signature.split("(")[0] for signature in output["userdoc"].get("methods", {})}
    for entry in output["abi"]:
        if entry["type"] != "function" or entry["name"] in noted:
            continue
        if re.search(rf"^@external\n(@.*\n)*def {entry['name']}\(", sources, re.MULTILINE):
            faults.append(f"{name}: {entry['name']} has no @notice; write one")
    return faults


def main() -> int:
    """Compile; print one line per contract; 1 if anything is wrong."""
    warnings.simplefilter("ignore")  # the compiler's notes on its own optimiser
    modules = "".join(file.read_text() for file in (ROOT / "contracts/modules").glob("*.vy"))
    faults = []
    for source in sorted((ROOT / "contracts").glob("*.vy")):
        try:
            (output,) = compile_files([source], OUTPUTS, paths=[str(ROOT)]).values()
        except VyperException as error:
            faults.append(f"{source.name}: {' '.join(str(error).split())[:300]}; correct it")
            continue
        found = faults_of(source.stem, output, source.read_text() + modules)
        faults += found
        if not found:
            print(f"{source.stem}: {len(output['bytecode_runtime']) // 2 - 1} bytes")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
