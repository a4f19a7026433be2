"""What a person reads of a contract: every function explained, every number one view away."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import pytest
from vyper.cli.vyper_compile import compile_files  # type: ignore[import-untyped]

from nodeclient.chain.deployment import CONTRACTS
from tests.contracts.anvil import ROOT

Entry = dict[str, Any]

# What people look for: (contract, function, arguments) and what it answers.
VIEWS = {
    ("ReputationLedger", "reputation", ("address",)): ("uint256",),
    ("ReputationLedger", "credit", ("address",)): ("uint256",),
    ("ReputationLedger", "engaged", ("address",)): ("bool",),
    ("NodeRegistry", "deposit", ("address",)): ("uint256",),
    ("NodeRegistry", "status", ("address",)): ("uint256",),
    ("NodeRegistry", "drawable", ()): ("uint256",),
    ("NodeRegistry", "tiers", ()): ("uint256[10]",),
    ("NodeRegistry", "total_weight", ()): ("uint256",),
    ("NodeRegistry", "unit", ()): ("uint256",),
    ("NodeRegistry", "unbonding", ()): ("uint256",),
    ("AttestationLedger", "record", ("uint256", "uint8")): ("uint8", "bytes32", "uint8"),
    ("ImageRegistry", "is_approved", ("bytes32",)): ("bool",),
    ("ImageRegistry", "owner", ()): ("address",),
    ("TaskMarket", "owed", ("address",)): ("uint256",),
    ("TaskMarket", "state", ("uint256",)): ("uint256",),
    ("TaskMarket", "burned", ()): ("uint256",),
}


@cache
def pages(name: str) -> Entry:
    """ABI and NatSpec of a contract, as a verifier gets them from the compiler."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (made,) = compile_files(
            [ROOT / "contracts" / f"{name}.vy"], ["abi", "userdoc", "devdoc"], paths=[str(ROOT)]
        ).values()
    return dict(made)


def type_of(field: Entry) -> str:
    """`(uint256,bool)[]` for an ABI tuple."""
    kind = str(field["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(type_of(part) for part in field['components'])}){kind[5:]}"


def faults(page: Entry) -> list[str]:
    """Every function that a reader would have to guess about."""
    found = []
    said, detailed = page["userdoc"].get("methods", {}), page["devdoc"].get("methods", {})
    for entry in page["abi"]:
        if entry["type"] != "function":  # of a constructor the compiler says nothing
            continue
        signature = f"{entry['name']}({','.join(type_of(field) for field in entry['inputs'])})"
        detail = detailed.get(signature, {})
        if not said.get(signature, {}).get("notice"):
            found.append(f"{signature}: no @notice")
        params = detail.get("params", {})
        found += [
            f"{signature}: no @param {field['name']}"
            for field in entry["inputs"]
            if not params.get(field["name"])
        ]
        if entry["outputs"] and not detail.get("returns"):
            found.append(f"{signature}: no @return")
    return found


@pytest.mark.parametrize("name", CONTRACTS)
def test_page__every_function__says_what_takes_and_gives(name: str) -> None:
    page = pages(name)
    assert page["userdoc"].get("notice")
    assert page["devdoc"].get("title")
    assert page["devdoc"].get("license")
    assert faults(page) == []


def test_faults__notice_param_or_return_missing__is_found() -> None:
    page = pages("ImageRegistry")
    function = "is_approved(bytes32)"
    for part, key in (("userdoc", "notice"), ("devdoc", "params"), ("devdoc", "returns")):
        methods = page[part]["methods"]
        entry = {known: said for known, said in methods[function].items() if known != key}
        broken = {**page, part: {**page[part], "methods": {**methods, function: entry}}}
        assert len(faults(broken)) == 1


@pytest.mark.parametrize(("what", "answer"), VIEWS.items(), ids=lambda what: ".".join(what[:2]))
def test_page__number_looked_for__is_one_view(
    what: tuple[str, str, tuple[str, ...]], answer: tuple[str, ...]
) -> None:
    contract, name, arguments = what
    (entry,) = [
        one
        for one in pages(contract)["abi"]
        if one["type"] == "function"
        and one["name"] == name
        and tuple(type_of(field) for field in one["inputs"]) == arguments
    ]
    assert entry["stateMutability"] == "view"
    assert tuple(type_of(field) for field in entry["outputs"]) == answer
