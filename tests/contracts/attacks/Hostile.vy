# pragma version 0.4.3
# pragma evm-version prague
"""
@title An account with code that does its worst while it is being paid
@license Apache-2.0
@notice Only for tests.
"""

TAKE: constant(uint256) = 0
REFUSE: constant(uint256) = 1
BURN: constant(uint256) = 2
CALL_AGAIN: constant(uint256) = 3

behaviour: uint256
target: address
message: Bytes[64]


@external
@payable
def run(target: address, message: Bytes[8192]):
    """
    @notice Calls any contract in this account's name, with the value sent along.
    """
    raw_call(target, message, value=msg.value)


@external
def behave(behaviour: uint256, target: address, message: Bytes[64]):
    """
    @notice How to answer the next payment: 0 take it, 1 refuse, 2 burn all gas, 3 call again.
    """
    self.behaviour = behaviour
    self.target = target
    self.message = message


@external
@payable
def __default__():
    behaviour: uint256 = self.behaviour
    assert behaviour != REFUSE, "hostile: not taken"
    assert behaviour != BURN, UNREACHABLE  # the opcode INVALID takes all gas there is
    if behaviour == CALL_AGAIN:
        # once: the second payment is simply taken
        self.behaviour = TAKE
        again: bool = raw_call(self.target, self.message, revert_on_failure=False)
