"""Money: re-entrancy, receivers that refuse or burn gas, dust, bounds, forced ether."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, Final

import pytest
from eth_utils.abi import get_all_function_abis
from web3 import Web3
from web3.contract.contract import ContractFunction

from tests.contracts.anvil import ROOT
from tests.contracts.attacks.harness import Removal, attack, remove
from tests.contracts.attacks.hostile import (
    BURN,
    CALL_AGAIN,
    REFUSE,
    WITHDRAW,
    WITHDRAW_DEPOSIT,
    Hostile,
)
from tests.contracts.network import (
    CLAIM_WINDOW,
    DELAY,
    DRAW_WINDOW,
    NOBODY,
    UNBONDING,
    UNIT,
    Network,
    Refused,
    Task,
)
from tests.contracts.signing import BEFORE, CONTRAINDICATED, NodeKeys, Vote

OWED_LOCK: Final = ("@nonreentrant\ndef withdraw():", "def withdraw():")
OWED_FIRST: Final = (
    "    self.refunds[msg.sender] = 0\n",
    '    raw_call(msg.sender, b"", value=amount)\n    self.refunds[msg.sender] = 0\n',
)
OWED_LAST: Final = ('\n    raw_call(msg.sender, b"", value=amount)\n\n', "\n\n")
OWED: Final = Removal(
    "withdraw-order",
    "`TaskMarket.withdraw` clears what it owes before it pays, and cannot be entered twice",
    "TaskMarket.vy",
    *OWED_LOCK,
    also=(OWED_LAST, OWED_FIRST),
)
DEPOSIT: Final = Removal(
    "withdraw-deposit-order",
    "`NodeRegistry.withdraw_deposit` clears the Deposit before it pays and is entered once",
    "NodeRegistry.vy",
    "@nonreentrant\ndef withdraw_deposit():",
    "def withdraw_deposit():",
    also=(
        ('\n    raw_call(msg.sender, b"", value=amount)\n', "\n"),
        (
            "    amount: uint256 = record.deposit\n",
            '    amount: uint256 = record.deposit\n    raw_call(msg.sender, b"", value=amount)\n',
        ),
    ),
)
PULLED: Final = Removal(
    "refund-pulled",
    "`TaskMarket` notes a refund for `withdraw` and sends nothing when a task ends",
    "TaskMarket.vy",
    "    self.refunds[task.requester] += task.executor_fee + task.committee_size * task.member_fee",
    '    raw_call(task.requester, b"", value=task.executor_fee'
    " + task.committee_size * task.member_fee)",
)
FEE_BOUND: Final = Removal(
    "fee-bound",
    "`TaskMarket.post` takes no fee that could overflow a node's credit",
    "TaskMarket.vy",
    'assert executor_fee < MAX_FEE and member_fee < MAX_FEE, "market: fee too large"',
    "pass",
)
UNIT_BOUND: Final = Removal(
    "one-unit",
    "`NodeRegistry.register` gives a place in the draw for one unit at least",
    "NodeRegistry.vy",
    'assert msg.value >= UNIT, "registry: deposit below one unit"',
    "pass",
)
NOTED: Final = Removal(
    "deposit-noted",
    "`NodeRegistry` pays the Deposit that it noted, whatever its balance is",
    "NodeRegistry.vy",
    "    amount: uint256 = record.deposit\n",
    "    amount: uint256 = self.balance\n",
)


def refunded(network: Network, hostile: Hostile) -> Task:
    """A task of the hostile account that nobody claimed; others' money is there too."""
    task = hostile.post()
    network.post("another's")
    network.mine_to(task.posted_at + DELAY + CLAIM_WINDOW)
    network.send(network.outsider, network.expire_call(task))
    return task


@attack("paid once", OWED)
def test_money__withdraw_again_while_paid__paid_once(network: Network) -> None:
    """An account's code calls `withdraw` again while `withdraw` pays it."""
    hostile = Hostile.deploy(network)
    task = refunded(network, hostile)
    hostile.behave(CALL_AGAIN, network.market, WITHDRAW)
    before = network.balance(hostile.address)
    hostile.run(network.market.functions.withdraw())
    if network.balance(hostile.address) == before + task.escrow:
        raise Refused("paid once")
    assert network.balance(hostile.address) == before + 2 * task.escrow


