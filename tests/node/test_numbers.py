"""Numbers of tasks: none twice, also after the store was lost."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from nodeclient.control.numbers import take_unspent
from nodeclient.core.types import Address
from nodeclient.ports import ChainReader
from nodeclient.store.database import Store

ACCOUNT = Address(b"a" * 20)


class Spent:
    """A chain on which an account has used some numbers."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = set(numbers)
        self.asked = 0

    async def is_spent(self, requester: Address, number: int) -> bool:
        self.asked += 1
        return requester == ACCOUNT and number in self.numbers


async def take(store: Store, chain: Spent) -> int:
    return await take_unspent(store, cast(ChainReader, chain), ACCOUNT)


async def test_take__in_order_and_never_again__also_after_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db", b"k" * 32)
    assert [await take(store, Spent()) for _ in range(3)] == [0, 1, 2]
    store.close()
    again = Store(tmp_path / "node.db", b"k" * 32)
    assert await take(again, Spent()) == 3


async def test_take__used_by_other_means__is_passed_over(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db", b"k" * 32)
    chain = Spent(0, 1)
    number = await take(store, chain)
    assert number not in chain.numbers
    assert await take(store, chain) > number


async def test_take__store_lost_after_many_tasks__few_questions_find_a_free_one(
    tmp_path: Path,
) -> None:
    chain = Spent(*range(10_000))
    assert await take(Store(tmp_path / "node.db", b"k" * 32), chain) >= 10_000
    assert chain.asked < 20
