"""`deployments/<network>.json`: where the contracts stand and what they were made with.

The file is all that a Node needs to know about a chain besides an RPC URL: chain id, addresses,
ABIs, parameters, the block to read events from and the transaction of every step. It names no
endpoint, so one file serves every operator of that network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_utils.address import to_checksum_address

from nodeclient.chain import abi
from nodeclient.chain.errors import AbiMismatch, ChainUnavailable, DeploymentInvalid
from nodeclient.chain.rpc import Rpc, blob
from nodeclient.core.types import Address
from nodeclient.files import replace_file

FORMAT = 3
MAX_FILE = 4 * 1024 * 1024
CONTRACTS = (
    "P256Verifier",
    "NodeRegistry",
    "ReputationLedger",
    "ImageRegistry",
    "AttestationLedger",
    "AdmissionLedger",
    "TaskMarket",
)


@dataclass(frozen=True, slots=True)
class Deployed:
    """One contract of a deployment. `block` and `gas_used` are those of its creation."""

    name: str
    address: Address
    tx_hash: bytes
    block: int
    gas_used: int
    arguments: tuple[Any, ...]
    json_abi: tuple[Mapping[str, Any], ...]
    interface: abi.Interface


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything in `deployments/<network>.json`. `deploy_block` is the first block with events."""

    network: str
    chain_id: int
    deploy_block: int
    contracts: Mapping[str, Deployed]
    parameters: Mapping[str, Any]

    def __getitem__(self, name: str) -> Deployed:
        """The contract of that name. Raises `DeploymentInvalid`."""
        try:
            return self.contracts[name]
        except KeyError:
            raise DeploymentInvalid(
                f"the deployment has no contract {name}", "deploy again with this version"
            ) from None


def load(path: Path) -> Deployment:
    """Read and validate a deployment file.

    Raises `DeploymentInvalid` when it is missing, larger than 4 MiB, malformed, of another format
    or incomplete.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise DeploymentInvalid(
            f"cannot read {path}: {error.strerror}", "run `ape run deploy` first"
        ) from error
    if len(raw) > MAX_FILE:
        raise DeploymentInvalid(f"{path} is larger than {MAX_FILE} bytes", "deploy again")
    try:
        return parse(json.loads(raw))
    except (ValueError, RecursionError) as error:
        raise DeploymentInvalid(f"{path} is not JSON", "deploy again") from error


def parse(data: Any) -> Deployment:
    """Validate the JSON object of a deployment file. Raises `DeploymentInvalid`."""
    try:
        if data["format"] != FORMAT:
            raise DeploymentInvalid(
                f"deployment format {data['format']!r}, this version reads {FORMAT}", "deploy again"
            )
        contracts = {name: _contract(name, data["contracts"][name]) for name in CONTRACTS}
        made = Deployment(
            network=str(data["network"]),
            chain_id=_natural(data["chain_id"]),
            deploy_block=_natural(data["deploy_block"]),
            contracts=contracts,
            parameters=dict(data["parameters"]),
        )
    except (KeyError, TypeError, ValueError, ChainUnavailable, AbiMismatch) as error:
        raise DeploymentInvalid(
            f"the deployment file is malformed or incomplete ({error})", "deploy again"
        ) from error
    if len({contract.address for contract in contracts.values()}) != len(contracts):
        raise DeploymentInvalid("two contracts share one address", "deploy again")
    return made


def save(deployment: Deployment, path: Path) -> None:
    """Write the file atomically: readers see the old or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(to_json(deployment), indent=1, sort_keys=True) + "\n"
    replace_file(path, text.encode(), mode=0o644)


def to_json(deployment: Deployment) -> dict[str, Any]:
    """The JSON object of a deployment: hex strings, checksummed addresses."""
    return {
        "format": FORMAT,
        "network": deployment.network,
        "chain_id": deployment.chain_id,
        "deploy_block": deployment.deploy_block,
        "parameters": dict(deployment.parameters),
        "contracts": {
            name: {
                "address": to_checksum_address(contract.address),
                "tx": "0x" + contract.tx_hash.hex(),
                "block": contract.block,
                "gas_used": contract.gas_used,
                "arguments": _plain(contract.arguments),
                "abi": list(contract.json_abi),
            }
            for name, contract in deployment.contracts.items()
        },
    }


async def check_chain(deployment: Deployment, rpc: Rpc) -> None:
    """Compare the RPC's chain with the deployment.

    Raises `DeploymentInvalid` when the chain id differs or a contract has no code there, and
    `ChainUnavailable`.
    """
    found = await rpc.chain_id()
    if found != deployment.chain_id:
        raise DeploymentInvalid(
            f"the RPC serves chain {found}, the deployment is of chain {deployment.chain_id}",
            "use the RPC URL of that network",
        )
    for contract in deployment.contracts.values():
        where = to_checksum_address(contract.address)
        if not blob(await rpc.request("eth_getCode", [where, "latest"])):
            raise DeploymentInvalid(
                f"there is no {contract.name} at {where} on chain {found}", "deploy again"
            )


def _contract(name: str, data: Mapping[str, Any]) -> Deployed:
    return Deployed(
        name=name,
        address=Address(blob(data["address"], 20)),
        tx_hash=blob(data["tx"], 32),
        block=_natural(data["block"]),
        gas_used=_natural(data["gas_used"]),
        arguments=tuple(data["arguments"]),
        json_abi=tuple(data["abi"]),
        interface=abi.parse(data["abi"]),
    )


def _natural(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no natural number")
    return value


def _plain(value: Any) -> Any:
    """Constructor arguments as JSON: bytes become hex, addresses checksummed."""
    if isinstance(value, bytes):
        return to_checksum_address(value) if len(value) == 20 else "0x" + value.hex()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
