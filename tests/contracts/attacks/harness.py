"""Attacks that are tried twice: on the contracts as they are, and with one defence taken out.

An attack is a function that plays the attacker on a `Network`. It returns once the attacker has
what it wanted (its asserts say what that is) and raises `Refused` with the reason if it is stopped.
`attack` makes two tests of it:

    kept      the deployed contracts: the attacker must be stopped, for exactly the reason named;
    removed   the same chain, but one contract's code replaced by one that was compiled from a copy
              of `contracts/` in which one piece of text is replaced: the attacker must succeed.

So no defence can be lost without a test that fails, and no attack can pass for a wrong reason: but
for that text, both runs are the same. A text that no longer stands exactly once in its source fails
the test.

The code is replaced in place (`anvil_setCode`) with the immutables of the deployed contract behind
it: a variant costs one compilation, no deployment, and keeps all state. It is compiled without
optimisation, which takes half the time; `test_harness.py` shows that this alone changes nothing.
"""

from __future__ import annotations

import inspect
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from vyper.cli.vyper_compile import compile_files  # type: ignore[import-untyped]
from web3 import Web3

from scripts.compile_contracts import immutables_size
from tests.contracts.anvil import ROOT
from tests.contracts.network import Network, Refused

# The attribute of `Network` that holds a contract.
_HELD: Final = {
    "NodeRegistry": "registry",
    "ReputationLedger": "reputation",
    "ImageRegistry": "images",
    "AttestationLedger": "attestation",
    "AdmissionLedger": "admission",
    "TaskMarket": "market",
}


@dataclass(frozen=True, slots=True)
class Removal:
    """One defence, and how to take it out.

    `name` is unique; `defence` says in words what it is; `file` is a source below `contracts/`;
    `old` stands in it exactly once and is replaced by `new`. For a module, `contract` names the
    contract that is attacked through it. `also` are further pieces, where the defence is double.
    """

    name: str
    defence: str
    file: str
    old: str
    new: str
    contract: str = ""
    also: tuple[tuple[str, str], ...] = ()

    @property
    def target(self) -> str:
        """Name of the contract whose code is replaced."""
        return self.contract or Path(self.file).stem


@dataclass(frozen=True, slots=True)
class Attack:
    """What `attack` knows of a test, for the table in `docs/attacks.md`."""

    story: str
    refusal: str
    removal: Removal


def attack(
    refusal: str, removal: Removal, on: str = "network"
) -> Callable[[Callable[[Network], None]], Callable[..., None]]:
    """Make two tests of an attack; `on` names the fixture of the network that it runs on.

    The first line of the attack's docstring is its row in `docs/attacks.md`.
    """

    def wrap(play: Callable[[Network], None]) -> Callable[..., None]:
        @pytest.mark.chain  # starts anvil
        @pytest.mark.parametrize("defence", ["kept", "removed"])
        def test(defence: str, **fixtures: Network) -> None:
            network = fixtures[on]
            if defence == "removed":
                remove(network, removal)
                play(network)
                return
            with pytest.raises(Refused) as stopped:
                play(network)
            assert str(stopped.value) == refusal

        # pytest reads the fixtures' names from here
        names = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("defence", on)
        ]
        test.__signature__ = inspect.Signature(names)  # type: ignore[attr-defined]
        test.__name__ = test.__qualname__ = play.__name__
        test.__module__ = play.__module__
        test.__doc__ = inspect.getdoc(play)
        story = (test.__doc__ or "").partition("\n")[0]
        test.attack = Attack(story, refusal, removal)  # type: ignore[attr-defined]
        return test

    return wrap


def remove(network: Network, removal: Removal) -> None:
    """Replace the code of one deployed contract by that without the defence."""
    contract = getattr(network, _HELD[removal.target])
    output = without(removal)
    # Immutables follow the runtime code; their order is part of the layout, which is unchanged.
    immutables = immutables_size(output["layout"].get("code_layout", {}))
    deployed = bytes(network.chain.w3.eth.get_code(contract.address))
    code = bytes.fromhex(output["bytecode_runtime"][2:]) + deployed[len(deployed) - immutables :]
    network.chain.rpc("anvil_setCode", [contract.address, Web3.to_hex(code)])


@cache
def without(removal: Removal) -> dict[str, Any]:
    """Compiler output of the contract without the defence; once per session.

    Raises:
        AssertionError: the text does not stand exactly once in its source, or without it the
            contract would keep its state elsewhere.
    """
    changed = (ROOT / "contracts" / removal.file).read_text()
    for old, new in ((removal.old, removal.new), *removal.also):
        count = changed.count(old)
        assert count == 1, (
            f"{removal.name}: its text stands {count} times in {removal.file}; mend it"
        )
        changed = changed.replace(old, new)
    output = _compiled(removal.target, removal.file, changed)
    assert output["layout"] == _layout(removal.target), (
        f"{removal.name}: moves the contract's state"
    )
    return output


@cache
def _layout(contract: str) -> Any:
    return _output(ROOT, contract, "layout")["layout"]


def _compiled(contract: str, file: str, changed: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "contracts"
        shutil.copytree(ROOT / "contracts", copy)
        (copy / file).write_text(changed)
        source = copy / f"{contract}.vy"
        text = source.read_text().replace("# pragma optimize gas", "# pragma optimize none")
        source.write_text(text)
        return _output(Path(folder), contract, "bytecode_runtime", "layout")


def _output(root: Path, contract: str, *formats: str) -> dict[str, Any]:
    # without optimisation some exceed the size limit, about which the compiler would warn
    source = root / f"contracts/{contract}.vy"
    outputs = compile_files([source], formats, paths=[str(root)], warnings_control="none")
    return _pathless(next(iter(outputs.values())), f"{root}/")


def _pathless(value: Any, root: str) -> Any:
    """The output without the folder it was compiled in, which stands in names of types."""
    if isinstance(value, dict):
        return {name: _pathless(below, root) for name, below in value.items()}
    return value.replace(root, "") if isinstance(value, str) else value
