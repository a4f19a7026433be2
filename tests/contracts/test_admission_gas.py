"""No call of admission needs more than 2 million gas: 10,000 nodes, a committee of 11, the longest
queue of tasks that a change of the draw looks through."""

from __future__ import annotations

from typing import Final

import pytest

from tests.contracts import motions
from tests.contracts.attacks.flood import flood
from tests.contracts.crowd import crowd
from tests.contracts.motions import MAKER, ZYMKEY, admitted, bootstrap, pending
from tests.contracts.network import CLAIM_WINDOW, DELAY, Network
from tests.contracts.signing import NodeKeys
from tests.contracts.test_gas_limits import DEAREST, LARGEST, NODES, QUEUE, Metered, in_committee

CALLED: Final = {"request", "propose", "draw", "decide", "admit_bootstrap", "renounce"}


@pytest.mark.chain
def test_gas__every_call_of_admission_in_the_worst_state__below_the_limit(
    network: Network,
) -> None:
    network = metered = Metered(**{name: getattr(network, name) for name in Network.__slots__})
    labels = crowd(network, NODES)
    (task,) = in_committee(network, labels, (3,))
    task = network.accept(task)
    accused = admitted(network, "accused", maker=b"\x99" * 32)
    candidate, zymkey = pending(network, "candidate"), pending(network, "zymkey", ZYMKEY)
    flood(network, QUEUE)
    network.chain.mine(DELAY + CLAIM_WINDOW + 1)

    mover = next(one for one in network.nodes if one != accused.address)
    bar = motions.propose(network, motions.BAR_MAKER, b"\x99" * 32, mover)
    admission = motions.request(network, candidate)
    members = motions.draw(network, admission)
    assert len(members) == LARGEST
    for member in members:
        if member in labels:
            network.nodes[member] = NodeKeys.derive(labels[member])
    for motion in (admission, bar):
        network.send(network.outsider, motions.decide_call(network, motion, members))
    network.send(network.outsider, network.registry.functions.sync(accused.address))
    vouched = motions.vouch(network, zymkey, accused.account)
    reason = network.reason(
        zymkey.address, motions.request_call(network, vouched=vouched), motions.MOTION_FEE
    )
    assert reason == "admission: not vouched by an admitter"
    functions = network.admission.functions
    network.send(bootstrap(network), functions.admit_bootstrap(zymkey.address, MAKER))
    network.send(bootstrap(network), functions.renounce())
    network.fund(network.admission.address)
    _bar_executor(network, task.executor)
    fail = network.market.functions.fail_barred(task.as_tuple(), list(task.members))
    network.send(network.outsider, fail)

    found = {
        entry["name"]
        for entry in network.admission.abi
        if entry["type"] == "function" and entry["stateMutability"] in ("nonpayable", "payable")
    }
    assert found == CALLED
    assert set(metered.dearest) >= CALLED | {"sync", "bar", "fail_barred"}
    assert max(metered.dearest.values()) < DEAREST, dict(metered.dearest)
    print(dict(metered.dearest))


def _bar_executor(network: Network, node: str) -> None:
    chip = network.registry.functions.node(node).call()[7]
    network.send(network.admission.address, network.registry.functions.bar(chip))
