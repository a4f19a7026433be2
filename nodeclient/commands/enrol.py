"""``sealrun node enrol``: make a Machine's TPM known, so that others can believe what it signs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from agent.formats.endorsement import Endorsement
from agent.formats.hashes import sha256
from agent.formats.rpc import RpcError
from nodeclient.attestation.makers import load_certificates, load_makers
from nodeclient.chain import deployment as deployments
from nodeclient.chain.reader import Reader
from nodeclient.chain.rpc import Rpc
from nodeclient.commands.output import Json, NodeFolder, say, show, working
from nodeclient.core.types import Address, NodeRecord, NodeStatus
from nodeclient.enrolment import ENDORSEMENT, enrol_machine
from nodeclient.errors import BadInput
from nodeclient.files import replace_file
from nodeclient.folder import NodeFolder as OpenedFolder
from nodeclient.folder import open_folder
from nodeclient.registration import NO_MACHINE_KEY, prepare_registration, write_registration
from nodeclient.store import Store


class AlreadyRegistered(BadInput):
    """The registry holds another key of this Node, for good."""

    def __init__(self) -> None:
        super().__init__(
            "this node is registered with another machine, or without one, and the registry does"
            " not change that",
            "ape run exit_node, withdraw the deposit, enrol, and register again",
        )


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
    makers = load_makers(opened.config.path(opened.config.machine.ek_roots))
    with only_one(opened.config.folder), working("booting the machine"):
        endorsement = asyncio.run(_enrol(opened, issuers, makers))
    key = sha256(endorsement.ak)
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


async def _enrol(
    opened: OpenedFolder, issuers: Sequence[bytes], makers: Sequence[bytes]
) -> Endorsement:
    """Prove the Machine's key and write both files; the registration only while it can be sent."""
    from nodeclient.machine.choose import choose_machine
    from nodeclient.machine.supply import Supply

    config, keys = opened.config, opened.load_keys()
    deployed = deployments.load(config.path(config.chain.deployment))
    rpc = Rpc(config.chain.rpc)
    try:
        await deployments.check_chain(deployed, rpc)
        reader = Reader(rpc, deployed)
        registered = _live(await reader.node(Address(keys.address)))
        if registered is not None and registered.attestation_key == NO_MACHINE_KEY:
            raise AlreadyRegistered
        store = Store(config.folder / "node.db", opened.load_store_key())
        try:
            boot_count = store.next_boot()
        finally:
            store.close()
        supply = Supply(_refuse, _refuse, _no_image)
        machine = choose_machine(config, supply, reader.is_approved)
        endorsement = await enrol_machine(machine, boot_count, issuers, makers)
    finally:
        await rpc.close()
    key = sha256(endorsement.ak)
    if registered is not None and registered.attestation_key != key:
        raise AlreadyRegistered
    replace_file(config.folder / ENDORSEMENT, endorsement.encode(), 0o644)
    if registered is None:
        registration = prepare_registration(
            opened.root,
            keys,
            chain_id=deployed.chain_id,
            registry=deployed["NodeRegistry"].address,
            endpoint=config.node.endpoint,
            attestation_key=key,
        )
        write_registration(config.folder, registration)
    return endorsement


def _live(record: NodeRecord | None) -> NodeRecord | None:
    """A registration that still stands: after its exit an account can register anew."""
    return None if record is None or record.status is NodeStatus.EXITED else record


async def _refuse(*_: object) -> NoReturn:
    """No task runs, so the Machine is given nothing and has nothing to give."""
    raise RpcError("no_task", "the machine is only being enrolled")


async def _no_image(_image: bytes) -> None:
    return None
