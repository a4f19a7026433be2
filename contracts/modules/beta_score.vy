# pragma version 0.4.3
"""
@title Decayed beta score
@license Apache-2.0
@notice The mean of a beta distribution over good and bad evidence that fades with time.
@dev    Evidence is in units of 1/65536 of one settled task. Decay halves it every half-life;
        between two halvings it is interpolated linearly, which is continuous and monotone.
        The mean of decayed evidence is a monotone function of time, whichever side of the prior
        it stands on: its lowest value over an interval is at one of the two ends.
"""

# One unit of evidence.
ONE: constant(uint256) = 65536
# The prior is one success in ten: a newcomer stands at 10 %, needs 8 settled tasks for one half
# and 80 for 90 %, and a node that has lost its name gains nothing much by starting again.
PRIOR_GOOD: constant(uint256) = 65536
PRIOR_ALL: constant(uint256) = 10 * 65536
# 10,000 basis points are 100 %.
BPS: constant(uint256) = 10000


@internal
@pure
def decayed(evidence: uint256, elapsed: uint256, half_life: uint256) -> uint256:
    """
    @notice What is left of some evidence.
    @param evidence Units of 1/65536, below 2^32.
    @param elapsed Blocks since it was stored.
    @param half_life Blocks in which it halves, not 0.
    @return The faded evidence, in the same units.
    """
    # Nothing overflows: evidence is below 2^32 and a half-life below 2^40.
    whole: uint256 = unsafe_mul(2, half_life)
    halvings: uint256 = unsafe_div(elapsed, half_life)
    part: uint256 = unsafe_sub(elapsed, unsafe_mul(halvings, half_life))
    return unsafe_div(unsafe_mul(evidence, unsafe_sub(whole, part)), whole) >> halvings


@internal
@pure
def both_decayed(
    good: uint256, bad: uint256, elapsed: uint256, half_life: uint256
) -> (uint256, uint256):
    """
    @notice `decayed` of both sides at once: the same numbers, one computation of the time.
    @param good Evidence for the node, units of 1/65536, below 2^32.
    @param bad Evidence against it, likewise.
    @param elapsed Blocks since both were stored.
    @param half_life Blocks in which they halve, not 0.
    @return The faded evidence for and against, in the same units.
    """
    # As in `decayed`: nothing overflows.
    whole: uint256 = unsafe_mul(2, half_life)
    halvings: uint256 = unsafe_div(elapsed, half_life)
    left: uint256 = unsafe_sub(whole, unsafe_sub(elapsed, unsafe_mul(halvings, half_life)))
    return (
        unsafe_div(unsafe_mul(good, left), whole) >> halvings,
        unsafe_div(unsafe_mul(bad, left), whole) >> halvings,
    )


@internal
@pure
def mean(good: uint256, bad: uint256) -> uint256:
    """
    @notice The score of some evidence.
    @param good Evidence for the node, units of 1/65536.
    @param bad Evidence against it.
    @return Basis points, 0..10,000.
    """
    return unsafe_div(
        unsafe_mul(unsafe_add(PRIOR_GOOD, good), BPS),
        unsafe_add(PRIOR_ALL, unsafe_add(good, bad)),
    )
