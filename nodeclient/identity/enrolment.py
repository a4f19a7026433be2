"""Enrolment: the Operator's Node learns the attestation key of its own Machine, and proves it.

Done once, before registration: the registry keeps the digest of the key for as long as the Node is
registered (docs/adr/0017). The Machine boots as for a Task, hands out its endorsement, and its TPM
opens a secret, as it will have to for every verifier. Whatever they would refuse is found here,
before a Deposit is paid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.formats.cbor import FormatError
from agent.formats.endorsement import Endorsement
from agent.formats.hashes import sha256
from nodeclient.attestation.activation import check, new_activation
from nodeclient.chain.deployment import Deployment
from nodeclient.errors import BadInput, MachineRefused, SealrunError
from nodeclient.files import replace_file
from nodeclient.identity.folder import NodeFolder
from nodeclient.identity.registration import prepare_registration, write_registration
from nodeclient.ports import Machine

ENDORSEMENT = "endorsement.cbor"  # in the Node's folder: what its peers are told of its TPM


class AlreadyRegistered(BadInput):
    """The registry holds another key of this Node, for as long as it is registered."""

    def __init__(self) -> None:
        super().__init__(
            "this node is registered with another machine, or without one, and the registry does"
            " not change that",
            "ape run exit_node, withdraw the deposit, enrol, and register again",
        )


class EnrolmentFailed(SealrunError):
    """The Machine cannot prove its attestation key; nothing was written."""


async def enrol_machine(
    machine: Machine, boot_count: int, issuers: Sequence[bytes], makers: Sequence[bytes]
) -> Endorsement:
    """Boot the Machine, take its endorsement, let its TPM prove it, and cut the power.

    ``issuers``: DER of intermediate certificates that the TPM does not keep, the EK's issuer first.
    ``makers``: DER of the root certificates that this Node believes. Raises MachineError,
    EnrolmentFailed.
    """
    try:
        await machine.boot(boot_count)
        return await _prove(machine, issuers, makers)
    finally:
        await machine.power_off()


async def _prove(
    machine: Machine, issuers: Sequence[bytes], makers: Sequence[bytes]
) -> Endorsement:
    try:
        given = Endorsement.from_body(await machine.call("endorsement", None))
        endorsement = replace(given, certificates=(*given.certificates, *issuers))
        endorsement = Endorsement.decode(endorsement.encode())  # bounds, also of the issuers
        activation = new_activation(*check(endorsement, sha256(endorsement.ak), makers))
        said = await machine.call("activate", activation.challenge.to_body())
    except MachineRefused as error:
        raise EnrolmentFailed(
            f"the machine shows no attestation key: {error.message}",
            "enrol a machine with a TPM 2.0 that is switched on in its firmware",
        ) from error
    except FormatError as error:
        raise EnrolmentFailed(
            str(error).removeprefix("endorsement: "),
            "put the TPM maker's root certificate into ek_roots, intermediates into --chain",
        ) from error
    if not isinstance(said, bytes) or not activation.is_answered_by(said):
        raise EnrolmentFailed(
            "the attestation key does not live in the TPM of the endorsement",
            "find out what stands between this node and its machine",
        )
    return endorsement


def keep(
    opened: NodeFolder, deployed: Deployment, endorsement: Endorsement, registered: bytes | None
) -> bytes:
    """Write the endorsement, and the key's digest, which it returns, into the registration.

    ``registered``: the digest that the registry holds of this Node, if it is registered already;
    its registration stays as it is then. Raises AlreadyRegistered for another one; OSError.
    """
    config, key = opened.config, sha256(endorsement.ak)
    if registered not in (None, key):
        raise AlreadyRegistered
    replace_file(config.folder / ENDORSEMENT, endorsement.encode(), 0o644)
    if registered is None:
        registration = prepare_registration(
            opened.root,
            opened.load_keys(),
            chain_id=deployed.chain_id,
            registry=deployed["NodeRegistry"].address,
            endpoint=config.node.endpoint,
            attestation_key=key,
        )
        write_registration(config.folder, registration)
    return key
