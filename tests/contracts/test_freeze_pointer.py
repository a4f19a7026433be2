"""The pointer to the first task that can still freeze the draw: how far each call moves it, where
it stops, and that it never passes a task that freezes."""

from __future__ import annotations

import pytest

from tests.contracts.network import (
    CLAIM_WINDOW,
    DELAY,
    DRAW_WINDOW,
    EXECUTOR_FEE,
    MEMBER_FEE,
    POSTING_FEE,
    Network,
)

pytestmark = pytest.mark.chain  # starts anvil
VALUE = POSTING_FEE + EXECUTOR_FEE + 3 * MEMBER_FEE
COUNTERS = 5  # the slot: burned 128, head 64, last id 64 bits
WINDOW = DELAY + CLAIM_WINDOW


def counters(network: Network) -> tuple[int, int, int]:
    """Burned wei, the pointer and the last id, as they are stored."""
    word = network.chain.w3.eth.get_storage_at(network.market.address, COUNTERS)
    packed = int.from_bytes(word)
    return packed >> 128, (packed >> 64) % 2**64, packed % 2**64


def post(network: Network, tasks: int) -> None:
    """Postings that nobody will claim, 64 in a block."""
    network.chain.rpc("evm_setAutomine", [False])
    for number in range(tasks):
        call = network.post_call(bytes(32))
        call.transact({"from": network.requester, "value": VALUE, "gas": 400_000})
        if number % 64 == 63:
            network.chain.mine(1)
    network.chain.mine(1)
    network.chain.rpc("evm_setAutomine", [True])


def advance(network: Network) -> int:
    """Where a call of `advance` moves the pointer to; the call is made."""
    call = network.market.functions.advance()
    answer = int(call.call())
    network.send(network.outsider, call)
    assert counters(network)[1] == answer
    return answer


def test_post__pointer_behind__moves_one_task_and_eight_from_32_on(network: Network) -> None:
    post(network, 34)
    assert counters(network) == (34 * POSTING_FEE, 1, 34)
    network.chain.mine(WINDOW)
    heads = []
    for _ in range(6):
        network.post()
        heads.append(counters(network)[1])
    # ids 35.. are the new ones: 34, 27, 20 behind, ...
    assert heads == [9, 10, 11, 12, 13, 14]
    assert counters(network) == (40 * POSTING_FEE, 14, 40)


@pytest.mark.parametrize(("dead", "head"), [(31, 2), (32, 9)])
def test_post__id_32_beyond_the_pointer__is_where_it_hurries(
    network: Network, dead: int, head: int
) -> None:
    post(network, dead)
    network.chain.mine(WINDOW)
    network.post()
    assert counters(network)[1] == head


def test_post__living_task__is_not_passed(network: Network) -> None:
    network.post()
    network.post()
    assert counters(network)[1] == 1
    network.chain.mine(WINDOW)
    network.post()
    assert counters(network)[1] == 2


def test_advance__all_tasks_dead__stands_behind_them_and_the_next_one_freezes(
    network: Network,
) -> None:
    for _ in range(3):
        network.post()
    network.chain.mine(WINDOW + 1)
    assert advance(network) == 4
    assert counters(network) == (3 * POSTING_FEE, 4, 3)
    task = network.reach("claimed")
    assert (task.id, network.market.functions.burned().call()) == (4, 4 * POSTING_FEE)
    network.mine_to(network.entropy_block(task))
    assert network.market.functions.undrawn().call() == 4
    assert advance(network) == 4


def test_advance__last_block_of_the_claims__leaderless_task_is_passed_after_it(
    network: Network,
) -> None:
    task = network.post()
    network.mine_to(task.posted_at + WINDOW)
    assert network.market.functions.advance().call() == 1
    network.chain.mine(1)
    assert network.market.functions.advance().call() == 2


def test_advance__last_block_of_the_draw__led_task_is_passed_after_it(network: Network) -> None:
    task = network.reach("claimed")
    network.mine_to(network.entropy_block(task) + DRAW_WINDOW)
    assert network.market.functions.advance().call() == 1
    network.chain.mine(1)
    assert network.market.functions.advance().call() == 2


def test_advance__drawn_and_settled_tasks__are_passed(network: Network) -> None:
    network.reach("drawn")
    network.reach("settled")
    network.post()
    assert advance(network) == 3


def test_undrawn__lookahead_before_the_entropy__freezes_from_there_on(network: Network) -> None:
    task = network.reach("claimed")
    undrawn = network.market.functions.undrawn
    network.mine_to(network.entropy_block(task) - 2)
    assert undrawn().call() == 0  # one block before the lookahead of one
    network.chain.mine(1)
    assert undrawn().call() == task.id


def test_undrawn__more_dead_tasks_than_one_call_sees__denies_until_advanced(
    network: Network,
) -> None:
    """256 dead tasks in a row are seen through; of one more it is not known what it is."""
    undrawn = network.market.functions.undrawn
    start = network.chain.rpc("evm_snapshot", [])
    post(network, 256)
    network.chain.mine(WINDOW + 1)
    assert undrawn().call() == 0
    network.chain.rpc("evm_revert", [start])
    post(network, 257)
    network.chain.mine(WINDOW + 1)
    assert undrawn().call() == 257
    assert advance(network) == 257
    assert undrawn().call() == 0
    assert advance(network) == 258


@pytest.mark.parametrize("head", [2**16 - 1, 2**40 + 5, 2**63 + 1])
def test_counters__as_large_as_they_may_get__each_moves_alone(network: Network, head: int) -> None:
    """Numbers that years lead to, each a slot's field: nothing runs over into its neighbour."""
    burned, last = 2**100 + 1, head + 20
    packed = burned << 128 | head << 64 | last
    market = network.market.address
    network.chain.rpc("anvil_setStorageAt", [market, f"0x{COUNTERS:064x}", f"0x{packed:064x}"])
    functions = network.market.functions
    assert (functions.burned().call(), functions.undrawn().call()) == (burned, 0)
    assert network.post().id == last + 1
    assert counters(network) == (burned + POSTING_FEE, head + 1, last + 1)
    assert advance(network) == last + 1
    assert counters(network) == (burned + POSTING_FEE, last + 1, last + 1)
