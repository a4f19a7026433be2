"""Tickets, seeds, delays and the committee draw: fairness and bounds."""

from __future__ import annotations

import hashlib
import math
from collections import Counter

import pytest
from eth_abi import encode
from eth_utils import keccak

from nodeclient.core import sortition

MARKET = bytes(range(20))
NODE = bytes(range(20, 40))
RANDAO = hashlib.sha256(b"prevrandao").digest()


def beta_of(*parts: object) -> bytes:
    """A reproducible uniform 32-byte value."""
    return hashlib.sha256(repr(parts).encode()).digest()


class TestHashes:
    def test_task_alpha__equals_abi_encoding(self) -> None:
        types = ["bytes32", "uint256", "address", "uint256", "address", "bytes32"]
        values = [keccak(b"sealrun/alpha/v1"), 31337, MARKET, 7, NODE, RANDAO]
        alpha = sortition.task_alpha(31337, MARKET, 7, NODE, RANDAO)
        assert alpha == keccak(encode(types, values))[:27]

    def test_committee_seed__equals_abi_encoding(self) -> None:
        beta = beta_of("leader")
        expected = keccak(encode(["bytes32"] * 3, [keccak(b"sealrun/seed/v1"), beta, RANDAO]))
        assert sortition.committee_seed(beta, RANDAO) == expected

    def test_hashes__wrong_lengths__refused(self) -> None:
        for market, node, randao in (
            (MARKET + b"\x00", NODE, RANDAO),
            (MARKET, NODE[1:], RANDAO),
            (MARKET, NODE, RANDAO[1:]),
        ):
            with pytest.raises(ValueError, match="addresses need 20 bytes"):
                sortition.task_alpha(1, market, 7, node, randao)
        with pytest.raises(ValueError, match="not a uint256"):
            sortition.task_alpha(1, MARKET, -1, NODE, RANDAO)
        with pytest.raises(ValueError, match="need 32 bytes"):
            sortition.committee_seed(RANDAO, b"")


class TestTickets:
    def test_wad_ln__many_sizes__close_to_the_logarithm(self) -> None:
        for bits in range(1, 255, 3):
            x = (1 << bits) + 12345 % (1 << bits)
            expected = (math.log(x) - math.log(10**18)) * 1e18
            assert sortition.wad_ln(x) == pytest.approx(expected, rel=1e-12, abs=1e6)

    def test_wad_ln__outside_int256__refused(self) -> None:
        for wrong in (-1, 2**255):
            with pytest.raises(ValueError, match="ln needs a value"):
                sortition.wad_ln(wrong)

    def test_ticket_of__best_and_worst_beta__bounded(self) -> None:
        assert sortition.ticket_of(b"\xff" * 32, 1) == 0
        worst = sortition.ticket_of(bytes(32), 1)
        assert 176 * sortition.WAD < worst >> sortition.TICKET_SCALE_BITS < 177 * sortition.WAD
        assert worst < 2**196

    def test_ticket_of__larger_beta__never_a_larger_ticket(self) -> None:
        betas = sorted(beta_of(i) for i in range(200))
        tickets = [sortition.ticket_of(beta, 3) for beta in betas]
        assert tickets == sorted(tickets, reverse=True)

    def test_ticket_of__no_weight_or_short_beta__refused(self) -> None:
        for beta, weight in ((bytes(32), 0), (bytes(32), -1), (bytes(31), 1)):
            with pytest.raises(ValueError, match="weight > 0"):
                sortition.ticket_of(beta, weight)

    def test_race__weights_1_2_5__won_in_proportion(self) -> None:
        weights, races = (1, 2, 5), 4000
        wins: Counter[int] = Counter()
        for race in range(races):
            tickets = [sortition.ticket_of(beta_of(race, i), w) for i, w in enumerate(weights)]
            wins[tickets.index(min(tickets))] += 1
        for index, weight in enumerate(weights):
            share = weight / sum(weights)
            spread = 4 * math.sqrt(races * share * (1 - share))
            assert abs(wins[index] - races * share) < spread

    def test_race__weight_split_over_two_nodes__gains_nothing(self) -> None:
        races, wins = 4000, 0
        for race in range(races):
            halves = min(sortition.ticket_of(beta_of(race, i), 4) for i in (0, 1))
            wins += halves < sortition.ticket_of(beta_of(race, 2), 8)
        assert abs(wins - races / 2) < 4 * math.sqrt(races / 4)


