"""``sealrun node enrol``: make a Machine's TPM known, so that others can believe what it signs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from agent.formats.rpc import RpcError
from nodeclient.attestation.makers import load_certificates, load_makers
from nodeclient.chain import deployment as deployments
from nodeclient.chain.reader import Reader
from nodeclient.chain.rpc import Rpc
from nodeclient.commands.output import Json, NodeFolder, say, show, working
from nodeclient.core.types import Address, NodeRecord, NodeStatus
from nodeclient.identity.enrolment import ENDORSEMENT, AlreadyRegistered, enrol_machine, keep
from nodeclient.identity.folder import NodeFolder as OpenedFolder
from nodeclient.identity.folder import open_folder
from nodeclient.identity.registration import NO_MACHINE_KEY
from nodeclient.machine.choose import choose_machine
from nodeclient.machine.supply import Supply
from nodeclient.store.database import Store


def enrol(
    node: NodeFolder = Path("node"),
    chain: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Intermediate certificates that the TPM lacks: PEM."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Boot the machine once and put its TPM's attestation key into the registration."""
    from nodeclient.daemon import only_one  # its imports cost a second: only where needed

    opened = open_folder(node)
    issuers = load_certificates(chain) if chain else ()
    with only_one(opened.config.folder), working("booting the machine"):
        key = asyncio.run(_enrol(opened, issuers))
    show(
        {
            "node": str(node),
            "attestation_key": f"0x{key.hex()}",
            "endorsement": str(opened.config.folder / ENDORSEMENT),
        },
        as_json,
    )
    if not as_json:
        say(f"next: ape run register_node --node {node} --deposit 1 --account ALIAS")


async def _enrol(opened: OpenedFolder, issuers: Sequence[bytes]) -> bytes:
    """The digest of the Machine's key, proven and written down."""
    config = opened.config
    makers = load_makers(config.path(config.machine.ek_roots))
    deployed = deployments.load(config.path(config.chain.deployment))
    rpc = Rpc(config.chain.rpc)
    try:
        await deployments.check_chain(deployed, rpc)
        reader = Reader(rpc, deployed)
        registered = _key_of(await reader.node(Address(opened.load_keys().address)))
        if registered == NO_MACHINE_KEY:
            raise AlreadyRegistered  # before the Machine is booted in vain
        supply = Supply(_refuse, _refuse, _no_image)
        machine = choose_machine(config, supply, opened.root, reader.is_approved)
        endorsement = await enrol_machine(machine, _next_boot(opened), issuers, makers)
    finally:
        await rpc.close()
    return keep(opened, deployed, endorsement, registered)


def _next_boot(opened: OpenedFolder) -> int:
    """The Machine's boots are counted over everything that it is booted for."""
    store = Store(opened.config.folder / "node.db", opened.load_store_key())
    try:
        return store.next_boot()
    finally:
        store.close()


def _key_of(record: NodeRecord | None) -> bytes | None:
    """The key of a registration that still stands: after its exit an account may register anew."""
    exited = record is None or record.status is NodeStatus.EXITED
    return None if exited or record is None else record.attestation_key


async def _refuse(*_: object) -> NoReturn:
    """No task runs, so the Machine is given nothing and has nothing to give."""
    raise RpcError("no_task", "the machine is only being enrolled")


async def _no_image(_image: bytes) -> None:
    return None
