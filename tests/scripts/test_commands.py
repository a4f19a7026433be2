"""Every `ape run` command as an operating-system process against a real anvil, unattended."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cbor2
import pytest
from eth_account import Account

from agent.formats.taskspec import (
    FunctionRef,
    Limits,
    Receiver,
    TaskSpec,
    commit,
    commitment_of,
)
from nodeclient.chain import abi
from nodeclient.chain import deployment as deployments
from nodeclient.core.case import Role
from nodeclient.identity.folder import create_folder
from scripts.anvil_process import find_anvil
from tests.chain.anvil_node import AnvilNode

pytestmark = pytest.mark.chain

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "sha256:" + "ab" * 32
ETHER = 10**18


@dataclass
class Desk:
    """A place to run commands from: one chain, one deployment, one folder."""

    node: AnvilNode
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def deployment(self) -> Path:
        return self.folder / "deployment.json"

    def ape(
        self, command: str, *arguments: str, account: str | None = "TEST::0", network: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run `ape run COMMAND …` without a terminal."""
        options = [*arguments, "--network", network or self.node.url]
        if account:
            options += ["--account", account]
        return subprocess.run(
            [str(Path(sys.executable).with_name("ape")), "run", command, *options],
            cwd=ROOT,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )

    def result(self, command: str, *arguments: str, **how: Any) -> dict[str, Any]:
        """The JSON object of a command that must succeed."""
        done = self.ape(command, *arguments, "--deployment", str(self.deployment), "--json", **how)
        assert done.returncode == 0, done.stderr
        (line,) = done.stdout.splitlines()
        found: dict[str, Any] = json.loads(line)
        return found

    def refusal(self, command: str, *arguments: str, **how: Any) -> tuple[int, str]:
        """(exit code, message) of a command that must fail: one line, no traceback."""
        done = self.ape(command, *arguments, "--deployment", str(self.deployment), **how)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr + done.stdout
        errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert len(errors) == 1, done.stderr
        return done.returncode, errors[0].removeprefix("Error: ")

    def new_node(self, name: str) -> Path:
        """A node folder as `sealrun node init` makes it."""
        folder = self.folder / name
        create_folder(
            folder,
            rpc=self.node.url,
            deployment_file=self.deployment,
            endpoint="127.0.0.1:7001",
            roles=frozenset(Role),
        )
        return folder


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    environment = {
        "APE_DATA_FOLDER": str(folder / "ape"),
        "PATH": os.pathsep.join(
            (
                str(Path(sys.executable).parent),
                str(Path(find_anvil()).parent),
                os.environ["PATH"],
            )
        ),
    }
    node = AnvilNode(folder)
    node.start()
    try:
        made = Desk(node, folder, environment)
        done = made.ape("deploy", "--out", str(made.deployment), "--json")
        assert done.returncode == 0, done.stderr
        yield made
    finally:
        node.stop()


def test_deploy__anvil__file_says_everything(desk: Desk) -> None:
    found = deployments.load(desk.deployment)
    assert (found.network, found.chain_id) == ("anvil", 31337)
    assert found.parameters["entropy_delay"] == 2
    for contract in found.contracts.values():
        receipt = desk.node.rpc("eth_getTransactionReceipt", "0x" + contract.tx_hash.hex())
        assert bytes.fromhex(receipt["contractAddress"][2:]) == contract.address
        assert int(receipt["blockNumber"], 16) == contract.block