class TestClaimDelay:
    @staticmethod
    def delays(race: int, weights: list[int], window: int) -> list[int]:
        total = sum(weights)
        return [
            sortition.claim_delay_blocks(
                sortition.ticket_of(beta_of("delay", race, i), w), total, window
            )
            for i, w in enumerate(weights)
        ]

    def test_delay__lower_ticket__never_waits_longer(self) -> None:
        tickets = sorted(sortition.ticket_of(beta_of(i), 1) for i in range(100))
        delays = [sortition.claim_delay_blocks(ticket, 100, 40) for ticket in tickets]
        assert delays == sorted(delays)

    def test_delay__any_ticket__inside_the_window_less_its_reserve(self) -> None:
        assert sortition.claim_delay_blocks(0, 1, 30) == 0
        assert sortition.claim_delay_blocks(2**210, 10**6, 30, reserve_blocks=5) == 24
        assert sortition.claim_delay_blocks(2**200, 10**6, 1, reserve_blocks=5) == 0

    def test_delay__twenty_nodes__usually_one_claims(self) -> None:
        """Whoever sees a lower claim one block earlier stays silent."""
        weights, races = [1, 1, 2, 4, 8] * 4, 400
        claims = 0
        for race in range(races):
            delays = self.delays(race, weights, window=60)
            claims += sum(delay <= min(delays) for delay in delays)
        assert claims / races < 1.15

    def test_delay__unlucky_task_of_many_nodes__no_pile_up_at_the_end(self) -> None:
        """The lowest of 1,000 tickets is eight times what is expected: few share its block."""
        nodes, unit = 1000, sortition.WAD << sortition.TICKET_SCALE_BITS
        tickets = [(8 * unit + index * unit) // nodes for index in range(nodes)]
        delays = [sortition.claim_delay_blocks(ticket, nodes, 100) for ticket in tickets]
        assert delays.count(min(delays)) <= 2
        assert max(delays) <= 98

    def test_delay__expected_lowest_ticket__a_third_of_the_window(self) -> None:
        unit = sortition.WAD << sortition.TICKET_SCALE_BITS
        assert sortition.claim_delay_blocks(unit // 1000, 1000, 92) == 30

    def test_delay__nonsense__refused(self) -> None:
        for ticket, total, window in ((-1, 1, 1), (1, 0, 1), (1, 1, -1)):
            with pytest.raises(ValueError, match="delay needs"):
                sortition.claim_delay_blocks(ticket, total, window)


class TestDraw:
    SIZES = (40, 10, 0, 3, 0, 0, 0, 0, 0, 1)

    def test_draw__any_seed__distinct_existing_codes_without_the_excluded(self) -> None:
        excluded = 9 << 14  # the single heaviest node, more than 3/4 of the weight
        for number in range(200):
            codes = sortition.draw_codes(beta_of(number), 11, self.SIZES, excluded)
            assert len(set(codes)) == 11
            assert excluded not in codes
            assert all(code & 0x3FFF < self.SIZES[code >> 14] for code in codes)

    def test_draw__everybody__each_exactly_once(self) -> None:
        codes = sortition.draw_codes(beta_of("all"), 6, (3, 2, 1))
        assert sorted(codes) == [0, 1, 2, 1 << 14, 1 << 14 | 1, 2 << 14]

    def test_draw__first_pick__in_proportion_to_weight(self) -> None:
        sizes, rounds = (4, 3, 0, 2), 6000
        total = 4 + 6 + 16
        first = Counter(
            sortition.draw_codes(beta_of("first", n), 1, sizes)[0] for n in range(rounds)
        )
        for code in (0, 3, 1 << 14, 1 << 14 | 2, 3 << 14, 3 << 14 | 1):
            share = (1 << (code >> 14)) / total
            spread = 4 * math.sqrt(rounds * share * (1 - share))
            assert abs(first[code] - rounds * share) < spread

    def test_draw__second_pick__weights_without_the_first(self) -> None:
        """Excluding a node equals conditioning on it: 1 and 2 units left beside 4."""
        rounds = 4000
        light = sum(
            sortition.draw_codes(beta_of("second", n), 1, (1, 1, 1), 2 << 14)[0] == 0
            for n in range(rounds)
        )
        assert abs(light - rounds / 3) < 4 * math.sqrt(rounds * 2 / 9)

    def test_draw__too_few_nodes__refused(self) -> None:
        with pytest.raises(ValueError, match="fewer eligible nodes"):
            sortition.draw_codes(RANDAO, 4, (2, 1))
        with pytest.raises(ValueError, match="fewer eligible nodes"):
            sortition.draw_codes(RANDAO, 3, (2, 1), exclude_code=0)

    def test_draw__excluded_code_that_does_not_exist__refused(self) -> None:
        for code in (2, 1 << 14 | 1, 5 << 14):
            with pytest.raises(ValueError, match="excluded node is not drawable"):
                sortition.draw_codes(RANDAO, 1, (2, 1), code)
