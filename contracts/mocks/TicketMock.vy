# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title How a contract uses the `ticket` module
@license AGPL-3.0-only
@notice Only for tests and as an example; never deployed by the project.
"""
from ..modules import ticket


@external
@pure
def ticket_of(beta: bytes32, weight: uint256) -> uint256:
    """
    @notice The ticket of a VRF output.
    @param beta The VRF output.
    @param weight The weight, not 0.
    @return The ticket; lower is better.
    """
    return ticket.ticket_of(beta, weight)