@pytest.mark.parametrize("name", deployments.CONTRACTS)
def test_deploy__standard_json__alone_makes_the_deployed_code(
    desk: Desk, name: str, tmp_path: Path
) -> None:
    """What an explorer does: compile the file, nothing else at hand, and compare with the chain."""
    given = desk.folder / "deployment.sources" / f"{name}.json"
    shutil.copy(given, tmp_path / "input.json")
    compiler = Path(sys.executable).with_name("vyper-json")
    done = subprocess.run(
        [str(compiler), "input.json"], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    output = json.loads(done.stdout)
    assert "errors" not in output, output
    made = output["contracts"][f"contracts/{name}.vy"][name]
    assert made["userdoc"]["methods"]
    assert made["devdoc"]["methods"]

    contract = json.loads(desk.deployment.read_text())["contracts"][name]
    creation = made["evm"]["bytecode"]["object"].removeprefix("0x")
    types = abi.parse(made["abi"]).constructor
    arguments = [unhex(value) for value in contract["arguments"]]
    sent = desk.node.rpc("eth_getTransactionByHash", contract["tx"])["input"]
    assert sent == "0x" + creation + abi.CODEC.encode(types, arguments).hex()

    runtime = made["evm"]["deployedBytecode"]["object"].removeprefix("0x")
    code = desk.node.rpc("eth_getCode", contract["address"], "latest").removeprefix("0x")
    assert code.startswith(runtime)
    # What follows are the immutables, as long as the compiler's own footer says.
    footer = bytes.fromhex(creation)
    size = int.from_bytes(footer[-2:], "big")
    integrity, length, _, immutables, _ = cbor2.loads(footer[-size:-2])
    assert (length, immutables) == (len(runtime) // 2, (len(code) - len(runtime)) // 2)
    assert integrity.hex() == json.loads(given.read_text())["integrity"]


def test_deploy__standard_json__names_no_path_of_this_machine(desk: Desk) -> None:
    files = sorted((desk.folder / "deployment.sources").iterdir())
    assert [file.stem for file in files] == sorted(deployments.CONTRACTS)
    for file in files:
        text = file.read_text()
        assert str(ROOT) not in text
        assert "site-packages" not in text
        for path in json.loads(text)["sources"]:
            assert path.split("/")[0] in ("contracts", "snekmate")


def unhex(value: Any) -> Any:
    """Constructor arguments of a deployment file as the codec takes them."""
    if isinstance(value, str) and value.startswith("0x"):
        return bytes.fromhex(value[2:])
    return [unhex(part) for part in value] if isinstance(value, list) else value


def test_deploy__local_network_of_ape__starts_its_own_anvil(desk: Desk, tmp_path: Path) -> None:
    out = tmp_path / "local.json"
    done = desk.ape("deploy", "--out", str(out), "--json", network="ethereum:local:foundry")
    assert done.returncode == 0, done.stderr
    assert deployments.load(out).chain_id == 31337


def test_approve_image__by_the_owner__approved_then_revoked(desk: Desk) -> None:
    approved = desk.result("approve_image", IMAGE, "--kind", "runtime")
    assert approved["approved_now"] is True
    assert approved["kind"] == "RUNTIME"
    revoked = desk.result("approve_image", IMAGE, "--revoke")
    assert revoked["approved_now"] is False


def test_approve_image__by_an_outsider__refused_with_the_contracts_reason(desk: Desk) -> None:
    code, message = desk.refusal("approve_image", IMAGE, account="TEST::5")
    assert code == 1
    assert "images: only the owner" in message
    assert "nothing was sent" in message


def test_approve_image__malformed_hash__exit_code_2(desk: Desk) -> None:
    code, message = desk.refusal("approve_image", "0x1234")
    assert code == 2
    assert "32 bytes" in message


def test_node__registered_topped_up_left_and_withdrawn(desk: Desk) -> None:
    folder = desk.new_node("node-1")
    made = desk.result("register_node", "--node", str(folder), "--deposit", "1", account="TEST::1")
    assert (made["status"], made["deposit"]) == ("ACTIVE", str(ETHER))
    account = json.loads((folder / "registration.json").read_text())["account"]
    assert made["account"] == account

    raised = desk.result("top_up", "--node", str(folder), "--amount", "1", account="TEST::1")
    assert raised["deposit"] == str(2 * ETHER)

    rows = desk.result("show_reputation", account=None)["nodes"]
    assert [row["account"] for row in rows] == [account]
    assert 0 < rows[0]["reputation"] < 10_000

    left = desk.result("exit_node", "--node", str(folder), account="TEST::1")
    assert left["status"] == "EXITING"
    code, message = desk.refusal("withdraw", "--node", str(folder), account="TEST::1")
    assert (code, "still unbonding" in message) == (1, True)

    desk.node.mine(left["deposit_free_at_block"] - desk.node.height())
    paid = desk.result("withdraw", "--node", str(folder), account="TEST::1")
    assert paid["deposit"] == str(2 * ETHER)
    code, message = desk.refusal("withdraw", "--node", str(folder), account="TEST::1")
    assert (code, "nothing can be withdrawn" in message) == (2, True)


def test_register_node__file_tampered_with__refused_before_any_money_moves(desk: Desk) -> None:
    folder = desk.new_node("tampered")
    path = folder / "registration.json"
    data = json.loads(path.read_text())
    data["registration"]["hardware_id"] = "0x" + "00" * 32
    path.write_text(json.dumps(data))
    before = desk.node.height()
    code, message = desk.refusal(
        "register_node", "--node", str(folder), "--deposit", "1", account="TEST::1"
    )
    assert code == 2
    assert "not signed by its root key" in message
    assert desk.node.height() == before


def test_show_reputation__table__full_addresses(desk: Desk) -> None:
    folder = desk.new_node("shown")
    made = desk.result(
        "register_node", "--node", str(folder), "--deposit", "0", "--no-join", account="TEST::1"
    )
    assert made["status"] == "PAUSED"
    done = desk.ape("show_reputation", "--deployment", str(desk.deployment), account=None)
    assert done.returncode == 0, done.stderr
    assert made["account"] in done.stdout
    assert "PAUSED" in done.stdout


def test_submit_task__by_a_keyfile_account__unattended(desk: Desk) -> None:
    owner, passphrase = Account.create(), secrets.token_hex(8)
    folder = desk.folder / "ape" / "accounts"
    folder.mkdir(parents=True, exist_ok=True)
    keyfile = Account.encrypt(owner.key, passphrase, kdf="pbkdf2", iterations=1000)
    (folder / "requester.json").write_text(json.dumps(keyfile))
    desk.node.rpc("anvil_setBalance", owner.address, hex(ETHER))
    desk.environment["APE_ACCOUNTS_requester_PASSPHRASE"] = passphrase
    spec_hash = secrets.token_bytes(32)
    what = ("--spec-hash", "0x" + spec_hash.hex(), "--number", "5")
    posted = desk.result("submit_task", *what, account="requester")
    assert bytes.fromhex(posted["commitment"][2:]) == commit(
        spec_hash, bytes.fromhex(owner.address[2:]), 5
    )
    assert posted["paid_wei"] == str(ETHER // 100 + 3 * ETHER // 1000 + 10**12)
    sent = desk.node.rpc("eth_getTransactionByHash", posted["tx"])
    assert int(sent["from"], 16) == int(owner.address, 16)

    code, message = desk.refusal("submit_task", *what, account="requester")
    assert code == 1
    assert "market: number already used" in message
    # Without a number, or under one that no TaskSpec can name: nobody could ever open that task.
    for wrong in ((), ("--number", str(2**63))):
        code, message = desk.refusal("submit_task", *what[:2], *wrong, account="requester")
        assert (code, "--number" in message) == (2, True)


def spec_of(requester: str) -> TaskSpec:
    cid = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
    return TaskSpec(
        salt=secrets.token_bytes(32),
        requester=bytes.fromhex(requester[2:]),
        number=0,
        function=FunctionRef(cid, bytes(20), bytes(32)),
        command=("run",),
        runtime_image=bytes(32),
        inputs=(),
        receivers=(Receiver("b", bytes(20), b"\x09" + bytes(31)),),
        connections=(),
        devices=(),
        limits=Limits(60, 64 << 20, 64 << 20, 32, 1000),
    )


def test_submit_task__spec_file__only_its_commitment_on_chain(desk: Desk) -> None:
    # The third account of anvil's public mnemonic.
    spec = spec_of("0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC")
    path = desk.folder / "spec"
    path.write_bytes(spec.encode())
    posted = desk.result("submit_task", "--spec", str(path), account="TEST::2")
    sent = desk.node.rpc("eth_getTransactionByHash", posted["tx"])
    assert posted["commitment"][2:] == commitment_of(spec.encode()).hex()
    assert spec.salt.hex() not in sent["input"]
    code, message = desk.refusal("submit_task", "--spec", str(path), account="TEST::3")
    assert (code, "another requester" in message) == (2, True)


def test_submit_task__no_deployment_file__one_line_with_the_next_step(desk: Desk) -> None:
    done = desk.ape(
        "submit_task", "--spec-hash", "00" * 32, "--number", "0", "--deployment", "/nowhere.json"
    )
    assert done.returncode == 2
    assert "ape run deploy" in done.stderr
    assert "Traceback" not in done.stderr
