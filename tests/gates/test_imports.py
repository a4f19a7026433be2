"""Imports go one way: cli -> daemon -> runner -> core; the agent knows nothing of the node."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What may not be reached from where. A prefix covers everything below it.
FORBIDDEN = {
    "agent": ("nodeclient", "web3", "typer", "rich"),
    "agent.formats": ("agent.runner", "agent.channel", "agent.devices", "docker", "nodeclient"),
    "nodeclient.core": (
        "nodeclient.chain", "nodeclient.machine", "nodeclient.attestation", "nodeclient.capsules",
        "nodeclient.roots", "nodeclient.images", "nodeclient.p2p", "nodeclient.store",
        "nodeclient.identity", "nodeclient.upkeep", "nodeclient.control", "nodeclient.duties",
        "nodeclient.health", "nodeclient.runner", "nodeclient.inbox", "nodeclient.daemon",
        "nodeclient.cli", "nodeclient.commands", "nodeclient.config", "nodeclient.ports",
        "asyncio", "logging", "random", "secrets", "time", "os", "socket", "sqlite3", "subprocess",
        "threading", "pathlib", "aiohttp", "web3", "docker",
    ),
    "nodeclient.runner": ("nodeclient.daemon", "nodeclient.cli", "nodeclient.commands"),
    "nodeclient.store": ("nodeclient.daemon", "nodeclient.upkeep", "nodeclient.control"),
    "nodeclient.identity": ("nodeclient.daemon", "nodeclient.upkeep", "nodeclient.control"),
    "nodeclient.upkeep": ("nodeclient.daemon", "nodeclient.cli", "nodeclient.commands"),
    "nodeclient.daemon": ("nodeclient.cli", "nodeclient.commands"),
}  # fmt: skip
ADAPTERS = ("chain", "machine", "capsules", "roots", "images", "p2p")
ABOVE = ("runner", "inbox", "upkeep", "control.server", "daemon", "cli", "commands")
for adapter in ADAPTERS:
    FORBIDDEN[f"nodeclient.{adapter}"] = tuple(
        f"nodeclient.{other}" for other in (*ADAPTERS, *ABOVE) if other != adapter
    )
FORBIDDEN["nodeclient.health"] = tuple(f"nodeclient.{above}" for above in ABOVE)
# A profile is put together where nothing else happens; an image is loaded by the machine.
ALLOWED = {("nodeclient.machine", "nodeclient.images")}


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """Every module of a package: dotted name, file."""
    path = ROOT / package.replace(".", "/")
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    for file in files:
        if file.exists():
            parts = file.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


def imports_of(name: str, file: Path) -> Iterator[str]:
    """Absolute names that a module imports anywhere in it, also inside functions."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def covers(prefix: str, name: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def violations(package: str) -> list[str]:
    return sorted(
        {
            f"{name} imports {imported}"
            for name, file in modules(package)
            for imported in imports_of(name, file)
            for prefix in FORBIDDEN[package]
            if covers(prefix, imported) and (package, prefix) not in ALLOWED
        }
    )


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_imports__every_module__keeps_the_direction(package: str) -> None:
    assert violations(package) == []


def test_imports__relative_and_nested_imports__are_seen(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from ..chain import rpc\n    import time\n")
    found = set(imports_of("nodeclient.core.x", file))
    assert {"nodeclient.chain", "nodeclient.chain.rpc", "time"} <= found


def test_imports__verify_demo__shares_nothing_with_the_node() -> None:
    file = ROOT / "scripts" / "verify_demo.py"
    tops = {name.split(".")[0] for name in imports_of("verify_demo", file)}
    assert not tops & {"nodeclient", "agent", "scripts", "tests"}
