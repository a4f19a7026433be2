"""Rebuild what happened to one task from the chain's RPC and the receivers' folders alone.

It shares no code with the node: whoever distrusts the node's account of a task reads this file
instead. Every fact comes from an event, and where the contracts also answer a view, both must
agree; a contradiction ends with exit code 1 and no summary.

Usage: python scripts/verify_demo.py --rpc URL --deployment FILE --task ID
           --result RECEIVER=FOLDER [--result …] [--out var/demo/summary.json]
"""

import argparse
import hashlib
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from web3 import HTTPProvider, Web3

STATES = ("", "POSTED", "DRAWN", "ACCEPTED", "ADMITTED", "SETTLED", "FAILED", "EXPIRED")
PHASES = {1: "BEFORE", 2: "DURING", 3: "AFTER"}
# Event of a record → its phase (a refusal names its own) and verdict.
RECORDED = {"TaskAdmitted": (1, 2), "TaskSettled": (3, 2), "TaskRefused": (0, 96)}
VERDICTS = {2: "AFFIRMING", 96: "CONTRAINDICATED"}
# What a step is called, and its event; the event's block is when the step was done.
STEPS = {
    "post": "TaskPosted",
    "claim": "TaskClaimed",
    "draw": "CommitteeDrawn",
    "accept": "TaskAccepted",  # missing where the draw accepted
    "admit": "TaskAdmitted",
    "finish": "TaskSettled",
    "fail": "TaskFailed",
    "expire": "TaskExpired",
}


class Contradiction(Exception):
    """Two sources do not agree, or something that must be there is not."""


class Chain:
    """The deployment's contracts behind one RPC endpoint; reads only."""

    def __init__(self, url: str, deployment: dict[str, Any]) -> None:
        self.web3 = Web3(HTTPProvider(url))
        self.first = int(deployment["deploy_block"])
        self.contracts = {
            name: self.web3.eth.contract(address=entry["address"], abi=entry["abi"])
            for name, entry in deployment["contracts"].items()
        }
        if self.web3.eth.chain_id != deployment["chain_id"]:
            raise Contradiction("the RPC serves another chain than the deployment names")

    def events(self, contract: str, name: str, task: int) -> list[Any]:
        """All events of that name about the task, in order."""
        event = self.contracts[contract].events[name]()
        return list(event.get_logs(from_block=self.first, argument_filters={"task": task}))

    def view(self, contract: str, function: str, *arguments: Any) -> Any:
        """The answer of a view."""
        return self.contracts[contract].functions[function](*arguments).call()

    def time_of(self, block: int) -> int:
        """Seconds since 1970 of a block."""
        return int(self.web3.eth.get_block(block)["timestamp"])


def life_of(chain: Chain, task: int) -> dict[str, Any]:
    """Step → its last event. Raises `Contradiction` if the task was never posted."""
    found = {step: chain.events("TaskMarket", event, task) for step, event in STEPS.items()}
    if len(found["post"]) != 1:
        raise Contradiction(f"task {task} was posted {len(found['post'])} times")
    return {step: events[-1] for step, events in found.items() if events}


def state_of(chain: Chain, task: int, life: dict[str, Any]) -> str:
    """The task's state by its events, which must be the contract's own."""
    by_step = {
        "post": "POSTED",
        "claim": "POSTED",
        "draw": "DRAWN",
        "accept": "ACCEPTED",
        "admit": "ADMITTED",
        "finish": "SETTLED",
        "fail": "FAILED",
        "expire": "EXPIRED",
    }
    last = max(life, key=lambda step: (life[step]["blockNumber"], life[step]["logIndex"]))
    if last == "draw" and life["draw"]["args"]["accepted"]:
        last = "accept"
    told, kept = by_step[last], STATES[chain.view("TaskMarket", "state", task)]
    if told != kept:
        raise Contradiction(f"events say {told}, the contract says {kept}")
    return told


def drawn_in(life: dict[str, Any]) -> tuple[str, list[str]]:
    """Executor and Committee. Raises `Contradiction` if a seat is doubled or the Executor's."""
    if "draw" not in life:
        return "", []
    arguments = life["draw"]["args"]
    executor, members = arguments["executor"], list(arguments["members"])
    if len(set(members)) != len(members) or executor in members:
        raise Contradiction("the Committee has a seat twice, or seats the Executor")
    if len(members) != life["post"]["args"]["committee_size"]:
        raise Contradiction("the Committee is not as large as the task asks")
    return executor, members


