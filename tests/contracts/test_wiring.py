"""What is fixed at creation: addresses that must fit each other, parameters that have bounds."""

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
    EXECUTOR_FEE,
    HALF_LIFE,
    LOOKAHEAD,
    MEMBER_FEE,
    POSTING_FEE,
    SPAN,
    UNBONDING,
    UNIT,
)

CREATED: Final = ("verifier", "registry", "reputation", "attestation", "admission", "market")
PARAMETERS: Final = {
    "unit": UNIT, "unbonding": UNBONDING,
    "half_life": HALF_LIFE, "window": SPAN,
    "entropy_delay": DELAY, "claim_window": CLAIM_WINDOW, "draw_window": DRAW_WINDOW,
    "lookahead": LOOKAHEAD, "posting_fee": POSTING_FEE, "classes": CLASSES,
}  # fmt: skip
# Of the admission ledger: blocks to draw and to vote, seats, wei.
ADMISSION: Final = {"draw_window": 20, "vote_window": 30, "size": 5, "fee": 10**13}
# The classes of the tests take 180 blocks at most.
LONGEST: Final = 2 * DELAY + CLAIM_WINDOW + 2 * (LOOKAHEAD + 1) + DRAW_WINDOW + 180
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


def deploy(told: dict[str, Callable[[At], At]], **changed: Any) -> Any:
    """All contracts; `told` changes what one of them is told about the others, `changed` replaces
    parameters by name, `gate` those of the admission ledger."""
    apart = changed.pop("gate", {})
    given = PARAMETERS | changed
    unit, unbonding, half_life, window, *race = given.values()
    at = planned()
    views = {name: told.get(name, lambda at: at)(at) for name in CREATED}
    load("P256Verifier")
    sees = views["registry"]
    names = ("verifier", "reputation", "attestation", "market", "admission")
    load("NodeRegistry", unit, unbonding, True, *(sees[name] for name in names))
    sees = views["reputation"]
    names = ("registry", "attestation", "market")
    load("ReputationLedger", half_life, window, *(sees[name] for name in names))
    sees = views["attestation"]
    load("AttestationLedger", *(sees[name] for name in ("registry", "reputation", "market")))
    gate = gate_of(given) | apart
    load("AdmissionLedger", views["admission"]["registry"], boa.env.eoa, *gate.values())
    sees = views["market"]
    names = ("registry", "reputation", "attestation")
    return load("TaskMarket", *(sees[name] for name in names), *race)


def gate_of(given: dict[str, Any]) -> dict[str, Any]:
    """Parameters of the admission ledger that fits; where the market's are none, the usual ones."""
    asked = {name: given[name] for name in ("entropy_delay", "lookahead")}
    sound = asked["entropy_delay"] > asked["lookahead"]
    usual = {"entropy_delay": DELAY, "lookahead": LOOKAHEAD}
    return (asked if sound else usual) | ADMISSION


def test_deploy__all_fit__the_market_names_them() -> None:
    with boa.env.anchor():
        at = planned()
        market = deploy({})
        assert market.address == at["market"]
        assert market.registry() == at["registry"]
        assert market.reputation() == at["reputation"]
        assert market.attestation() == at["attestation"]
        assert code_of(str(ROOT / "contracts" / "NodeRegistry.vy")).at(
            at["registry"]
        ).admission() == at["admission"]  # fmt: skip


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


def test_deploy__registry_told_of_no_admission_ledger__no_market() -> None:
    with boa.env.anchor(), boa.reverts("market: not a contract"):
        deploy({"registry": lambda at: at | {"admission": at["stranger"]}})


def test_deploy__admission_ledger_of_another_registry__no_market() -> None:
    """Its votes would admit and bar elsewhere, and nobody here."""
    with boa.env.anchor():
        others = planned()
        deploy({})
        with boa.reverts("market: admission ledger of another market"):
            deploy({"admission": lambda at: at | {"registry": others["registry"]}})


@pytest.mark.parametrize("other", [{"entropy_delay": DELAY + 1}, {"lookahead": LOOKAHEAD - 1}])
def test_deploy__admission_rounds_apart_from_the_draws__no_market(other: dict[str, int]) -> None:
    """Its freezes would fall between those of the tasks."""
    with boa.env.anchor(), boa.reverts("market: admission ledger of another market"):
        deploy({}, gate=other)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"entropy_delay": 0, "lookahead": 0}, "admission: lookahead not below the delay"),
        ({"lookahead": DELAY}, "admission: lookahead not below the delay"),
        ({"draw_window": 0}, "admission: window out of range"),
        ({"draw_window": 8000}, "admission: window out of range"),
        ({"vote_window": 0}, "admission: window out of range"),
        ({"vote_window": 2**32}, "admission: window out of range"),
        ({"size": 2}, "admission: size out of range"),
        ({"size": 12}, "admission: size out of range"),
        ({"fee": 2**96}, "admission: fee too large"),
    ],
    ids=str,
)
def test_deploy__admission_parameter_out_of_range__reverts(
    changed: dict[str, Any], reason: str
) -> None:
    given = {"entropy_delay": DELAY, "lookahead": LOOKAHEAD} | ADMISSION | changed
    with boa.env.anchor():
        at = planned()
        deploy({})
        with boa.reverts(reason):
            load("AdmissionLedger", at["registry"], boa.env.eoa, *given.values())


