"""Compile every deployable contract anew (no cache) and check what a reviewer would: `make check`.

A module is compiled with each contract that uses it. Checked besides: the size limit of deployed
code (EIP-170) and a NatSpec notice on every external function.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

from vyper.cli.vyper_compile import compile_files
from vyper.exceptions import VyperException

ROOT = Path(__file__).resolve().parents[1]
MAX_CODE = 24_576  # bytes, EIP-170
OUTPUTS = ["abi", "bytecode_runtime", "layout", "userdoc"]


def deployed_size(output: dict[str, Any]) -> int:
    """Bytes of a deployed contract: immutables follow its code, and count for the limit."""
    code = len(output["bytecode_runtime"]) // 2 - 1
    return code + immutables_size(output["layout"].get("code_layout", {}))


def immutables_size(layout: dict[str, Any]) -> int:
    """Bytes of all immutables of a layout; those of a module stand below its name."""
    if "length" in layout and "offset" in layout:
        return int(layout["length"])
    return sum(map(immutables_size, layout.values()))


def faults_of(name: str, output: dict[str, Any]) -> list[str]:
    """What is wrong with one compiled contract, each in one line."""
    faults = []
    size = deployed_size(output)
    if size > MAX_CODE:
        faults.append(f"{name}: {size} bytes of code exceed {MAX_CODE}; move some of it out")
    noted = {signature.split("(")[0] for signature in output["userdoc"].get("methods", {})}
    for entry in output["abi"]:
        if entry["type"] == "function" and entry["name"] not in noted:
            faults.append(f"{name}: {entry['name']} has no @notice; write a view with one")
    return faults


def main() -> int:
    """Compile; print one line per contract; 1 if anything is wrong."""
    warnings.simplefilter("ignore")  # the compiler's notes on its own optimiser
    faults = []
    for source in sorted((ROOT / "contracts").glob("*.vy")):
        try:
            (output,) = compile_files([source], OUTPUTS, paths=[str(ROOT)]).values()
        except VyperException as error:
            faults.append(f"{source.name}: {' '.join(str(error).split())[:300]}; correct it")
            continue
        found = faults_of(source.stem, output)
        faults += found
        if not found:
            print(f"{source.stem}: {deployed_size(output)} bytes")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
