"""Vyper sources → ABI and creation code, kept in `.build/contracts/` under the sources' digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nodeclient.chain.deployment import CONTRACTS
from nodeclient.chain.errors import CompilationFailed
from nodeclient.files import replace_file

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Artifact:
    """One compiled contract."""

    name: str
    json_abi: tuple[Mapping[str, Any], ...]
    bytecode: bytes


def compile_contracts(
    names: Iterable[str] = CONTRACTS, *, folder: Path = ROOT / "contracts", root: Path = ROOT
) -> dict[str, Artifact]:
    """Compile `<folder>/<name>.vy`, imports seen from `root`; cached until a source changes.

    Raises `CompilationFailed`.
    """
    wanted = tuple(names)
    cache = root / ".build" / "contracts" / f"{_digest(wanted, folder, root)}.json"
    try:
        stored = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        stored = {name: _compile(folder / f"{name}.vy", root) for name in wanted}
        cache.parent.mkdir(parents=True, exist_ok=True)
        replace_file(cache, json.dumps(stored).encode())
    return {
        name: Artifact(name, tuple(one["abi"]), bytes.fromhex(one["bytecode"][2:]))
        for name, one in stored.items()
    }


def _compile(source: Path, root: Path) -> dict[str, Any]:
    try:
        # Imported late: a Node never compiles, and the compiler costs tens of megabytes.
        from vyper.cli.vyper_compile import compile_files  # type: ignore[import-untyped]
        from vyper.exceptions import VyperException  # type: ignore[import-untyped]
    except ImportError as error:
        raise CompilationFailed("the vyper package is missing", "run `make setup`") from error
    try:
        made = compile_files([source], ["abi", "bytecode"], paths=[str(root)])
    except (VyperException, OSError) as error:
        raise CompilationFailed(f"{source.name}: {error}", "correct the contract") from error
    (output,) = made.values()
    return {"abi": output["abi"], "bytecode": output["bytecode"]}


def _digest(names: Iterable[str], folder: Path, root: Path) -> str:
    """A digest over the compiler, what is wanted, and every source that could be imported."""
    total = hashlib.sha256(repr((version("vyper"), version("snekmate"), tuple(names))).encode())
    sources = {*folder.rglob("*.vy"), *folder.rglob("*.vyi")}
    sources |= {*(root / "contracts").rglob("*.vy"), *(root / "contracts").rglob("*.vyi")}
    for path in sorted(sources):
        total.update(str(path.relative_to(root)).encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:32]
