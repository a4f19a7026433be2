"""Gas of whole tasks on anvil (osaka): `python -m scripts.gas_report`.

Fifty nodes, twenty tasks with a committee of 3 and ten with 7, every transaction that somebody had
to send: post, claim, draw (which accepts), admit, finish. Figures are those of receipts, so they
hold the 21,000 and the calldata. Writes `var/gas.json`: each key is the median, `<key>.max` the
highest.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.types import TxReceipt

from nodeclient.core import vrf_witness
from tests.contracts.anvil import Chain, running
from tests.contracts.network import UNIT, Network
from tests.contracts.signing import NodeKeys

REPORT: Final = Path(__file__).resolve().parents[1] / "var" / "gas.json"
NODES: Final = 50
TASKS: Final = {3: 20, 7: 10}
PROOFS: Final = 20
STEPS: Final = ("post", "claim", "draw", "admit", "finish")
LIMITS: Final = {"ecvrf.execution": 14_000, "task.k3.total": 500_000}
Samples = dict[str, list[int]]


class MeteredNetwork(Network):
    """A network that notes the gas of every transaction by function name."""

    used: dict[str, int]

    def send(self, sender: str, call: ContractFunction, value: int = 0) -> TxReceipt:
        """Send as `Network` does, and note the receipt's gas."""
        receipt = super().send(sender, call, value)
        self.used[call.fn_name] = self.used.get(call.fn_name, 0) + receipt["gasUsed"]
        return receipt

    @classmethod
    def deploy(cls, chain: Chain, **changed: Any) -> MeteredNetwork:
        """Deploy with an empty meter."""
        cls.used = {}
        network = super().deploy(chain, **changed)
        assert isinstance(network, MeteredNetwork)
        return network


def measure_tasks(network: MeteredNetwork, nodes: list[NodeKeys], samples: Samples) -> None:
    """Run whole tasks, another executor each time, and note each step."""
    for size, number in TASKS.items():
        for count in range(number):
            network.used.clear()
            task = network.claim(network.post(f"gas {size}", k=size), nodes[count])
            network.finish(network.admit(network.draw_accepting(task)))
            for step in STEPS:
                samples[f"task.k{size}.{step}"].append(network.used[step])
            samples[f"task.k{size}.total"].append(sum(network.used.values()))


def measure_ecvrf(chain: Chain, samples: Samples) -> None:
    """Execution gas of the ECVRF module through its mock, over many inputs."""
    mock = chain.deploy("contracts/mocks/EcvrfMock.vy")
    keys = NodeKeys.derive("gas")
    for count in range(PROOFS):
        alpha = bytes(Web3.keccak(text=f"alpha {count}"))
        proof = vrf_witness.prove(keys.vrf, alpha).as_tuple()
        call = mock.functions.verify(*keys.vrf_public, alpha, proof)
        samples["ecvrf.execution"].append(chain.execution_gas(call))


def build_report(samples: Samples) -> dict[str, int]:
    """Median and highest of each sample."""
    report: dict[str, int] = {}
    for key, values in samples.items():
        report[key] = round(median(values))
        report[f"{key}.max"] = max(values)
    return report


def show(report: dict[str, int]) -> None:
    """Print the report as a table."""
    table = Table("what", "median gas", "highest", "limit", title="gas (receipts)")
    for key in (key for key in report if not key.endswith(".max")):
        limit = f"{LIMITS[key]:,}" if key in LIMITS else ""
        table.add_row(key, f"{report[key]:,}", f"{report[f'{key}.max']:,}", limit)
    Console().print(table)


def main() -> int:
    """Measure, print, write; exit code 1 if a median is above its limit."""
    samples: Samples = defaultdict(list)
    with running() as url:
        chain = Chain(Web3(Web3.HTTPProvider(url)), url)
        measure_ecvrf(chain, samples)
        network = MeteredNetwork.deploy(chain)
        nodes = [network.join(f"node {i}", UNIT << (i % 4)) for i in range(NODES)]
        measure_tasks(network, nodes, samples)
    report = build_report(samples)
    show(report)
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2) + "\n")
    return int(any(report[key] > limit for key, limit in LIMITS.items()))


if __name__ == "__main__":
    raise SystemExit(main())
