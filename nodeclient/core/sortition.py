"""Who runs a Task and who verifies it, computed off chain to the same bits as the contracts. Pure.

* `task_alpha`, `committee_seed`: the hashes of `TaskMarket`.
* `wad_ln`, `ticket_of`: `contracts/modules/ticket.vy` (snekmate's `_wad_ln`, after Remco Bloemen's
  MIT-licensed method, https://xn--2-umb.com/22/exp-ln).
* `claim_delay_blocks`: how long a Node holds its claim back, so that usually one is sent.
* `draw_codes`: the draw of `contracts/modules/class_grid.vy`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from agent.formats.hashes import keccak256
from nodeclient.core.vrf_witness import ALPHA_BYTES

WAD: Final = 10**18
TICKET_SCALE_BITS: Final = 128
LN_TOP: Final = 135305999368893231589  # wad_ln(2**255 - 1), as in ticket.vy
POSITION_BITS: Final = 14  # code = class << 14 | position inside the class
REDRAWS: Final = 256  # inside a class, before the draw walks on to the next free position
_ALPHA_DOMAIN: Final = keccak256(b"sealrun/alpha/v1")
_SEED_DOMAIN: Final = keccak256(b"sealrun/seed/v1")

# Coefficients of the (8, 8)-term rational approximation of ln on [1, 2), base 2**96, highest
# first; the last of P stays in base 2**192.
_P: Final = (
    3273285459638523848632254066296,
    24828157081833163892658089445524,
    43456485725739037958740375743393,
    -11111509109440967052023855526967,
    -45023709667254063763336534515857,
    -14706773417378608786704636184526,
)
_P_LAST: Final = -795164235651350426258249787498 << 96
_Q: Final = (
    5573035233440673466300451813936,
    71694874799317883764090561454958,
    283447036172924575727196451306956,
    401686690394027663651624208769553,
    204048457590392012362485061816622,
    31853899698501571402653359427138,
    909429971244387300277376558375,
)
_SCALE: Final = 1677202110996718588342820967067443963516166
_LN_2: Final = 16597577552685614221487285958193947469193820559219878177908093499208371
_LN_BASE: Final = 600920179829731861736702779321621459595472258049074101567377883020018308

# The lowest of all tickets, times the total weight, is exponential with mean 1. At twice that mean
# half of the window has passed; 2 gives the fewest claims in one block and the shorter wait.
_HALF_WINDOW_MEANS: Final = 2


def task_alpha(chain_id: int, market: bytes, task_id: int, node: bytes, prevrandao: bytes) -> bytes:
    """VRF input of a Node for a Task: the first 27 bytes of keccak256(abi.encode(domain, chain id,
    market, task id, node, prevrandao)).

    The Node stands in it because a VRF key is registered unproved: a copied key must not make a
    proof copyable.

    Args:
        market: address of `TaskMarket`, 20 bytes.
        node: the claiming Node's account, 20 bytes.
        prevrandao: that of block posted_at + ENTROPY_DELAY, 32 bytes.

    Raises:
        ValueError: a value of the wrong length or out of range.
    """
    if len(market) != 20 or len(node) != 20 or len(prevrandao) != 32:
        raise ValueError("sortition: addresses need 20 bytes, prevrandao 32; pass them as bytes")
    words = (_word(chain_id), bytes(12) + market, _word(task_id), bytes(12) + node, prevrandao)
    return keccak256(_ALPHA_DOMAIN + b"".join(words))[:ALPHA_BYTES]


def committee_seed(beta: bytes, prevrandao: bytes) -> bytes:
    """Seed of the draw: keccak256(abi.encode(domain, leader's beta, prevrandao of the draw)).

    Raises:
        ValueError: a value that is not 32 bytes.
    """
    if len(beta) != 32 or len(prevrandao) != 32:
        raise ValueError("sortition: beta and prevrandao need 32 bytes; pass them as bytes")
    return keccak256(_SEED_DOMAIN + beta + prevrandao)


def wad_ln(x: int) -> int:
    """ln(x / 1e18) in units of 1e-18, bit for bit as snekmate's `_wad_ln`; 0 for 0.

    Raises:
        ValueError: x outside [0, 2**255).
    """
    if not 0 <= x < 2**255:
        raise ValueError("sortition: ln needs a value in [0, 2**255); check the VRF output")
    if x == 0:
        return 0
    exponent = x.bit_length() - 1 - 96
    mantissa = x << (159 - exponent) >> 159  # in [1, 2) * 2**96
    p = mantissa + _P[0]
    for coefficient in _P[1:]:
        p = (p * mantissa >> 96) + coefficient
    p = p * mantissa + _P_LAST
    q = mantissa + _Q[0]
    for coefficient in _Q[1:]:
        q = (q * mantissa >> 96) + coefficient
    quotient = p // q  # both are positive, so floor is the EVM's truncation
    return quotient * _SCALE + exponent * _LN_2 + _LN_BASE >> 174


def ticket_of(beta: bytes, weight: int) -> int:
    """Ticket of a VRF output: -ln(beta / 2**256) * 1e18 * 2**128 // weight; lower is better.

    Raises:
        ValueError: beta is not 32 bytes or weight is not positive.
    """
    if len(beta) != 32 or weight <= 0:
        raise ValueError("sortition: beta needs 32 bytes and weight > 0; is the node ACTIVE?")
    half = max(int.from_bytes(beta, "big") >> 1, 1)
    return (LN_TOP - wad_ln(half) << TICKET_SCALE_BITS) // weight


def claim_delay_blocks(
    ticket: int, total_weight: int, window_blocks: int, reserve_blocks: int = 2
) -> int:
    """Blocks of the claim window to let pass before sending a claim: longer for a higher ticket.

    With e the ticket in units of the expected lowest one, the delay is window * e / (e + 2): in
    proportion to the ticket while it is low, and flattening, so that it stays inside the window
    without piling up there. (Cut off linearly, one Task in e^4 = 55 would see ALL Nodes send in the
    last block.) A Node that sees a lower ticket claimed while it waits has nothing to send; on
    average 5 / window Nodes share a block with the lowest.

    Args:
        ticket: as `ticket_of` returns it.
        total_weight: sum of all Nodes' weights, in the unit of the ticket's weight. An estimate is
            enough: it stretches or squeezes all delays alike.
        window_blocks: length of the claim window, blocks.
        reserve_blocks: blocks kept free at its end for the transaction to be included.

    Returns:
        A delay in [0, max(window_blocks - reserve_blocks, 0)], blocks.

    Raises:
        ValueError: a negative argument, or no total weight.
    """
    if min(ticket, window_blocks, reserve_blocks) < 0 or total_weight <= 0:
        raise ValueError("sortition: delay needs a ticket and a positive weight; read the registry")
    usable = max(window_blocks - reserve_blocks, 0)
    relative = ticket * total_weight
    return usable * relative // (relative + (_HALF_WINDOW_MEANS * WAD << TICKET_SCALE_BITS))


def draw_codes(
    seed: bytes, count: int, sizes: Sequence[int], exclude_code: int | None = None
) -> tuple[int, ...]:
    """Successive weighted sampling without replacement, as `class_grid.draw` does it.

    For each pick h = keccak256(h), x = h: the class is found by a prefix search of x mod (weight
    not yet picked), the position is (x >> 128) mod (size of the class); on a position that was
    picked before, h is hashed again and only the position is drawn anew, inside the class; after
    `REDRAWS` of these it walks on to the next free position, so that it always ends. The excluded
    node is picked like any other and gets no seat.

    Args:
        seed: 32 bytes.
        count: how many distinct nodes.
        sizes: nodes of each class; a node of class c weighs 2**c.
        exclude_code: the code of a node that gets no seat (the Executor).

    Returns:
        `count` codes, class << 14 | position, in the order drawn.

    Raises:
        ValueError: fewer eligible nodes than `count`, or an excluded code that does not exist.
    """
    weights = [size << class_id for class_id, size in enumerate(sizes)]
    drawable = sum(sizes)
    if exclude_code is not None:
        class_id, position = exclude_code >> POSITION_BITS, exclude_code & (1 << POSITION_BITS) - 1
        if class_id >= len(sizes) or position >= sizes[class_id]:
            raise ValueError("sortition: excluded node is not drawable; read the registry again")
        drawable -= 1
    if drawable < count:
        raise ValueError("sortition: fewer eligible nodes than seats; wait for more nodes")
    picked: list[int] = []
    chain = seed
    while len(picked) - (exclude_code in picked) < count:
        code, class_id, chain = _pick(chain, weights, sizes, picked)
        picked.append(code)
        weights[class_id] -= 1 << class_id
    return tuple(code for code in picked if code != exclude_code)


def _pick(
    chain: bytes, weights: Sequence[int], sizes: Sequence[int], picked: Sequence[int]
) -> tuple[int, int, bytes]:
    """One pick: (code, class, last hash of the chain)."""
    chain = keccak256(chain)
    draw = int.from_bytes(chain, "big")
    class_id = bisect_right(list(accumulate(weights)), draw % sum(weights))
    size = sizes[class_id]
    position = (draw >> 128) % size
    attempt = 0
    while class_id << POSITION_BITS | position in picked:
        if attempt < REDRAWS:
            chain = keccak256(chain)
            position = (int.from_bytes(chain, "big") >> 128) % size
        else:
            position = (position + 1) % size
        attempt += 1
    return class_id << POSITION_BITS | position, class_id, chain


def _word(value: int) -> bytes:
    if not 0 <= value < 2**256:
        raise ValueError("sortition: not a uint256; check chain id and task id")
    return value.to_bytes(32, "big")
