"""A deployment, a node folder and the command line, as a person has them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nodeclient import cli
from nodeclient.chain.deployment import CONTRACTS, FORMAT

REGISTRY = "0x" + "11" * 19 + "01"


@dataclass(frozen=True)
class Outcome:
    """What one command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Sealrun = Callable[..., Outcome]


@pytest.fixture
def sealrun(capsys: pytest.CaptureFixture[str]) -> Sealrun:
    def run(*words: object) -> Outcome:
        code = cli.run([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    path = tmp_path / "deployment.json"
    contracts = {
        name: {
            "address": "0x" + "11" * 19 + f"{index:02x}",
            "tx": "0x" + "22" * 32,
            "block": 1,
            "gas_used": 1,
            "arguments": [],
            "abi": [],
        }
        for index, name in enumerate(CONTRACTS)
    }
    path.write_text(
        json.dumps(
            {
                "format": FORMAT,
                "network": "anvil",
                "chain_id": 31337,
                "deploy_block": 1,
                "parameters": {},
                "contracts": contracts,
            }
        )
    )
    return path


@pytest.fixture
def node(tmp_path: Path, deployment: Path, sealrun: Sealrun) -> Path:
    folder = tmp_path / "node"
    made = sealrun(
        *("node", "init", folder, "--deployment", deployment, "--endpoint", "127.0.0.1:7001")
    )
    assert made.code == 0, made.err
    return folder
