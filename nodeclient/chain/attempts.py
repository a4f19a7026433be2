"""What was signed for one order: one nonce, one or more raw transactions that compete for it.

At most one transaction of a nonce is ever mined, so however often an order is signed under its
nonce it happens at most once. The journal keeps all of them: the one that is mined need not be the
last.
"""

from __future__ import annotations

from dataclasses import dataclass

import rlp  # type: ignore[import-untyped]
from eth_hash.auto import keccak

from nodeclient.chain.fees import Fees
from nodeclient.ports import Journal


@dataclass(frozen=True, slots=True)
class Attempts:
    """The raw transactions of an order, oldest first."""

    nonce: int
    raws: tuple[bytes, ...]

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """Transaction hashes, newest first: the newest is the likeliest to be mined."""
        return tuple(keccak(raw) for raw in reversed(self.raws))

    @property
    def fees(self) -> Fees:
        """What the newest one offers."""
        fields = self._fields()
        return Fees(int.from_bytes(fields[3], "big"), int.from_bytes(fields[2], "big"))

    @property
    def gas(self) -> int:
        """Gas limit of the newest one."""
        return int.from_bytes(self._fields()[4], "big")

    def _fields(self) -> list[bytes]:
        # EIP-1559: 0x02 ‖ rlp([chain_id, nonce, tip, max_fee, gas, to, value, data, …])
        fields: list[bytes] = rlp.decode(self.raws[-1][1:])
        return fields


def load(journal: Journal, key: str) -> Attempts | None:
    """What the journal holds for an order."""
    found = journal.load(key)
    if found is None:
        return None
    nonce, _, packed = found
    return Attempts(nonce, tuple(rlp.decode(packed)))


def save(journal: Journal, key: str, attempts: Attempts) -> None:
    """Durable before it returns; must come before anything is sent."""
    packed = bytes(rlp.encode(list(attempts.raws)))
    journal.save(key, attempts.nonce, attempts.hashes[0], packed)
