"""Votes: replayed, out of date, from elsewhere, twice, malleable; dissent and equivocation."""

from __future__ import annotations

from typing import Final

from tests.contracts.attacks.harness import Removal, attack
from tests.contracts.network import Network

QUORUM: Final = Removal(
    "vote-quorum",
    "`AttestationLedger`: a record needs two thirds of the committee",
    "AttestationLedger.vy",
    'assert number >= quorum, "attestation: no quorum"',
    "pass",
)


@attack("attestation: no quorum", QUORUM)
def test_votes__one_accomplice_of_three__admits_nothing(network: Network) -> None:
    """The executor brings the votes of fewer members than the quorum."""
    task = network.admit(network.reach("accepted"), seats=(1,))
    assert network.state(task) == 4
