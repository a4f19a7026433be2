"""Numbers of this Node's tasks: the market takes each but once of an account, in any order.

The store gives every number once; the chain knows those that the account used by other means, or
before the store was lost.
"""

from __future__ import annotations

from nodeclient.core.types import Address
from nodeclient.ports import ChainReader
from nodeclient.store.database import Store


async def take_unspent(store: Store, chain: ChainReader, account: Address) -> int:
    """A number under which the account never posted and this Node orders nothing else.

    The gap doubles with each one that is spent, so that few questions find the end of many.
    """
    number, gap = store.take_number(), 1
    while await chain.is_spent(account, number):
        number, gap = store.take_number(number + gap), 2 * gap
    return number
