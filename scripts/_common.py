"""What the commands share: options, who signs, sending an order, results and errors.

Unattended: `--account TEST::0` on anvil, or a keyfile account whose passphrase stands in
`APE_ACCOUNTS_<alias>_PASSPHRASE`. Every failure is one line that ends with the next step; exit code
2 for bad input, 1 for everything else.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
from collections.abc import Awaitable, Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar

import click
from ape.api import AccountAPI, ProviderAPI
from ape.cli import verbosity_option
from ape.exceptions import ApeException
from eth_utils.address import to_checksum_address
from web3.exceptions import Web3Exception

from nodeclient.chain import deployment as deployments
from nodeclient.chain.account import Account
from nodeclient.chain.calls import Call, build_call
from nodeclient.chain.deployment import Deployment
from nodeclient.chain.rpc import Rpc
from nodeclient.core.types import Address
from nodeclient.errors import BadInput, SealrunError
from nodeclient.ports import Order, Receipt

T = TypeVar("T")
NETWORKS = {1: "mainnet", 11155111: "sepolia", 17000: "holesky", 560048: "hoodi", 31337: "anvil"}
_UNITS = {"wei": Decimal(1), "gwei": Decimal(10**9), "ether": Decimal(10**18)}


class Failure(click.ClickException):
    """One line on standard error, and the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(" ".join(message.split()))
        self.exit_code = code


def reporting(command: Callable[..., T]) -> Callable[..., T]:
    """Turn every expected error into a `Failure`: never a traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> T:
        try:
            return command(*args, **kwargs)
        except BadInput as error:
            raise Failure(str(error), 2) from error
        except SealrunError as error:
            raise Failure(str(error), 1) from error
        except (ApeException, Web3Exception, OSError) as error:
            raise Failure(f"{error}; check account, balance and network", 1) from error

    return run


class Amount(click.ParamType):
    """An amount with its unit, `0.5` (ether), `20gwei` or `1000wei`, as wei."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip().lower()
        unit = next((u for u in ("gwei", "wei", "ether") if text.endswith(u)), "")
        try:
            wei = Decimal(text.removesuffix(unit)) * _UNITS[unit or "ether"]
            if not wei.is_finite() or wei < 0 or wei != int(wei) or wei >= 1 << 256:
                raise InvalidOperation
        except InvalidOperation:
            self.fail(f"{value!r} is no amount; write 0.5 (ether), 20gwei or 1000wei", param, ctx)
        return int(wei)


class HexBytes(click.ParamType):
    """Exactly `size` bytes in hex, with or without 0x (or the `sha256:` of Docker)."""

    name = "hex"

    def __init__(self, size: int) -> None:
        self._size = size

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        if isinstance(value, bytes):
            return value
        text = str(value).removeprefix("sha256:").removeprefix("0x")
        try:
            data = bytes.fromhex(text)
        except ValueError:
            data = b""
        if len(data) != self._size:
            self.fail(f"{value!r} is not {self._size} bytes in hex; check the value", param, ctx)
        return data


deployment_option = click.option(
    "--deployment",
    "deployment_path",
    type=click.Path(path_type=Path),
    help="Deployment file; by default deployments/<network>.json by chain id.",
)
# Ape's log goes to standard output, where a program reads our JSON.
quiet_option = verbosity_option(default="ERROR")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def network_name(chain_id: int) -> str:
    """The name of a chain's deployment file."""
    return NETWORKS.get(chain_id, f"chain-{chain_id}")


def load_deployment(provider: ProviderAPI, path: Path | None) -> Deployment:
    """The deployment of the connected chain. Raises `DeploymentInvalid`."""
    chosen = path or Path("deployments", f"{network_name(provider.chain_id)}.json")
    found = deployments.load(chosen)
    with_rpc(provider, lambda rpc: deployments.check_chain(found, rpc))
    return found


def with_rpc(provider: ProviderAPI, work: Callable[[Rpc], Awaitable[T]]) -> T:
    """Run asynchronous chain work on the provider's own endpoint."""

    async def run() -> T:
        rpc = Rpc(rpc_url(provider))
        try:
            return await work(rpc)
        finally:
            await rpc.close()

    return asyncio.run(run())


def rpc_url(provider: ProviderAPI) -> str:
    """The HTTP endpoint that Ape is connected to. Raises `BadInput` for any other kind."""
    url = str(getattr(provider, "http_uri", None) or getattr(provider, "uri", ""))
    if not url.startswith(("http://", "https://")):
        raise BadInput("the provider has no HTTP endpoint", "give --network http://HOST:PORT")
    return url


def unattended(account: AccountAPI) -> AccountAPI:
    """Let a keyfile account sign without a question when its passphrase is in the environment."""
    autosign = getattr(account, "set_autosign", None)
    if autosign is not None and f"APE_ACCOUNTS_{account.alias}_PASSPHRASE" in os.environ:
        autosign(True)
    return account


def address_of(account: AccountAPI) -> Address:
    """An Ape account's address, 20 bytes."""
    return Address(bytes.fromhex(str(account.address)[2:]))


def send(account: AccountAPI, call: Call) -> Any:
    """Sign and send with an Ape account; returns Ape's receipt.

    Simulated first: a revert is `Reverted` with its reason, and nothing is sent.
    """
    provider = account.provider
    sender = str(account.address)
    gas = with_rpc(provider, lambda rpc: Account(rpc, sender).gas_limit(call))
    fields: dict[str, Any] = {"data": call.data, "value": call.value, "sender": sender}
    if call.to:
        fields["receiver"] = to_checksum_address(call.to)
    transaction = provider.network.ecosystem.create_transaction(gas_limit=gas, **fields)
    return account.call(transaction)


def execute(account: AccountAPI, deployment: Deployment, order: Order) -> Receipt:
    """Carry out an order with an Ape account."""
    receipt = send(unattended(account), build_call(deployment, order))
    tx_hash = bytes.fromhex(str(receipt.txn_hash).removeprefix("0x"))
    return Receipt(order.key, tx_hash, int(receipt.block_number), int(receipt.gas_used))


def show(title: str, fields: dict[str, Any], *, as_json: bool) -> None:
    """Print a result: one JSON object, or a line for each field."""
    if as_json:
        click.echo(json.dumps(fields))
        return
    click.secho(title, bold=True)
    width = max(len(name) for name in fields) + 2
    for name, value in fields.items():
        click.echo(f"{name:<{width}}{value}")


def receipt_fields(receipt: Receipt) -> dict[str, Any]:
    """The part of a result that every transaction has."""
    return {
        "tx": "0x" + receipt.tx_hash.hex(),
        "block": receipt.block,
        "gas_used": receipt.gas_used,
    }


def ether(wei: int) -> str:
    """An amount for people."""
    return f"{Decimal(wei) / 10**18:f} ether"
