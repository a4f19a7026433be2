"""Deploy all contracts with one key over plain RPC: what the demo and the tests use.

All transactions are signed in one go, so that a chain with a block time takes one or two blocks and
not six.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eth_account import Account as Keys
from eth_utils.address import to_checksum_address

from nodeclient.chain import abi
from nodeclient.chain.account import Account
from nodeclient.chain.attempts import Attempts
from nodeclient.chain.calls import Call
from nodeclient.chain.compile import Artifact, compile_contracts
from nodeclient.chain.deployment import Deployed, Deployment
from nodeclient.chain.errors import DeploymentFailed, Reverted
from nodeclient.chain.fees import FeeSettings, quote
from nodeclient.chain.presets import CREATIONS, Preset, planned
from nodeclient.chain.rpc import Rpc, blob, quantity
from nodeclient.core.types import Address

RECEIPT_SECONDS = 300.0
"""How long one transaction of a deployment may take: 25 blocks of mainnet."""


@dataclass(frozen=True, slots=True)
class _Step:
    label: str
    raw: bytes


class _Deployer:
    """Signs and sends with consecutive nonces."""

    def __init__(self, rpc: Rpc, private_key: bytes, chain_id: int, nonce: int) -> None:
        self._keys = Keys.from_key(private_key)
        self.account = Account(rpc, str(self._keys.address))
        self._chain_id = chain_id
        self.nonce = nonce

    async def send(self, call: Call) -> _Step:
        try:
            gas = await self.account.gas_limit(call)
        except Reverted as error:
            raise DeploymentFailed(
                f"{call.label} would revert: {error.reason}", "check the parameters"
            ) from error
        fees = quote(await self.account.base_fee(), FeeSettings())
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": self._chain_id,
            "nonce": self.nonce,
            "maxFeePerGas": fees.max_fee,
            "maxPriorityFeePerGas": fees.tip,
            "gas": gas,
            "value": call.value,
            "data": call.data,
        }
        if call.to:
            fields["to"] = to_checksum_address(call.to)
        raw = bytes(self._keys.sign_transaction(fields).raw_transaction)
        if not await self.account.broadcast(raw):
            raise DeploymentFailed(f"{call.label}: the nonce is used up", "deploy with a quiet key")
        self.nonce += 1
        return _Step(call.label, raw)


async def deploy(
    rpc: Rpc,
    private_key: bytes,
    preset: Preset,
    network: str,
    artifacts: Mapping[str, Artifact] | None = None,
) -> Deployment:
    """Deploy all contracts; the caller saves the result with `deployment.save`.

    Raises `DeploymentFailed`, `CompilationFailed`, `ChainUnavailable`.
    """
    compiled = artifacts or compile_contracts()
    chain_id = await rpc.chain_id()
    sender = str(Keys.from_key(private_key).address)
    nonce = await Account(rpc, sender).count("pending")
    deployer = _Deployer(rpc, private_key, chain_id, nonce)
    addresses = planned(bytes.fromhex(sender[2:]), nonce)
    created: list[tuple[str, tuple[Any, ...], _Step]] = []
    for name, arguments in CREATIONS:
        args = arguments(preset, addresses)
        step = await deployer.send(Call(name, b"", creation_code(compiled[name], args), 0))
        created.append((name, args, step))
    contracts = {
        name: _deployed(compiled[name], addresses[name], args, await _mined(deployer, step))
        for name, args, step in created
    }
    return Deployment(
        network=network,
        chain_id=chain_id,
        deploy_block=min(one.block for one in contracts.values()),
        contracts=contracts,
        parameters=preset.to_json(),
    )


def creation_code(artifact: Artifact, args: tuple[Any, ...]) -> bytes:
    """Creation bytecode followed by the encoded constructor arguments."""
    types = abi.parse(artifact.json_abi).constructor
    return artifact.bytecode + abi.CODEC.encode(types, args)


async def _mined(deployer: _Deployer, step: _Step) -> dict[str, Any]:
    """The receipt of a step. Raises `DeploymentFailed` when it failed or takes too long."""
    end = asyncio.get_running_loop().time() + RECEIPT_SECONDS
    while True:
        receipt = await deployer.account.receipt(Attempts(0, (step.raw,)))
        if receipt is not None:
            break
        if asyncio.get_running_loop().time() > end:
            raise DeploymentFailed(f"{step.label} is not mined", "check the fees and deploy again")
        await asyncio.sleep(0.1)
    if quantity(receipt["status"]) != 1:
        raise DeploymentFailed(f"{step.label} failed on chain", "check the parameters")
    return receipt


def _deployed(
    artifact: Artifact, address: Address, args: tuple[Any, ...], receipt: Mapping[str, Any]
) -> Deployed:
    return Deployed(
        name=artifact.name,
        address=address,
        tx_hash=_hash_of(receipt),
        block=quantity(receipt["blockNumber"]),
        gas_used=quantity(receipt["gasUsed"]),
        arguments=args,
        json_abi=artifact.json_abi,
        interface=abi.parse(artifact.json_abi),
    )


def _hash_of(receipt: Mapping[str, Any]) -> bytes:
    return blob(receipt["transactionHash"], 32)
