# pragma version 0.4.3
"""
@title Tickets of the exponential race
@license AGPL-3.0-only
@notice ticket = -ln(beta / 2^256) / weight, in fixed point; the lowest ticket executes the task.
@dev    WHY IT IS FAIR. If beta is uniform, -ln(beta / 2^256) is exponential with rate 1, and
        divided by the weight w it is exponential with rate w. Among independent such variables
        each is the lowest with probability w / (sum of all w), exactly: splitting a weight over
        several nodes, or joining them, gains nothing. A plain beta / weight does not have this
        property.

        FIXED POINT. beta is halved to fit int256 (one of 256 bits), at least 1. snekmate's
        `_wad_ln` is correct to about 1e-18, so the numerator is in units of 1e-18 and lies in
        [0, 176.8e18] (below 2^68). Scaled by 2^128 before the division it keeps at least 32 bits
        of resolution for any weight below 2^160, and fits 2^196. Off chain,
        `nodeclient/core/sortition.py` computes the same bits.

        Two equal tickets: the caller lets the earlier one stand (strictly lower wins).
"""
from snekmate.utils import math

# ln(2^255 / 1e18) in units of 1e-18, as `_wad_ln` returns it for 2^255 - 1, its largest input.
# The numerator is thus never negative.
LN_TOP: constant(int256) = 135305999368893231589


@internal
@pure
def ticket_of(beta: bytes32, weight: uint256) -> uint256:
    """
    @notice The ticket of a VRF output for a weight; lower is better.
    @param beta The VRF output, uniform in [0, 2^256).
    @param weight The weight (Deposit units times reputation factor), not 0 and below 2^160.
    @return The ticket in units of 1e-18 / 2^128 per unit of weight.
    """
    assert weight != 0, "ticket: weight is zero"
    half: int256 = convert(max(convert(beta, uint256) >> 1, 1), int256)
    exponential: uint256 = convert(unsafe_sub(LN_TOP, math._wad_ln(half)), uint256)
    return (exponential << 128) // weight