def records_of(chain: Chain, task: int) -> dict[str, Any]:
    """Phase → verdict, evidence root, transaction: the event, confirmed by the contract's view."""
    records = {}
    for name, (phase, expected) in RECORDED.items():
        for event in chain.events("TaskMarket", name, task):
            told = event["args"]
            phase = told.get("phase", phase)
            verdict, root, votes = chain.view("AttestationLedger", "record", task, phase)
            if (verdict, bytes(root)) != (expected, bytes(told.get("evidence_root", bytes(32)))):
                raise Contradiction(f"the record of phase {phase} differs from its event")
            if votes != int(told["voters"]).bit_count():
                raise Contradiction(f"the votes of phase {phase} differ from its event")
            records[PHASES[phase]] = {
                "verdict": VERDICTS.get(verdict, str(verdict)),
                "evidence_root": f"0x{bytes(root).hex()}",
                "votes": votes,
                "transaction": f"0x{bytes(event['transactionHash']).hex()}",
            }
    return records


def reputation_of(chain: Chain, task: int) -> dict[str, dict[str, int]]:
    """Node → reputation in basis points before and after the task, over all its changes."""
    changes: dict[str, dict[str, int]] = {}
    for event in chain.events("ReputationLedger", "ReputationChanged", task):
        told = event["args"]
        entry = changes.setdefault(told["node"], {"before": told["before"]})
        entry["after"] = told["after"]
    return changes


def gas_of(chain: Chain, task: int, life: dict[str, Any]) -> dict[str, int]:
    """Step → gas of all transactions about the task, reverted ones and lost claims included."""
    market = chain.contracts["TaskMarket"]
    first = life["post"]["blockNumber"]
    last = max(event["blockNumber"] for event in life.values())
    posted = bytes(life["post"]["transactionHash"])
    gas: dict[str, int] = defaultdict(int)
    for number in range(first, last + 1):
        for sent in chain.web3.eth.get_block(number, full_transactions=True)["transactions"]:
            if sent.get("to") != market.address:
                continue
            function, arguments = market.decode_function_input(sent["input"])
            about = arguments.get("task", {})
            is_post = bytes(sent["hash"]) == posted
            if is_post or (isinstance(about, dict) and about.get("id") == task):
                receipt = chain.web3.eth.get_transaction_receipt(sent["hash"])
                gas[function.fn_name] += int(receipt["gasUsed"])
    return {**gas, "total": sum(gas.values())}


def seconds_of(chain: Chain, life: dict[str, Any]) -> dict[str, int]:
    """Step → seconds of block time since the step before it, and the whole from the posting on."""
    ordered = sorted(life, key=lambda step: (life[step]["blockNumber"], life[step]["logIndex"]))
    times = [chain.time_of(life[step]["blockNumber"]) for step in ordered]
    seconds = {
        step: after - before
        for step, before, after in zip(ordered[1:], times, times[1:], strict=False)
    }
    return {**seconds, "total": times[-1] - times[0]}


def result_in(folder: Path) -> dict[str, Any]:
    """File, lines and SHA-256 of what a receiver holds; further files under ``others``."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if not files:
        raise Contradiction(f"{folder} holds no result")
    described = [
        {
            "file": str(file),
            "lines": len(file.read_bytes().splitlines()),
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in files
    ]
    return described[0] if len(described) == 1 else {**described[0], "others": described[1:]}


def summarise(
    url: str, deployment: dict[str, Any], task: int, results: dict[str, Path]
) -> dict[str, Any]:
    """The summary of one task. Raises `Contradiction`."""
    chain = Chain(url, deployment)
    life = life_of(chain, task)
    executor, committee = drawn_in(life)
    return {
        "task": task,
        "state": state_of(chain, task, life),
        "executor": executor,
        "committee": committee,
        "records": records_of(chain, task),
        "results": {receiver: result_in(folder) for receiver, folder in results.items()},
        "reputation": reputation_of(chain, task),
        "gas": gas_of(chain, task, life),
        "seconds": seconds_of(chain, life),
        "chain": {
            "rpc": url,
            "chain_id": chain.web3.eth.chain_id,
            "contracts": {name: entry.address for name, entry in chain.contracts.items()},
        },
    }


def main() -> int:
    """Write the summary; 1 if the sources contradict each other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rpc", required=True, help="RPC URL of the chain")
    parser.add_argument("--deployment", type=Path, required=True, help="deployments/….json")
    parser.add_argument("--task", type=int, required=True, help="number of the task")
    parser.add_argument("--result", action="append", default=[], metavar="RECEIVER=FOLDER")
    parser.add_argument("--out", type=Path, default=Path("var/demo/summary.json"))
    chosen = parser.parse_args()
    results = dict(entry.split("=", 1) for entry in chosen.result)
    try:
        summary = summarise(
            chosen.rpc,
            json.loads(chosen.deployment.read_text()),
            chosen.task,
            {receiver: Path(folder) for receiver, folder in results.items()},
        )
    except Contradiction as error:
        print(f"verify_demo: {error}; keep the chain's state and compare by hand", file=sys.stderr)
        return 1
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(summary, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
