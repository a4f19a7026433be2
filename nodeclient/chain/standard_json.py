"""Standard JSON input of each contract: all that an explorer needs to compile it again.

Every source that goes into a contract is in its file, snekmate's too, under the path by which it is
imported; so `vyper-json` makes the deployed code from that file alone, on any machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nodeclient.chain.compile import ROOT
from nodeclient.chain.deployment import CONTRACTS
from nodeclient.chain.errors import CompilationFailed
from nodeclient.files import replace_file

OUTPUTS = ("abi", "devdoc", "userdoc", "evm.bytecode", "evm.deployedBytecode")


def standard_json(name: str, *, root: Path = ROOT) -> dict[str, Any]:
    """The Standard JSON input of ``contracts/<name>.vy``. Raises `CompilationFailed`."""
    try:
        # Imported late: a Node never compiles.
        from vyper.compiler.input_bundle import (  # type: ignore[import-untyped]
            FilesystemInputBundle,
        )
        from vyper.compiler.phases import CompilerData  # type: ignore[import-untyped]
        from vyper.exceptions import VyperException  # type: ignore[import-untyped]
        from vyper.utils import get_long_version  # type: ignore[import-untyped]
    except ImportError as error:
        raise CompilationFailed("the vyper package is missing", "run `make setup`") from error
    target = f"contracts/{name}.vy"
    bases = (_packages(), root)
    try:
        bundle = FilesystemInputBundle(list(bases))
        data = CompilerData(bundle.load_file(root / target), bundle)
        inputs = [data.file_input, *data.resolved_imports.compiler_inputs]
        integrity = data.integrity_sum
    except (VyperException, OSError) as error:
        raise CompilationFailed(f"{name}: {error}", "correct the contract") from error
    sources = {
        _portable(Path(one.resolved_path), bases): {"content": one.contents}
        for one in inputs
        if not one.from_builtin
    }
    return {
        "language": "Vyper",
        "compiler_version": f"v{get_long_version()}",
        "integrity": integrity,
        "sources": dict(sorted(sources.items())),
        "settings": {"search_paths": ["."], "outputSelection": {target: list(OUTPUTS)}},
    }


def write_inputs(folder: Path, names: Iterable[str] = CONTRACTS) -> list[Path]:
    """Write ``<folder>/<contract>.json`` for each contract, each at once or not at all.

    Raises `CompilationFailed`, OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in names:
        path = folder / f"{name}.json"
        text = json.dumps(standard_json(name), indent=1) + "\n"
        replace_file(path, text.encode(), mode=0o644)
        written.append(path)
    return written


def _packages() -> Path:
    """The folder from which `snekmate` is imported."""
    found = find_spec("snekmate")
    if found is None or not found.submodule_search_locations:
        raise CompilationFailed("the snekmate package is missing", "run `make setup`")
    return Path(found.submodule_search_locations[0]).resolve().parent


def _portable(path: Path, bases: Iterable[Path]) -> str:
    """A source's path below the first of ``bases`` that holds it: the packages may lie in ours."""
    for base in bases:
        if path.resolve().is_relative_to(base.resolve()):
            return path.resolve().relative_to(base.resolve()).as_posix()
    raise CompilationFailed(f"{path.name} lies outside of the project", "run `make setup`")
