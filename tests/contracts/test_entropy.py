"""`contracts/modules/entropy.vy` on anvil osaka, where headers and EIP-2935 are real."""

from __future__ import annotations

from typing import Any, Final

import boa
import pytest
import rlp
from web3 import Web3
from web3.contract import Contract
from web3.exceptions import ContractLogicError

from tests.contracts.anvil import ROOT, Chain
from tests.contracts.headers import encode_header

HISTORY: Final = "0x0000F90827F1C53a10cb7A02335B175320002935"
# Positions in the header's RLP list (yellow paper §4.4).
DIFFICULTY, NUMBER, GAS_LIMIT, GAS_USED, TIMESTAMP, EXTRA_DATA, MIX_HASH = range(7, 14)
MINER: Final = 2


def block_at(chain: Chain, number: int) -> dict[str, Any]:
    return dict(chain.rpc("eth_getBlockByNumber", [hex(number), False]))


def header_at(chain: Chain, number: int) -> bytes:
    return encode_header(block_at(chain, number))


@pytest.fixture(scope="module")
def entropy(chain: Chain) -> Contract:
    return chain.deploy("contracts/mocks/EntropyMock.vy")


@pytest.fixture
def past(chain: Chain, entropy: Contract) -> int:
    """A block with a few blocks on top of it."""
    chain.mine(5)
    return int(chain.w3.eth.block_number) - 3


def asked(entropy: Contract, number: int, header: bytes) -> bytes:
    return bytes(entropy.functions.prevrandao_of(number, header).call())


def test_prevrandao_of__true_header__gives_its_mix_hash(
    chain: Chain, entropy: Contract, past: int
) -> None:
    expected = bytes.fromhex(block_at(chain, past)["mixHash"][2:])
    assert asked(entropy, past, header_at(chain, past)) == expected
    assert expected != bytes(32)


def test_prevrandao_of__numbers_of_one_and_of_two_bytes__both_parsed(
    chain: Chain, entropy: Contract
) -> None:
    """RLP writes a number below 128 as itself, one above with a length; both shift the walk."""
    chain.mine(300 - min(300, int(chain.w3.eth.block_number)))
    for number in (3, 127, 128, 255, 256):
        expected = bytes.fromhex(block_at(chain, number)["mixHash"][2:])
        assert asked(entropy, number, header_at(chain, number)) == expected


def test_prevrandao_of__last_hash_that_the_client_holds_and_the_next__one_answer(
    chain: Chain, entropy: Contract
) -> None:
    """BLOCKHASH reaches 256 blocks back, the history contract goes on: nobody sees the seam."""
    chain.mine(300)
    head = int(chain.w3.eth.block_number)
    for number in range(head - 258, head - 252):
        expected = bytes.fromhex(block_at(chain, number)["mixHash"][2:])
        assert asked(entropy, number, header_at(chain, number)) == expected
        with pytest.raises(ContractLogicError, match="entropy: not the header"):
            asked(entropy, number, header_at(chain, number - 1))


def test_prevrandao_of__block_with_transactions__parsed(chain: Chain, entropy: Contract) -> None:
    """gasUsed is then not empty."""
    sent = chain.w3.eth.send_transaction(
        {"from": chain.w3.eth.accounts[0], "to": chain.w3.eth.accounts[1], "value": 1}
    )
    number = int(chain.w3.eth.wait_for_transaction_receipt(sent)["blockNumber"])
    chain.mine()
    expected = bytes.fromhex(block_at(chain, number)["mixHash"][2:])
    assert asked(entropy, number, header_at(chain, number)) == expected


def test_prevrandao_of__header_of_another_block__reverts(
    chain: Chain, entropy: Contract, past: int
) -> None:
    for other in (past - 1, past + 1):
        with pytest.raises(ContractLogicError, match="entropy: not the header"):
            asked(entropy, past, header_at(chain, other))


def test_prevrandao_of__tampered_mix_hash__reverts(
    chain: Chain, entropy: Contract, past: int
) -> None:
    fields = rlp.decode(header_at(chain, past))
    fields[MIX_HASH] = bytes(32)
    with pytest.raises(ContractLogicError, match="entropy: not the header"):
        asked(entropy, past, rlp.encode(fields))


def test_prevrandao_of__truncated_extended_or_empty__reverts(
    chain: Chain, entropy: Contract, past: int
) -> None:
    header = header_at(chain, past)
    for wrong in (header[:-1], header[1:], header + b"\x00", header + header[:100], b""):
        with pytest.raises(ContractLogicError, match="entropy: not the header"):
            asked(entropy, past, wrong)