@pytest.mark.chain
@pytest.mark.parametrize("pieces", [(OWED_LOCK,), (OWED_LAST, OWED_FIRST)], ids=["lock", "order"])
def test_money__withdraw_again__one_of_two_defences_is_enough(
    network: Network, pieces: tuple[tuple[str, str], ...]
) -> None:
    (old, new), *also = pieces
    remove(network, replace(OWED, old=old, new=new, also=tuple(also)))
    hostile = Hostile.deploy(network)
    task = refunded(network, hostile)
    hostile.behave(CALL_AGAIN, network.market, WITHDRAW)
    before = network.balance(hostile.address)
    hostile.run(network.market.functions.withdraw())
    assert network.balance(hostile.address) == before + task.escrow


@attack("paid once", DEPOSIT)
def test_money__withdraw_deposit_again_while_paid__paid_once(network: Network) -> None:
    """A node's code calls `withdraw_deposit` again while its Deposit is paid."""
    hostile = Hostile.deploy(network)
    hostile.join(UNIT)
    hostile.run(network.registry.functions.exit())
    network.chain.mine(UNBONDING)
    hostile.behave(CALL_AGAIN, network.registry, WITHDRAW_DEPOSIT)
    hostile.run(network.registry.functions.withdraw_deposit())
    if network.balance(hostile.address) == UNIT:
        raise Refused("paid once")
    assert network.balance(hostile.address) == 2 * UNIT


def hold_up(network: Network, behaviour: int) -> None:
    """A requester whose code takes no refund: its leader should stay bound to the task for ever."""
    hostile = Hostile.deploy(network)
    leader = network.free_node()
    task = network.claim(hostile.post(), leader)
    hostile.behave(behaviour)
    network.mine_to(network.entropy_block(task) + DRAW_WINDOW)
    try:
        network.send(network.outsider, network.expire_call(task))
    except Refused:
        assert network.reputation.functions.engaged(leader.address).call()
        return
    assert not network.reputation.functions.engaged(leader.address).call()
    raise Refused("the task ends all the same")


@attack("the task ends all the same", PULLED)
def test_money__requester_that_refuses_its_refund__stops_nothing(network: Network) -> None:
    """A requester's code refuses the refund, to keep the leader bound for ever."""
    hold_up(network, REFUSE)


@attack("the task ends all the same", PULLED)
def test_money__requester_that_burns_all_gas__stops_nothing(network: Network) -> None:
    """A requester's code burns all gas when refunded, to keep the leader bound for ever."""
    hold_up(network, BURN)


@attack("market: fee too large", FEE_BOUND)
def test_money__fee_that_overflows_the_credit__not_taken(network: Network) -> None:
    """A requester offers a fee no credit can hold, so that `finish` reverts: a slash."""
    network.chain.rpc("anvil_setBalance", [network.requester, hex(2**120)])
    task = replace(network, executor_fee=2**112).reach("admitted", class_id=1)
    with pytest.raises(Refused, match="reputation: credit too large"):
        network.finish(task)
    network.mine_to(task.step_at + 10)
    deposit = network.registry.functions.deposit(task.executor)
    before = deposit.call()
    network.send(network.requester, network.expire_call(task))
    assert deposit.call() == before - UNIT // 4


@attack("registry: deposit below one unit", UNIT_BOUND)
def test_money__dust_for_a_deposit__buys_no_place(network: Network) -> None:
    """A node registers for the draw with one wei."""
    weight = network.registry.functions.total_weight().call()
    network.join("dust", 1)
    assert network.registry.functions.total_weight().call() == weight + 1


@attack("paid what was noted", NOTED)
def test_money__ether_forced_upon_the_registry__pays_nobody_more(network: Network) -> None:
    """Ether arrives without a call; with the next exit all that is there should leave."""
    keys = network.free_node()
    noted = network.registry.functions.deposit(keys.address).call()
    force(network, network.registry.address, UNIT)
    network.send(keys.address, network.registry.functions.exit())
    network.chain.mine(UNBONDING)
    before = network.balance(keys.address)
    network.send(keys.address, network.registry.functions.withdraw_deposit())
    gained = network.balance(keys.address) - before
    if gained <= noted:
        raise Refused("paid what was noted")
    assert network.balance(network.registry.address) == 0


