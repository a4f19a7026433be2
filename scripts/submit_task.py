"""Post a Task: its commitment goes on chain, and nothing else of it."""

from __future__ import annotations

from pathlib import Path

import click
from ape.api import AccountAPI, ProviderAPI
from ape.cli import ConnectedProviderCommand, account_option

from agent.formats.cbor import FormatError
from agent.formats.hashes import keccak256
from agent.formats.taskspec import MAX_NUMBER, MAX_TASKSPEC, TaskSpec
from nodeclient.chain import market
from nodeclient.chain.decode import Decoder
from nodeclient.chain.deployment import Deployment
from nodeclient.chain.reader import Reader
from nodeclient.chain.registry import NodeRegistry
from nodeclient.chain.rpc import Rpc
from nodeclient.core.events import TaskPosted
from nodeclient.core.quote import quote
from nodeclient.core.types import Address, Parameters
from nodeclient.errors import BadInput, ChainUnavailable
from nodeclient.ports import Receipt
from scripts._common import (
    Amount,
    HexBytes,
    deployment_option,
    json_option,
    load_deployment,
    quiet_option,
    receipt_fields,
    reporting,
    show,
    with_rpc,
)
from scripts._signer import node_option, signer_for


@click.command(cls=ConnectedProviderCommand)
@account_option()
@node_option
@click.option("--spec-hash", "given", type=HexBytes(32), help="keccak256 of the TaskSpec.")
@click.option(
    "--number", type=click.IntRange(0, MAX_NUMBER), help="The one in the TaskSpec of --spec-hash."
)
@click.option(
    "--spec",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Encoded TaskSpec; its hash is computed.",
)
@click.option("--committee", type=click.IntRange(3, 11), default=3, show_default=True)
@click.option("--class", "class_id", type=click.IntRange(0, 3), default=0, show_default=True)
@click.option("--executor-fee", type=Amount(), default="0.01", show_default=True)
@click.option("--member-fee", type=Amount(), default="0.001", show_default=True, help="Each.")
@deployment_option
@json_option
@quiet_option
@reporting
def cli(
    account: AccountAPI,
    provider: ProviderAPI,
    node_folder: Path | None,
    given: bytes | None,
    number: int | None,
    spec: Path | None,
    committee: int,
    class_id: int,
    executor_fee: int,
    member_fee: int,
    deployment_path: Path | None,
    as_json: bool,
) -> None:
    """Post a task's commitment with its fees. Amounts: 0.5 (ether), 20gwei, 1000wei."""
    deployment = load_deployment(provider, deployment_path)
    signer = signer_for(account, provider, deployment, node_folder)
    spec_hash, number = _what(given, number, spec, signer.address)

    async def tiers(rpc: Rpc) -> tuple[int, ...]:
        return await NodeRegistry(rpc, deployment).tiers()

    click.echo(quote(with_rpc(provider, tiers), committee).line(), err=True)

    async def parameters(rpc: Rpc) -> Parameters:
        return await Reader(rpc, deployment).parameters()

    order = market.post(
        "post",
        spec_hash,
        number,
        committee_size=committee,
        class_id=class_id,
        executor_fee=executor_fee,
        member_fee=member_fee,
        posting_fee=with_rpc(provider, parameters).posting_fee,
    )
    receipt = signer.execute(order)

    async def look(rpc: Rpc) -> TaskPosted:
        return await _posted(rpc, deployment, receipt)

    posted = with_rpc(provider, look)
    fields = {
        "task": posted.task,
        "commitment": "0x" + posted.commitment.hex(),
        "paid_wei": str(order.value),
    }
    show("Posted", {**fields, **receipt_fields(receipt)}, as_json=as_json)


def _what(
    given: bytes | None, number: int | None, spec: Path | None, requester: Address
) -> tuple[bytes, int]:
    """Hash and number as given, or of a TaskSpec whose requester is the signing account."""
    if (given is None) == (spec is None) or (given is None) != (number is None):
        raise BadInput(
            "either --spec, or --spec-hash and --number are needed", "give one or the other"
        )
    if given is not None and number is not None:
        return given, number
    assert spec is not None
    with spec.open("rb") as file:
        encoded = file.read(MAX_TASKSPEC + 1)
    try:
        found = TaskSpec.decode(encoded)
    except FormatError as error:
        raise BadInput(f"{spec}: {error}", "write it with `sealrun task submit`") from error
    if found.requester != requester:
        raise BadInput(
            "the TaskSpec names another requester", "post it with that Node's account (--node)"
        )
    return keccak256(encoded), found.number


async def _posted(rpc: Rpc, deployment: Deployment, receipt: Receipt) -> TaskPosted:
    """The event of the posting. Raises `ChainUnavailable`."""
    decoder = Decoder(deployment)
    answer = await rpc.request("eth_getTransactionReceipt", ["0x" + receipt.tx_hash.hex()])
    for log in (answer or {}).get("logs", []):
        event = decoder.decode(log)
        if isinstance(event, TaskPosted):
            return event
    raise ChainUnavailable("the posting left no event", "look at the transaction in an explorer")
