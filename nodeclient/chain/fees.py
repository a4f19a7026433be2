"""EIP-1559 fees under the operator's cap. Pure; all amounts in wei per gas."""

from __future__ import annotations

from dataclasses import dataclass

from nodeclient.chain.errors import FeeTooHigh

GWEI = 10**9


@dataclass(frozen=True, slots=True)
class FeeSettings:
    """`cap` bounds maxFeePerGas of everything that is ever signed, replacements included."""

    cap: int = 200 * GWEI
    tip: int = 1 * GWEI


@dataclass(frozen=True, slots=True)
class Fees:
    """maxFeePerGas and maxPriorityFeePerGas of a transaction."""

    max_fee: int
    tip: int


def quote(base_fee: int, settings: FeeSettings) -> Fees:
    """Fees that stay valid for about six full blocks (base fee doubled), within the cap.

    Raises `FeeTooHigh` when the base fee alone reaches the cap.
    """
    if base_fee >= settings.cap:
        raise FeeTooHigh(
            f"the base fee is {base_fee / GWEI:.1f} gwei, the cap {settings.cap / GWEI:.1f} gwei",
            "wait, or raise the cap in the configuration",
        )
    max_fee = min(settings.cap, 2 * base_fee + settings.tip)
    return Fees(max_fee, min(settings.tip, max_fee - base_fee))


def bump(old: Fees, base_fee: int, settings: FeeSettings) -> Fees | None:
    """Fees that replace `old` in a mempool, which wants 10 % more on both; None at the cap.

    An eighth is added: enough for every client's rule, rounded up.
    """
    fresh_max = min(settings.cap, 2 * base_fee + settings.tip)
    max_fee = max(old.max_fee + old.max_fee // 8 + 1, fresh_max)
    tip = old.tip + old.tip // 8 + 1
    if max_fee > settings.cap:
        return None
    return Fees(max_fee, min(tip, max_fee))
