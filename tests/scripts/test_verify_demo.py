"""The independent script, against real tasks on anvil."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import verify_demo
from tests.contracts.anvil import chain  # noqa: F401
from tests.contracts.conftest import deployed, network  # noqa: F401
from tests.contracts.network import Network

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def deployment(network: Network) -> dict[str, Any]:  # noqa: F811
    parts = {
        "NodeRegistry": network.registry,
        "ReputationLedger": network.reputation,
        "ImageRegistry": network.images,
        "AttestationLedger": network.attestation,
        "TaskMarket": network.market,
    }
    return {
        "chain_id": network.chain.w3.eth.chain_id,
        "deploy_block": 0,
        "contracts": {name: {"address": c.address, "abi": c.abi} for name, c in parts.items()},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "b"
    path.mkdir()
    (path / "common.txt").write_text("Ada\nGrace\n")
    return path


def test_summary__settled_task__tells_all_that_happened(
    network: Network,  # noqa: F811
    deployment: dict[str, Any],
    folder: Path,
) -> None:
    network.reach("settled")  # another task: nothing of it may enter the summary
    task = network.reach("settled")
    summary = verify_demo.summarise(network.chain.url, deployment, task.id, {"b": folder})
    assert (summary["task"], summary["state"]) == (task.id, "SETTLED")
    assert summary["executor"] == task.executor
    assert summary["committee"] == list(task.members)
    assert {phase: r["verdict"] for phase, r in summary["records"].items()} == {
        "BEFORE": "AFFIRMING",
        "AFTER": "AFFIRMING",
    }
    assert set(summary["reputation"]) == {task.executor, *task.members}
    for change in summary["reputation"].values():
        assert change["after"] > change["before"]
    assert summary["results"]["b"]["lines"] == 2
    assert summary["results"]["b"]["sha256"] == hashlib.sha256(b"Ada\nGrace\n").hexdigest()
    assert set(summary["gas"]) == {*["post", "claim", "draw", "accept", "admit", "finish"], "total"}
    assert set(summary["seconds"]) == {*["claim", "draw", "accept", "admit", "finish"], "total"}
    assert summary["chain"]["contracts"]["TaskMarket"] == network.market.address


def test_gas__every_transaction_about_the_task__is_counted(
    network: Network,  # noqa: F811
    deployment: dict[str, Any],
) -> None:
    task = network.reach("accepted")
    before = verify_demo.summarise(network.chain.url, deployment, task.id, {})["gas"]
    late = network.market.functions.accept(task.as_tuple())
    assert network.reason(task.executor, late)  # reverts, and somebody has paid for it
    task = network.admit(task)
    after = verify_demo.summarise(network.chain.url, deployment, task.id, {})["gas"]
    assert after["accept"] > before["accept"]
    assert after["total"] == sum(gas for step, gas in after.items() if step != "total")


def test_summary__executor_accepted_in_its_draw__is_accepted(
    network: Network,  # noqa: F811
    deployment: dict[str, Any],
) -> None:
    task = network.draw_accepting(network.reach("claimed"))
    summary = verify_demo.summarise(network.chain.url, deployment, task.id, {})
    assert summary["state"] == "ACCEPTED"
    assert set(summary["gas"]) == {"post", "claim", "draw", "total"}


def test_summary__task_nobody_claimed__is_expired(
    network: Network,  # noqa: F811
    deployment: dict[str, Any],
) -> None:
    task = network.post()
    network.chain.mine(100)
    network.send(network.outsider, network.expire_call(task))
    summary = verify_demo.summarise(network.chain.url, deployment, task.id, {})
    assert (summary["state"], summary["committee"], summary["records"]) == ("EXPIRED", [], {})


def test_summary__record_differs_from_its_event__contradiction(
    network: Network,  # noqa: F811
    deployment: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = network.reach("settled")
    honest = verify_demo.Chain.view

    def lying(self: verify_demo.Chain, contract: str, function: str, *arguments: Any) -> Any:
        answer = honest(self, contract, function, *arguments)
        return (answer[0], bytes(32), answer[2]) if function == "record" else answer

    monkeypatch.setattr(verify_demo.Chain, "view", lying)
    with pytest.raises(verify_demo.Contradiction, match="differs from its event"):
        verify_demo.summarise(network.chain.url, deployment, task.id, {})


def test_summary__state_differs_from_the_events__contradiction(
    network: Network,  # noqa: F811
    deployment: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = network.reach("drawn")
    monkeypatch.setattr(verify_demo.Chain, "view", lambda *_: 5)
    with pytest.raises(verify_demo.Contradiction, match="events say DRAWN"):
        verify_demo.summarise(network.chain.url, deployment, task.id, {})


@pytest.mark.parametrize("fault", ["other chain", "no such task", "no result"])
def test_summary__fault__exit_code_1_and_no_file(
    fault: str,
    network: Network,  # noqa: F811
    deployment: dict[str, Any],
    tmp_path: Path,
) -> None:
    task = network.reach("settled")
    if fault == "other chain":
        deployment["chain_id"] = 1
    (tmp_path / "deployment.json").write_text(json.dumps(deployment))
    (tmp_path / "empty").mkdir()
    command = [
        *(sys.executable, str(ROOT / "scripts/verify_demo.py")),
        *("--rpc", network.chain.url, "--deployment", str(tmp_path / "deployment.json")),
        *("--task", "999" if fault == "no such task" else str(task.id)),
        *("--out", str(tmp_path / "summary.json")),
        *(("--result", f"b={tmp_path / 'empty'}") if fault == "no result" else ()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert not (tmp_path / "summary.json").exists()