def test_prevrandao_of__re_encoded_with_longer_lengths__reverts(
    chain: Chain, entropy: Contract, past: int
) -> None:
    """The same list with a three-byte length: the same fields, but not the bytes of the block."""
    header = header_at(chain, past)
    with pytest.raises(ContractLogicError, match="entropy: not the header"):
        asked(entropy, past, b"\xfa\x00" + header[1:])


def test_prevrandao_of__header_beyond_1024_bytes__reverts(
    chain: Chain, entropy: Contract, past: int
) -> None:
    with pytest.raises((ContractLogicError, ValueError)):
        asked(entropy, past, header_at(chain, past).ljust(1025, b"\x00"))


def test_prevrandao_of__block_not_in_the_history__reverts(chain: Chain, entropy: Contract) -> None:
    head = int(chain.w3.eth.block_number)
    for number in (head, head + 1, head + 9_000, 2**64, 2**256 - 1):
        with pytest.raises(ContractLogicError, match="entropy: block not in the history"):
            asked(entropy, number, header_at(chain, head - 1))


class TestSyntheticHistory:
    """Authentic but odd headers: the history contract is replaced by one that vouches for them."""

    @pytest.fixture
    def entropy_mock(self) -> Any:
        return boa.load(str(ROOT / "contracts/mocks/EntropyMock.vy"))

    @staticmethod
    def vouch(header: bytes) -> None:
        """Code that answers keccak(header) to every question: PUSH32 h PUSH0 MSTORE RETURN 32."""
        code = b"\x7f" + bytes(Web3.keccak(header)) + bytes.fromhex("5f5260205ff3")
        boa.env.set_code(boa.util.abi.Address(HISTORY), code)

    @staticmethod
    def header(changes: dict[int, bytes]) -> bytes:
        numbers = [b"", b"\x05", b"", b"", b""]
        front = [bytes(32), bytes(32), bytes(20), bytes(32), bytes(32), bytes(32), bytes(256)]
        fields = [*front, *numbers, b"", b"\xab" * 32, bytes(8), b"", bytes(32)]
        return bytes(rlp.encode([changes.get(at, field) for at, field in enumerate(fields)]))

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {NUMBER: b"\x7f"},
            {NUMBER: b"\x80"},
            {NUMBER: b"\xff" * 8, GAS_LIMIT: b"\x01\x02\x03", TIMESTAMP: b"\xff" * 8},
            # 30 bytes with their lengths: the most that the walk takes
            {
                NUMBER: b"\xff" * 8,
                GAS_LIMIT: b"\xff" * 8,
                GAS_USED: b"\xff" * 8,
                TIMESTAMP: b"\xff\xff",
            },
            {EXTRA_DATA: b"\x41"},
            {EXTRA_DATA: b"\xff" * 32, GAS_USED: b"\x80"},
        ],
    )
    def test_prevrandao_of__fields_of_any_size__mix_hash_found(
        self, entropy_mock: Any, changes: dict[int, bytes]
    ) -> None:
        with boa.env.anchor():
            header = self.header(changes)
            self.vouch(header)
            assert entropy_mock.prevrandao_of(5, header) == b"\xab" * 32

    @pytest.mark.parametrize(
        "changes",
        [
            {DIFFICULTY: b"\x01"},  # proof of work: mixHash is not prevrandao
            {EXTRA_DATA: b"\xee" * 56},
            {
                NUMBER: b"\xff" * 8,
                GAS_LIMIT: b"\xff" * 8,
                GAS_USED: b"\xff" * 8,
                TIMESTAMP: b"\xff" * 3,
            },
            {GAS_USED: b"\xee" * 56},
            # a long string in which a careless walk would land on a second "mixHash"
            {EXTRA_DATA: bytes(55) + b"\xa0" + b"\xee" * 32},
            {MIX_HASH: b"\xab" * 31},
            {MIX_HASH: b"\xab" * 33},
            {MINER: bytes(19)},
        ],
    )
    def test_prevrandao_of__layout_it_does_not_know__reverts(
        self, entropy_mock: Any, changes: dict[int, bytes]
    ) -> None:
        with boa.env.anchor():
            header = self.header(changes)
            self.vouch(header)
            with boa.reverts("entropy: header layout"):
                entropy_mock.prevrandao_of(5, header)

    def test_prevrandao_of__not_a_long_list__reverts(self, entropy_mock: Any) -> None:
        with boa.env.anchor():
            header = b"\xb9" + self.header({})[1:]
            self.vouch(header)
            with boa.reverts("entropy: header layout"):
                entropy_mock.prevrandao_of(5, header)

    def test_prevrandao_of__no_history_contract__reverts(self, entropy_mock: Any) -> None:
        """A call to an address without code succeeds with nothing."""
        with boa.env.anchor():
            boa.env.set_code(boa.util.abi.Address(HISTORY), b"")
            with boa.reverts("entropy: block not in the history"):
                entropy_mock.prevrandao_of(5, self.header({}))
