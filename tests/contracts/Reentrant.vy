# pragma version 0.4.3
# pragma evm-version prague
"""
@title An account that calls the market again while it is being paid
@license Apache-2.0
@notice Only for tests.
"""

interface Market:
    def post(
        spec_hash: bytes32,
        number: uint256,
        size: uint256,
        class_id: uint256,
        fee: uint256,
        member_fee: uint256,
    ) -> uint256: payable
    def withdraw(): nonpayable


market: Market
tries: public(uint256)


@deploy
def __init__(market: address):
    self.market = Market(market)


@external
@payable
def post(
    spec_hash: bytes32,
    number: uint256,
    size: uint256,
    class_id: uint256,
    fee: uint256,
    member_fee: uint256,
):
    """
    @notice Posts a task, so that a refund becomes due.
    """
    extcall self.market.post(spec_hash, number, size, class_id, fee, member_fee, value=msg.value)


@external
def attack():
    """
    @notice Withdraws.
    """
    extcall self.market.withdraw()


@external
@payable
def __default__():
    self.tries += 1
    again: bool = raw_call(
        self.market.address, method_id("withdraw()"), revert_on_failure=False
    )
    assert not again, "the market paid while it was paying"