def test_deploy__admission_told_of_an_account_without_code__reverts() -> None:
    with boa.env.anchor(), boa.reverts("admission: registry is not a contract"):
        deploy({"admission": lambda at: at | {"registry": at["stranger"]}})


@pytest.mark.parametrize("about", ["registry", "reputation"])
def test_deploy__ledger_told_of_an_account_without_code__reverts(about: str) -> None:
    with boa.env.anchor(), boa.reverts("attestation: not a contract"):
        deploy({"attestation": lambda at: at | {about: at["stranger"]}})


def classes(class_id: int, step: int, blocks: int) -> dict[str, Any]:
    """The classes with another number of blocks for one step."""
    changed = [list(steps) for steps in CLASSES]
    changed[class_id][step] = blocks
    return {"classes": changed}


LONG: Final = {"unbonding": 2**32 - 1, "window": 2**40 - 1}
FITS: Final[list[dict[str, Any]]] = [
    {"unit": 1},
    {"unit": 2**90 - 1},
    {"unbonding": 2**32 - 1},
    {"unbonding": LONGEST + 1},
    {"half_life": 1},
    {"half_life": 2**40 - 1},
    {"window": DELAY + CLAIM_WINDOW},
    {"window": 2**40 - 1},
    {"lookahead": 0},
    {"entropy_delay": 1, "lookahead": 0},
    {"claim_window": 1},
    {"draw_window": 1},
    {**LONG, "claim_window": 7999 - DELAY},
    {**LONG, "draw_window": 7999},
    {"posting_fee": 0},
    {"posting_fee": 2**96 - 1},
    {**LONG, **classes(3, 2, 50400)},
    classes(0, 0, 1),
]
OUTSIDE: Final[list[tuple[dict[str, Any], str]]] = [
    ({"unit": 0}, "registry: unit out of range"),
    ({"unit": 2**90}, "registry: unit out of range"),
    ({"unbonding": 2**32}, "registry: unbonding out of range"),
    ({"unbonding": LONGEST}, "market: unbonding shorter than a task"),
    ({"half_life": 0}, "reputation: half-life out of range"),
    ({"half_life": 2**40}, "reputation: half-life out of range"),
    ({"window": 0}, "reputation: window out of range"),
    ({"window": 2**40}, "reputation: window out of range"),
    ({"window": DELAY + CLAIM_WINDOW - 1}, "market: reputation window shorter than the race"),
    ({"entropy_delay": 0, "lookahead": 0}, "market: lookahead not below the delay"),
    ({"lookahead": DELAY}, "market: lookahead not below the delay"),
    ({"claim_window": 0}, "market: window is empty"),
    ({"draw_window": 0}, "market: window is empty"),
    ({**LONG, "claim_window": 8000 - DELAY}, "market: window too long"),
    ({**LONG, "draw_window": 8000}, "market: window too long"),
    ({"posting_fee": 2**96}, "market: posting fee too large"),
    ({**LONG, **classes(0, 0, 0)}, "market: class out of range"),
    ({**LONG, **classes(3, 2, 0)}, "market: class out of range"),
    ({**LONG, **classes(1, 1, 50401)}, "market: class out of range"),
]


@pytest.mark.parametrize("changed", FITS, ids=str)
def test_deploy__last_value_that_fits__is_kept(changed: dict[str, Any]) -> None:
    with boa.env.anchor():
        market = deploy({}, **changed)
        kept = market.parameters()
        for name in ("unit", "entropy_delay", "claim_window", "draw_window", "lookahead"):
            assert getattr(kept, name) == (PARAMETERS | changed)[name]
        assert (kept.posting_fee, kept.classes) == tuple(
            (PARAMETERS | changed)[name] for name in ("posting_fee", "classes")
        )


@pytest.mark.parametrize(("changed", "reason"), OUTSIDE, ids=str)
def test_deploy__first_value_that_does_not_fit__reverts(
    changed: dict[str, Any], reason: str
) -> None:
    with boa.env.anchor(), boa.reverts(reason):
        deploy({}, **changed)


def test_post__block_of_33_bits__reverts() -> None:
    """The freeze reads the posting's block from 32 bits of the task's slot."""
    with boa.env.anchor():
        market = deploy({})
        fees = (EXECUTOR_FEE, MEMBER_FEE)
        value = POSTING_FEE + EXECUTOR_FEE + 3 * MEMBER_FEE
        boa.env.set_balance(boa.env.eoa, 10**20)
        boa.env.evm.patch.block_number = 2**32 - 1
        assert market.post(bytes(32), 1, 3, 0, *fees, value=value) == 1
        boa.env.evm.patch.block_number = 2**32
        with boa.reverts("market: block number out of range"):
            market.post(bytes(32), 2, 3, 0, *fees, value=value)


@pytest.mark.parametrize("class_id", range(4))
@pytest.mark.parametrize("step", range(3))
def test_deploy__longest_class__decides_the_unbonding(class_id: int, step: int) -> None:
    longer = classes(class_id, step, 200)
    blocks = LONGEST - 180 + max(sum(steps) for steps in longer["classes"])
    with boa.env.anchor():
        deploy({}, **longer, unbonding=blocks + 1)
    with boa.env.anchor(), boa.reverts("market: unbonding shorter than a task"):
        deploy({}, **longer, unbonding=blocks)
