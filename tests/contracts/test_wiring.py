"""Contracts hold each other's addresses as constants; a market that does not fit is not created."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import boa
import pytest
from web3.utils.address import get_create_address

from tests.contracts.anvil import ROOT
from tests.contracts.network import (
    CLAIM_WINDOW,
    CLASSES,
    DELAY,
    DRAW_WINDOW,
    HALF_LIFE,
    LOOKAHEAD,
    POSTING_FEE,
    SPAN,
    UNBONDING,
    UNIT,
)

CREATED: Final = ("verifier", "registry", "reputation", "attestation", "market")
PARAMETERS: Final = (DELAY, CLAIM_WINDOW, DRAW_WINDOW, LOOKAHEAD, POSTING_FEE, CLASSES)
At = dict[str, str]


@cache
def code_of(path: str) -> Any:
    """A compiled contract; compiling takes a hundred times as long as deploying."""
    return boa.load_partial(path)


def load(name: str, *arguments: Any) -> Any:
    return code_of(str(ROOT / "contracts" / f"{name}.vy")).deploy(*arguments)


def planned() -> At:
    """Where the next contracts of this account will stand, and a stranger's address."""
    sender = boa.env.eoa
    nonce = boa.env.evm.vm.state.get_nonce(boa.util.abi.Address(sender).canonical_address)
    return {name: get_create_address(sender, nonce + step) for step, name in enumerate(CREATED)} | {
        "stranger": boa.env.generate_address("stranger")
    }


def deploy(told: dict[str, Callable[[At], At]]) -> Any:
    """All contracts; `told` changes what one of them is told about the others."""
    at = planned()
    views = {name: told.get(name, lambda at: at)(at) for name in CREATED}
    load("P256Verifier")
    sees = views["registry"]
    names = ("verifier", "reputation", "attestation", "market")
    load("NodeRegistry", UNIT, UNBONDING, True, *(sees[name] for name in names))
    sees = views["reputation"]
    names = ("registry", "attestation", "market")
    load("ReputationLedger", HALF_LIFE, SPAN, *(sees[name] for name in names))
    sees = views["attestation"]
    load("AttestationLedger", *(sees[name] for name in ("registry", "reputation", "market")))
    sees = views["market"]
    names = ("registry", "reputation", "attestation")
    return load("TaskMarket", *(sees[name] for name in names), *PARAMETERS)


def test_deploy__all_fit__the_market_names_them() -> None:
    with boa.env.anchor():
        at = planned()
        market = deploy({})
        assert market.address == at["market"]
        assert market.registry() == at["registry"]
        assert market.reputation() == at["reputation"]
        assert market.attestation() == at["attestation"]


@pytest.mark.parametrize(
    ("who", "about", "reason"),
    [
        ("registry", "market", "market: registry of another market"),
        ("registry", "reputation", "market: registry of another market"),
        ("registry", "attestation", "market: registry of another market"),
        ("reputation", "market", "market: reputation ledger of another market"),
        ("reputation", "registry", "market: reputation ledger of another market"),
        ("reputation", "attestation", "market: reputation ledger of another market"),
        ("attestation", "market", "market: attestation ledger of another market"),
    ],
)
def test_deploy__one_names_a_stranger__no_market(who: str, about: str, reason: str) -> None:
    with boa.env.anchor(), boa.reverts(reason):
        deploy({who: lambda at: at | {about: at["stranger"]}})


@pytest.mark.parametrize("about", ["registry", "reputation"])
def test_deploy__attestation_ledger_of_another_deployment__no_market(about: str) -> None:
    """It would slash through, or count against, contracts that are not the market's."""
    with boa.env.anchor():
        others = planned()
        deploy({})
        with boa.reverts("market: attestation ledger of another market"):
            deploy({"attestation": lambda at: at | {about: others[about]}})


@pytest.mark.parametrize("about", ["registry", "reputation", "attestation"])
def test_deploy__market_told_of_an_account_without_code__reverts(about: str) -> None:
    with boa.env.anchor(), boa.reverts("market: not a contract"):
        deploy({"market": lambda at: at | {about: at["stranger"]}})
