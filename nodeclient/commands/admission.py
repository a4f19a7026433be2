"""``sealrun node admission`` and ``vouch``: how a node's admission stands; an admitter's word."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.formats.hashes import keccak256
from nodeclient.chain import deployment as deployments
from nodeclient.chain.admission import AdmissionLedger
from nodeclient.chain.reader import Reader
from nodeclient.chain.rpc import Rpc, blob
from nodeclient.commands.output import Json, NodeFolder, say, show
from nodeclient.core.admission import MAKER_ZYMBIT, sign, vouch_digest
from nodeclient.core.types import Address, NodeRecord, NodeStatus, RootClass
from nodeclient.errors import BadInput, ChainUnavailable
from nodeclient.identity.folder import NodeFolder as OpenedFolder
from nodeclient.identity.folder import open_folder

VOUCH_BLOCKS = 50_400  # a week of 12-second blocks: time to bring it, not to sell the device
Chain = tuple[Reader, AdmissionLedger, int]


class NotACandidate(BadInput):
    """Nobody who waits for admission with a Zymkey."""


def admission(node: NodeFolder = Path("node"), as_json: Json = False) -> None:
    """Show how the node's admission stands: its status on chain, its last motion."""
    opened = open_folder(node)
    show(asyncio.run(with_chain(opened, lambda chain: _state(opened, chain))), as_json)


def vouch(
    candidate: Annotated[str, typer.Argument(help="Account of the PENDING node: 0x….")],
    evidence: Annotated[
        str, typer.Argument(help="Digest of its endorsement: `sealrun node admission` there.")
    ],
    node: NodeFolder = Path("node"),
    as_json: Json = False,
) -> None:
    """As an admitter who has seen the device: sign for a node with a Zymkey. Its vouch.json."""
    try:
        who, digest = Address(blob(candidate, 20)), blob(evidence, 32)
    except ChainUnavailable as error:
        raise BadInput("not an account or not a digest", "write both as 0x…") from error
    opened = open_folder(node)
    found = asyncio.run(with_chain(opened, lambda chain: _vouch(opened, chain, who, digest)))
    show(found, as_json)
    if not as_json:
        say("next: give it to the node as vouch.json in its folder (with --json)")


async def with_chain(
    opened: OpenedFolder, ask: Callable[[Chain], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    """What the chain that the node's folder names is asked."""
    config = opened.config
    deployed = deployments.load(config.path(config.chain.deployment))
    rpc = Rpc(config.chain.rpc)
    try:
        await deployments.check_chain(deployed, rpc)
        ledger = AdmissionLedger(rpc, deployed)
        return await ask((Reader(rpc, deployed), ledger, deployed.chain_id))
    finally:
        await rpc.close()


async def _state(opened: OpenedFolder, chain: Chain) -> dict[str, Any]:
    reader, ledger, _ = chain
    me = Address(opened.load_keys().address)
    record = await reader.node(me)
    terms = await ledger.parameters()
    head = (await reader.head()).number
    evidence = keccak256(await asyncio.to_thread(opened.root.endorsement))
    said: dict[str, Any] = {
        "account": f"0x{me.hex()}",
        "status": "UNREGISTERED" if record is None else record.status.name,
        "root": RootClass(opened.root.class_id).name,
        "evidence": f"0x{evidence.hex()}",
        "fee": terms.fee,
    }
    motions = await ledger.motions_of(me, head - 3 * terms.longest)
    if motions:
        last = motions[-1]
        state = await ledger.state(last.id)
        members = await ledger.members(last.round)
        said |= {
            "motion": last.id,
            "motion_state": None if state is None else state.name,
            "drawn_from": last.round,
            "decided_until": terms.vote_end(last),
            "members": [f"0x{one.hex()}" for one in terms.seats(last, members or ())],
        }
    return said


async def _vouch(
    opened: OpenedFolder, chain: Chain, who: Address, evidence: bytes
) -> dict[str, Any]:
    reader, ledger, chain_id = chain
    record: NodeRecord | None = await reader.node(who)
    if record is None or record.root_class is not RootClass.ZYMKEY:
        raise NotACandidate(f"0x{who.hex()} has no Zymkey to vouch for", "check the account")
    if record.status is not NodeStatus.PENDING:
        raise NotACandidate(
            f"0x{who.hex()} is {record.status.name}, not PENDING", "vouch for who waits for it"
        )
    until = (await reader.head()).number + VOUCH_BLOCKS
    digest = vouch_digest(
        chain_id, ledger.address, who, record.id, record.hardware_id, MAKER_ZYMBIT, evidence, until
    )
    r, vs = sign(digest, opened.load_keys().account)
    return {"valid_until": until, "r": r, "vs": vs}