def force(network: Network, contract: str, wei: int) -> None:
    """Ether that arrives without a call, as from a selfdestruct or a block's reward."""
    there = network.balance(contract) + wei
    network.chain.rpc("anvil_setBalance", [contract, hex(there)])


@pytest.mark.chain
def test_money__ether_forced_upon_all__changes_no_sum_and_stays(network: Network) -> None:
    contracts = (
        network.market,
        network.registry,
        network.reputation,
        network.attestation,
        network.images,
    )
    for contract in contracts:
        force(network, contract.address, 7)
    task = network.reach("settled")
    slashed = network.reach("admitted")
    network.mine_to(slashed.step_at + 60)
    network.send(network.outsider, network.expire_call(slashed))
    for account in [*task.members, task.executor, network.requester, network.outsider]:
        if network.owed(account):
            network.send(account, network.market.functions.withdraw())
    owed = sum(network.owed(account) for account in network.nodes)
    burned = network.market.functions.burned().call()
    assert network.balance(network.market.address) == owed + burned + 7
    deposits = sum(network.registry.functions.deposit(node).call() for node in network.nodes)
    assert network.balance(network.registry.address) == deposits + 7
    for contract in (network.reputation, network.attestation, network.images):
        assert network.balance(contract.address) == 7


@pytest.mark.chain
def test_money__ether_sent_plainly_or_with_a_call_that_takes_none__is_refused(
    network: Network,
) -> None:
    """So nothing comes in that no account is owed: the four calls that take ether note it."""
    paid = set()
    for name in ("market", "registry", "reputation", "attestation", "images"):
        contract = getattr(network, name)
        abis = get_all_function_abis(contract.abi)
        paid |= {abi["name"] for abi in abis if abi["stateMutability"] == "payable"}
        assert not any(entry["type"] in ("fallback", "receive") for entry in contract.abi)
        transfer = {"from": network.outsider, "to": contract.address, "value": 1, "gas": 100_000}
        sent = network.chain.w3.eth.send_transaction(transfer)  # type: ignore[arg-type]
        assert network.chain.w3.eth.wait_for_transaction_receipt(sent)["status"] == 0
    assert paid == {"post", "register", "top_up", "reward"}


def test_money__contracts__never_ask_for_a_balance() -> None:
    """What a contract holds can be changed by anybody; what it noted cannot."""
    sources = sorted((ROOT / "contracts").rglob("*.vy"))
    assert len(sources) > 10
    assert [path.name for path in sources if ".balance" in path.read_text()] == []


@pytest.mark.chain
@pytest.mark.parametrize("deposit", [UNIT + 1, UNIT + 19, 2 * UNIT - 1])
def test_money__slash_of_an_odd_deposit__no_wei_is_lost(network: Network, deposit: int) -> None:
    """Rounding a reporter's twentieth must not leave a wei that belongs to nobody."""
    keys = network.join(f"odd {deposit}", deposit)
    held = network.balance(network.registry.address)
    report = equivocation(network, keys)
    sent = network.send(network.outsider, report)
    share = deposit * 5 // 100
    assert network.owed(network.outsider) == share
    assert network.balance(network.registry.address) == held - deposit
    trace = network.chain.rpc(
        "debug_traceTransaction", [Web3.to_hex(sent["transactionHash"]), {"tracer": "callTracer"}]
    )
    assert paid_in(trace) == {network.market.address.lower(): share, NOBODY: deposit - share}


def equivocation(network: Network, keys: NodeKeys) -> ContractFunction:
    """The proof that a node voted both ways."""
    vote = Vote(77, BEFORE, b"\x01" * 32)
    against = replace(vote, verdict=CONTRAINDICATED)
    return network.attestation.functions.prove_double_vote(
        vote.as_tuple(),
        network.sign_vote(vote, keys),
        against.as_tuple(),
        network.sign_vote(against, keys),
    )


def paid_in(trace: dict[str, Any]) -> dict[str, int]:
    """Wei that each account got by the calls inside a transaction."""
    paid = Counter[str]()
    for call in trace.get("calls", ()):
        wei = int(call.get("value", "0x0"), 16)
        if wei and call["type"] == "CALL":
            paid[call["to"]] += wei
        paid.update(paid_in(call))
    return dict(paid)
