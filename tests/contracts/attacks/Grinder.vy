# pragma version 0.4.3
"""
@title A caller that simulates and takes back
@license Apache-2.0
@notice Draws a committee, looks at it in the same transaction, and reverts unless it likes it.
"""

interface Registry:
    def draw(seed: bytes32, k: uint256, exclude: address) -> DynArray[address, 11]: view


SEED_DOMAIN: constant(bytes32) = keccak256("sealrun/seed/v1")


@external
def draw_if(
    market: address,
    call: Bytes[4096],
    registry: Registry,
    beta: bytes32,
    k: uint256,
    executor: address,
    entropy: bytes32,
    wanted: address,
):
    """
    @notice Makes the call `draw` and keeps it only if `wanted` is drawn.
    @param market The market.
    @param call The calldata of its `draw`.
    @param registry The registry, whose structure a draw leaves as it is.
    @param beta The leader's VRF output.
    @param k Members.
    @param executor The leader.
    @param entropy What the draw is made of; zero for this block's randomness.
    @param wanted Who shall sit in the committee.
    """
    raw_call(market, call)
    word: bytes32 = entropy if entropy != empty(bytes32) else block.prevrandao
    seed: bytes32 = keccak256(abi_encode(SEED_DOMAIN, beta, word))
    assert wanted in staticcall registry.draw(seed, k, executor), "grinder: taken back"
