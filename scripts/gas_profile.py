"""Where the gas of a transaction goes: per function and per line of the Vyper sources.

Every step of `debug_traceTransaction` belongs to the source line that the compiler's map names for
its program counter. What a call costs itself (and what a precompile takes) stays with the line of
the call, what the called contract does goes to its own lines.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from vyper.cli.vyper_compile import compile_files  # type: ignore[import-untyped]

from tests.contracts.anvil import ROOT, Chain

_CALLS: Final = frozenset(("CALL", "STATICCALL", "DELEGATECALL", "CALLCODE"))
_TRACE: Final = {"disableMemory": True, "disableStorage": True}
Place = tuple[str, int]  # file without its folder, line


@dataclass(frozen=True, slots=True)
class Profile:
    """Gas of one execution by function ("Contract.function (file)") and by line."""

    functions: dict[str, int]
    lines: dict[Place, int]
    total: int


@dataclass(frozen=True, slots=True)
class SourceMap:
    """Program counters of a contract: place and function."""

    places: dict[int, Place]
    functions: dict[int, str]


def profile(chain: Chain, sent: str, contracts: Mapping[str, str]) -> Profile:
    """Profile a mined transaction.

    Args:
        chain: an anvil started with step tracing.
        sent: the hash of a transaction to one of `contracts`.
        contracts: source (path from the repository root) by lower-case address.
    """
    steps = chain.rpc("debug_traceTransaction", [sent, _TRACE])["structLogs"]
    target = str(chain.rpc("eth_getTransactionByHash", [sent])["to"]).lower()
    functions: dict[str, int] = defaultdict(int)
    lines: dict[Place, int] = defaultdict(int)
    for address, pc, gas in _own_costs(steps, target):
        source = contracts.get(address)
        found = source_map(source) if source else SourceMap({}, {})
        place = found.places.get(pc, ("other code", 0))
        name = Path(source).stem if source else address
        functions[f"{name}.{found.functions.get(pc, 'dispatch')}"] += gas
        lines[place] += gas
    return Profile(dict(functions), dict(lines), sum(functions.values()))


def _own_costs(steps: list[dict[str, Any]], target: str) -> Iterator[tuple[str, int, int]]:
    """(address, program counter, gas) of each step without what it calls."""
    frames = [target]
    for at, step in enumerate(steps):
        following = steps[at + 1] if at + 1 < len(steps) else None
        depth = step["depth"]
        address = frames[depth - 1]
        if following is None or following["depth"] < depth:
            yield address, step["pc"], step["gasCost"]
            continue
        if following["depth"] == depth:
            yield address, step["pc"], step["gas"] - following["gas"]
            continue
        del frames[depth:]
        frames.append("0x" + step["stack"][-2][2:].zfill(40)[-40:])
        inside = at + 1
        while steps[inside]["depth"] > depth:
            inside += 1
        last = steps[inside - 1]
        child = following["gas"] - last["gas"] + last["gasCost"]
        yield address, step["pc"], step["gas"] - steps[inside]["gas"] - child


@cache
def source_map(source: str) -> SourceMap:
    """Place and function of every program counter of a contract's runtime code.

    A counter that the compiler names no place for belongs to the place before it.
    """
    outputs = compile_files(
        [ROOT / source],
        ["source_map_runtime", "annotated_ast_dict", "bytecode_runtime"],
        paths=[str(ROOT)],
    )
    (output,) = outputs.values()
    tree = output["annotated_ast_dict"]
    files = {tree["ast"]["source_id"]: tree["ast"]} | {
        module["source_id"]: module for module in tree["imports"]
    }
    spans = {
        number: [
            (item["lineno"], item["end_lineno"], item["name"])
            for item in module["body"]
            if item["ast_type"] == "FunctionDef"
        ]
        for number, module in files.items()
    }
    names = {number: Path(module.get("path") or source).name for number, module in files.items()}
    names[tree["ast"]["source_id"]] = Path(source).name
    mapped = output["source_map_runtime"]
    places: dict[int, Place] = {}
    functions: dict[int, str] = {}
    place, function = (Path(source).name, 0), "dispatch"
    for pc in range(len(output["bytecode_runtime"]) // 2):
        if pc in mapped["pc_pos_map"]:
            number, line = mapped["pc_ast_map"][pc][0], mapped["pc_pos_map"][pc][0]
            place = (names[number], line)
            inside = [name for start, end, name in spans[number] if start <= line <= end]
            function = f"{inside[0]} ({names[number]})" if inside else function
        places[pc], functions[pc] = place, function
    return SourceMap(places, functions)
