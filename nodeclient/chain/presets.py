"""What a deployment is made with: two sets of parameters, and the order of the steps.

Shared by `nodeclient.chain.deploy` (plain, fast: demo and tests) and `scripts/deploy.py` (Ape), so
that both make the same thing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import rlp  # type: ignore[import-untyped]
from eth_hash.auto import keccak

from nodeclient.core.types import Address

ETHER = 10**18
DAY = 24 * 3600


@dataclass(frozen=True, slots=True)
class Preset:
    """Constructor parameters: amounts in wei, spans in blocks, `timelock` in seconds.

    `classes`: per class id (blocks to accept, to admit, to finish). `window`: blocks before a task
    in which a gain of reputation does not count for its ticket yet. `admission_…`: seats that
    decide about an admission, the fee of a motion, blocks to draw and to vote.
    """

    unit: int
    unbonding: int
    allow_software: bool
    half_life: int
    window: int
    timelock: int
    entropy_delay: int
    claim_window: int
    draw_window: int
    lookahead: int
    posting_fee: int
    classes: tuple[tuple[int, int, int], ...]
    admission_size: int
    admission_fee: int
    admission_draw_window: int
    admission_vote_window: int

    def to_json(self) -> dict[str, Any]:
        """The `parameters` of a deployment file."""
        plain = asdict(self)
        plain["classes"] = [list(terms) for terms in self.classes]
        return plain


PRESETS: Mapping[str, Preset] = {
    # One anvil block may be one transaction, so spans are generous in blocks and short in time.
    "anvil": Preset(
        unit=ETHER,
        unbonding=2_500,
        allow_software=True,
        half_life=648_000,
        window=64,
        timelock=0,
        entropy_delay=2,
        claim_window=10,
        draw_window=400,
        lookahead=1,
        posting_fee=10**12,
        classes=((60, 120, 240), (120, 240, 480), (30, 60, 90), (300, 600, 900)),
        admission_size=7,
        admission_fee=10**13,
        admission_draw_window=400,
        admission_vote_window=600,
    ),
    # 12 s blocks: about 6 min / 18 min / 1 h, then longer classes up to four days; unbonding one
    # week, longer than the longest of them. D = 64 blocks: nobody knows the randomness of two
    # epochs ahead when posting.
    "mainnet": Preset(
        unit=ETHER,
        unbonding=7 * DAY // 12,
        allow_software=False,
        half_life=90 * DAY // 12,
        window=256,
        timelock=2 * DAY,
        entropy_delay=64,
        claim_window=32,
        draw_window=128,
        lookahead=32,
        posting_fee=5 * 10**14,
        classes=((30, 90, 300), (60, 300, 1_800), (150, 600, 7_200), (300, 1_200, 28_800)),
        # A candidate is asked over the network and its TPM takes seconds: two hours are plenty. The
        # fee is that of ten postings: eleven members look at each motion, unpaid.
        admission_size=7,
        admission_fee=5 * 10**15,
        admission_draw_window=128,
        admission_vote_window=600,
    ),
}

DEPLOYER = "deployer"
"""Beside the contracts' names in what `planned` returns: who admits the first nodes."""

Arguments = Callable[[Preset, Mapping[str, Any]], tuple[Any, ...]]

CREATIONS: tuple[tuple[str, Arguments], ...] = (
    ("P256Verifier", lambda *_: ()),
    (
        "NodeRegistry",
        lambda p, at: (
            p.unit,
            p.unbonding,
            p.allow_software,
            at["P256Verifier"],
            at["ReputationLedger"],
            at["AttestationLedger"],
            at["TaskMarket"],
            at["AdmissionLedger"],
        ),
    ),
    (
        "ReputationLedger",
        lambda p, at: (
            p.half_life,
            p.window,
            at["NodeRegistry"],
            at["AttestationLedger"],
            at["TaskMarket"],
        ),
    ),
    ("ImageRegistry", lambda p, at: (at["NodeRegistry"], p.timelock)),
    (
        "AttestationLedger",
        lambda _, at: (at["NodeRegistry"], at["ReputationLedger"], at["TaskMarket"]),
    ),
    (
        "AdmissionLedger",
        lambda p, at: (
            at["NodeRegistry"],
            at[DEPLOYER],
            p.entropy_delay,
            p.lookahead,
            p.admission_draw_window,
            p.admission_vote_window,
            p.admission_size,
            p.admission_fee,
        ),
    ),
    (
        "TaskMarket",
        lambda p, at: (
            at["NodeRegistry"],
            at["ReputationLedger"],
            at["AttestationLedger"],
            p.entropy_delay,
            p.claim_window,
            p.draw_window,
            p.lookahead,
            p.posting_fee,
            [list(terms) for terms in p.classes],
        ),
    ),
)
"""(contract, its constructor's arguments from the preset and all addresses), in order."""


def planned(sender: bytes, nonce: int) -> dict[str, Address]:
    """Where the contracts will stand if `sender` creates them from `nonce` on, and does nothing
    in between: keccak(rlp([sender, nonce])), Yellow Paper §7.

    They hold each other's addresses as constants, so these must be known in advance; the market,
    created last, reverts unless all of them fit.
    """
    return {DEPLOYER: Address(sender)} | {
        name: Address(keccak(rlp.encode([sender, nonce + step]))[12:])
        for step, (name, _) in enumerate(CREATIONS)
    }
