"""A rebuilt header is the block's own, byte for byte, or it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from agent.formats.hashes import keccak256
from nodeclient.chain.errors import HeaderMismatch
from nodeclient.chain.headers import build_header, fetch_header
from tests.chain.conftest import World

pytestmark = pytest.mark.chain


async def block_of(world: World, number: int) -> dict[str, Any]:
    block = await world.rpc.block(number)
    assert block is not None
    return block


async def test_fetch_header__any_block__hashes_to_the_block_hash(world: World) -> None:
    world.node.mine(3)
    for number in range(world.node.height() + 1):
        header, prevrandao = await fetch_header(world.rpc, number)
        block = await block_of(world, number)
        assert "0x" + keccak256(header).hex() == block["hash"]
        assert "0x" + prevrandao.hex() == block["mixHash"]


async def test_fetch_header__future_block__says_wait(world: World) -> None:
    with pytest.raises(HeaderMismatch, match="wait until it is mined"):
        await fetch_header(world.rpc, world.node.height() + 1)


@pytest.mark.parametrize("field", ["mixHash", "number", "timestamp", "requestsHash", "extraData"])
async def test_build_header__field_changed__refused(world: World, field: str) -> None:
    block = await block_of(world, 2)
    other = block["parentHash"] if len(block[field]) == 66 else "0x77"
    with pytest.raises(HeaderMismatch, match="do not hash"):
        build_header({**block, field: other})


@pytest.mark.parametrize("field", ["mixHash", "stateRoot", "hash"])
async def test_build_header__field_missing_or_malformed__refused(world: World, field: str) -> None:
    block = await block_of(world, 2)
    for bad in (None, 7, "0xzz", "0x00"):
        with pytest.raises(HeaderMismatch):
            build_header({**block, field: bad})
    del block[field]
    with pytest.raises(HeaderMismatch, match="lacks a header field"):
        build_header(block)
