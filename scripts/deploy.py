"""Deploy all contracts and write `deployments/<network>.json`.

Beside it, in `deployments/<network>.sources/`, goes the Standard JSON input of each contract, by
which an explorer verifies its source.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from ape.api import AccountAPI, ProviderAPI
from ape.cli import ConnectedProviderCommand, account_option
from eth_utils.address import to_checksum_address

from nodeclient.chain import abi
from nodeclient.chain import deployment as deployments
from nodeclient.chain.calls import Call
from nodeclient.chain.compile import compile_contracts
from nodeclient.chain.deploy import creation_code
from nodeclient.chain.deployment import Deployed, Deployment
from nodeclient.chain.presets import CREATIONS, PRESETS, Preset, planned
from nodeclient.chain.standard_json import write_inputs
from nodeclient.core.types import Address
from nodeclient.errors import BadInput
from scripts._common import (
    json_option,
    network_name,
    quiet_option,
    reporting,
    send,
    show,
    unattended,
)

ANVIL = 31337


@click.command(cls=ConnectedProviderCommand)
@account_option()
@click.option("--preset", type=click.Choice(sorted(PRESETS)), help="Default: by chain id.")
@click.option("--allow-software", is_flag=True, help="Admit software roots (test networks).")
@click.option("--out", type=click.Path(path_type=Path), help="Default: deployments/<network>.json.")
@json_option
@quiet_option
@reporting
def cli(
    account: AccountAPI,
    provider: ProviderAPI,
    preset: str | None,
    allow_software: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Deploy the contracts; the account becomes their owner (images only: no money)."""
    chain_id = provider.chain_id
    name = network_name(chain_id)
    chosen = PRESETS[preset or ("anvil" if chain_id == ANVIL else "mainnet")]
    if allow_software:
        chosen = replace(chosen, allow_software=True)
    if chain_id == 1 and (chosen.allow_software or chosen.entropy_delay < 64):
        raise BadInput("these parameters are not for mainnet", "leave --preset and the flags out")
    made = _deploy(unattended(account), chosen, name, chain_id)
    path = out or Path("deployments", f"{name}.json")
    deployments.save(made, path)
    sources = path.with_name(f"{path.stem}.sources")
    write_inputs(sources)
    addresses = {one.name: to_checksum_address(one.address) for one in made.contracts.values()}
    fields = {
        "file": str(path),
        "sources": str(sources),
        "chain_id": chain_id,
        "deploy_block": made.deploy_block,
    }
    show(f"Deployed to {name}", {**fields, **addresses}, as_json=as_json)


def _deploy(account: AccountAPI, preset: Preset, network: str, chain_id: int) -> Deployment:
    """Create the contracts in the order of `presets`, one transaction each."""
    compiled = compile_contracts()
    addresses = planned(bytes.fromhex(str(account.address)[2:]), account.nonce)
    contracts: dict[str, Deployed] = {}
    for name, arguments in CREATIONS:
        args = arguments(preset, addresses)
        receipt = send(account, Call(name, b"", creation_code(compiled[name], args), 0))
        made = Address(bytes.fromhex(str(receipt.contract_address)[2:]))
        if made != addresses[name]:
            raise BadInput(
                f"{name} is not where the others expect it: the account sent something else",
                "deploy again with an account that does nothing besides",
            )
        contracts[name] = Deployed(
            name=name,
            address=addresses[name],
            tx_hash=_hash_of(receipt),
            block=int(receipt.block_number),
            gas_used=int(receipt.gas_used),
            arguments=args,
            json_abi=compiled[name].json_abi,
            interface=abi.parse(compiled[name].json_abi),
        )
    return Deployment(
        network=network,
        chain_id=chain_id,
        deploy_block=min(one.block for one in contracts.values()),
        contracts=contracts,
        parameters=preset.to_json(),
    )


def _hash_of(receipt: Any) -> bytes:
    return bytes.fromhex(str(receipt.txn_hash).removeprefix("0x"))
