"""Gas on anvil (osaka): `python -m scripts.gas_report`, or with `--profile` where it goes.

At each of four numbers of really registered nodes: whole tasks with committees of 3 and 7, every
transaction that somebody had to send, outbid and reverted claims included; draws; Deposit changes.
Before that ECVRF proofs through the module's mock. Receipts hold the 21,000 and the calldata,
`.execution` is what the contracts burn without them. Writes `var/gas.json` (`<key>` is the median,
`<key>.max` the highest) and the tables of `docs/gas.md`. Exit code 1 if a limit is exceeded.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import defaultdict
from statistics import median
from typing import Final

from web3 import Web3

from nodeclient.core import vrf_witness
from scripts.gas_network import MeteredNetwork
from scripts.gas_profile import Profile, profile
from scripts.gas_table import faults_of, updated
from tests.contracts.anvil import ROOT, Chain, running
from tests.contracts.network import UNIT, Task
from tests.contracts.signing import NodeKeys

REPORT: Final = ROOT / "var" / "gas.json"
PAGE: Final = ROOT / "docs" / "gas.md"
NODES: Final = (10, 100, 1_000, 10_000)
SIZES: Final = (3, 7)
TASKS: Final = 26  # of each size at each number of nodes: 208 in all
POOL: Final = 12  # nodes that race for a task; the odds of a race do not depend on their number
PROOFS: Final = 201
DRAWS: Final = 15
CHANGES: Final = 6
WORD_ALPHA: Final = bytes(32 - vrf_witness.ALPHA_BYTES)
Samples = dict[str, list[int]]


def measure_ecvrf(chain: Chain, samples: Samples) -> None:
    """Execution gas of the ECVRF module through its mock, over many inputs."""
    mock = chain.deploy("contracts/mocks/EcvrfMock.vy")
    keys = NodeKeys.derive("gas")
    for count in range(PROOFS):
        alpha = bytes(Web3.keccak(text=f"alpha {count}"))[: vrf_witness.ALPHA_BYTES]
        proof = vrf_witness.prove(keys.vrf, alpha)
        words = alpha + WORD_ALPHA, *proof.as_arguments()
        gas = chain.execution_gas(mock.functions.verify(*keys.vrf_public, *words))
        samples["ecvrf.execution"].append(gas)
        samples[f"ecvrf.rejected{min(len(proof.roots), 3)}.execution"].append(gas)


def measure_tasks(
    network: MeteredNetwork, count: int, rng: random.Random, samples: Samples
) -> None:
    """Whole tasks with both sizes of committee, and what each step of them took."""
    for number in range(TASKS):
        for size in SIZES:
            network.used.clear()
            pool = rng.sample(list(network.nodes.values()), min(POOL, count))
            task = network.race(network.post(f"gas {count}/{number}/{size}", k=size), pool, rng)
            finish(network, task)
            total = sum(network.used.values())
            for step, gas in network.used.items():
                samples[f"task.k{size}.{step}"].append(gas)
            samples[f"task.k{size}.total"].append(total)
            samples[f"task.k{size}.n{count}.total"].append(total)
            samples[f"record.k{size}.total"].append(network.used["admit"])


def finish(network: MeteredNetwork, task: Task) -> Task:
    """The rest of a led task: the leader draws and accepts in one transaction."""
    return network.finish(network.admit(network.draw_accepting(task)))


def measure_draws(
    network: MeteredNetwork, count: int, rng: random.Random, samples: Samples
) -> None:
    """Execution gas of draws with other seeds and executors."""
    nodes = list(network.nodes)
    for _ in range(DRAWS):
        for size in SIZES:
            call = network.registry.functions.draw(rng.randbytes(32), size, rng.choice(nodes))
            gas = network.chain.execution_gas(call)
            samples[f"draw.k{size}.n{count}.execution"].append(gas)


def measure_changes(
    network: MeteredNetwork, count: int, rng: random.Random, samples: Samples
) -> None:
    """Deposit changes: to the next tier (what the draw weighs changes) and inside the tier."""
    for keys in rng.sample(list(network.nodes.values()), CHANGES):
        deposit = int(network.registry.functions.deposit(keys.address).call())
        for value, kind in ((deposit, "change"), (UNIT // 4, "inside")):
            receipt = network.send(keys.address, network.registry.functions.top_up(), value)
            sent = Web3.to_hex(receipt["transactionHash"])
            samples[f"deposit.{kind}.n{count}"].append(network.chain.execution_of(sent))
            samples[f"deposit.{kind}.n{count}.receipt"].append(receipt["gasUsed"])


def build_report(samples: Samples) -> dict[str, int]:
    """Median and highest of each sample."""
    report: dict[str, int] = {}
    for key, values in sorted(samples.items()):
        report[key] = round(median(values))
        report[f"{key}.max"] = max(values)
    return report


def measure(numbers: tuple[int, ...] = NODES) -> dict[str, int]:
    """Everything, at each of these numbers of nodes; always the same keys, seeds and order."""
    samples: Samples = defaultdict(list)
    rng = random.Random(3)  # noqa: S311 (reproducible, not secret)
    with running() as url:
        chain = Chain(Web3(Web3.HTTPProvider(url)), url)
        measure_ecvrf(chain, samples)
        network = MeteredNetwork.deploy(chain)
        for count in numbers:
            network.populate(count)
            measure_tasks(network, count, rng, samples)
            measure_draws(network, count, rng, samples)
            measure_changes(network, count, rng, samples)
            print(f"gas: {count:,} nodes measured", file=sys.stderr)
    report = build_report(samples)
    report["tasks.max"] = report["tasks"] = len(samples["task.k3.total"] + samples["task.k7.total"])
    report["claims.sent.max"] = report["claims.sent"] = network.claims
    report["claims.reverted.max"] = report["claims.reverted"] = network.reverted
    return report


def show_profile() -> None:
    """Where the gas of each step of one task goes: per function, then the dearest lines."""
    with running("--steps-tracing") as url:
        chain = Chain(Web3(Web3.HTTPProvider(url)), url)
        network = MeteredNetwork.deploy(chain)
        network.populate(30)
        parts = {
            "NodeRegistry": network.registry,
            "ReputationLedger": network.reputation,
            "AttestationLedger": network.attestation,
            "TaskMarket": network.market,
        }
        sources = {part.address.lower(): f"contracts/{name}.vy" for name, part in parts.items()}
        for size in SIZES:
            before = chain.w3.eth.block_number
            finish(network, network.claim(network.post(k=size), network.free_node()))
            for number in range(before + 1, chain.w3.eth.block_number + 1):
                for sent in chain.w3.eth.get_block(number)["transactions"]:
                    print_profile(size, profile(chain, Web3.to_hex(sent), sources))  # type: ignore[arg-type]


def print_profile(size: int, found: Profile) -> None:
    """One transaction's functions, and its 25 dearest lines with their source."""
    print(f"\nk={size} {max(found.functions, key=found.functions.__getitem__)}: {found.total:,}")
    for name, gas in sorted(found.functions.items(), key=lambda item: -item[1]):
        print(f"  {gas:7,} {name}")
    for (file, line), gas in sorted(found.lines.items(), key=lambda item: -item[1])[:25]:
        paths = list((ROOT / "contracts").rglob(file)) if line else []
        text = paths[0].read_text().splitlines()[line - 1].strip() if paths else ""
        print(f"    {gas:7,} {file}:{line} {text[:80]}")


def main(arguments: list[str] | None = None) -> int:
    """Measure, write, render; exit code 1 if a median is above its limit."""
    parser = argparse.ArgumentParser(prog="python -m scripts.gas_report", description=__doc__)
    parser.add_argument("--profile", action="store_true", help="show where the gas of a task goes")
    if parser.parse_args(arguments).profile:
        show_profile()
        return 0
    report = measure()
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")
    PAGE.write_text(updated(PAGE.read_text(), report))
    faults = list(faults_of(report))
    for fault in faults:
        print(fault, file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    raise SystemExit(main())
