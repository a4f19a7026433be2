"""Fees stay under the operator's cap, replacements included."""

from __future__ import annotations

import pytest

from nodeclient.chain.errors import FeeTooHigh
from nodeclient.chain.fees import GWEI, Fees, FeeSettings, bump, quote

SETTINGS = FeeSettings(cap=100 * GWEI, tip=2 * GWEI)


def test_quote__usual_base_fee__doubled_plus_tip() -> None:
    assert quote(10 * GWEI, SETTINGS) == Fees(22 * GWEI, 2 * GWEI)


def test_quote__near_the_cap__cap_and_what_is_left_as_tip() -> None:
    assert quote(99 * GWEI, SETTINGS) == Fees(100 * GWEI, 1 * GWEI)


def test_quote__base_fee_at_the_cap__refused() -> None:
    with pytest.raises(FeeTooHigh, match="raise the cap"):
        quote(100 * GWEI, SETTINGS)


def test_bump__mempool_rule__both_fees_at_least_a_tenth_higher() -> None:
    old = Fees(22 * GWEI, 2 * GWEI)
    new = bump(old, 10 * GWEI, SETTINGS)
    assert new is not None
    assert new.max_fee * 10 >= old.max_fee * 11
    assert new.tip * 10 >= old.tip * 11


def test_bump__base_fee_has_risen__follows_it() -> None:
    new = bump(Fees(22 * GWEI, 2 * GWEI), 40 * GWEI, SETTINGS)
    assert new is not None
    assert new.max_fee == 82 * GWEI


def test_bump__above_the_cap__none() -> None:
    assert bump(Fees(95 * GWEI, 2 * GWEI), 10 * GWEI, SETTINGS) is None
