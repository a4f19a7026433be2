"""What a Node says of itself to the registry, signed by its root: ``registration.json``.

The root's signature over chain, registry and account is the proof of possession that
``NodeRegistry.register`` asks for: nobody can register a root that is not his, and a signature for
one network or account is void in any other. The file holds nothing secret; whoever pays the Deposit
sends it (``ape run register_node``).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eth_utils.address import to_checksum_address

from nodeclient.core.digests import registration_digest
from nodeclient.core.registration import RegistrationKeys
from nodeclient.core.types import Address
from nodeclient.files import replace_file
from nodeclient.identity.keys import NodeKeys
from nodeclient.p2p.contact import Contact, build_record
from nodeclient.ports import Root

REGISTRATION = "registration.json"


NO_MACHINE_KEY = bytes(32)  # a Machine without a key of its own: its Node vouches for it (PI-ONLY)


def prepare_registration(
    root: Root,
    keys: NodeKeys,
    *,
    chain_id: int,
    registry: bytes,
    endpoint: str,
    attestation_key: bytes = NO_MACHINE_KEY,
) -> dict[str, Any]:
    """The JSON object of ``registration.json``. Raises ContactInvalid for a malformed endpoint.

    ``attestation_key``: SHA-256 of the TPMT_PUBLIC of the Machine's attestation key.
    """
    public, vrf = root.public_key(), keys.vrf_public
    fields = RegistrationKeys(
        root_x=int.from_bytes(public[:32], "big"),
        root_y=int.from_bytes(public[32:], "big"),
        root_class=root.class_id,
        vrf_x=int.from_bytes(vrf[1:], "big"),
        vrf_prefix=vrf[0],
        hardware_id=root.hardware_id(),
        attestation_key=attestation_key,
    )
    contact = build_record(
        Contact(
            chain_id, registry, keys.address, endpoint, keys.tls_certificate, keys.hpke_public, 0
        ),
        root.sign,
    )
    digest = registration_digest(
        chain_id, Address(registry), Address(keys.address), fields, contact
    )
    signature = root.sign(digest)
    return {
        "chain_id": chain_id,
        "registry": to_checksum_address(registry),
        "account": to_checksum_address(keys.address),
        "registration": {
            name: f"0x{value.hex()}" if isinstance(value, bytes) else value
            for name, value in asdict(fields).items()
        },
        "contact": f"0x{contact.hex()}",
        "r": int.from_bytes(signature[:32], "big"),
        "s": int.from_bytes(signature[32:], "big"),
    }


def write_registration(folder: Path, registration: dict[str, Any]) -> Path:
    """Write ``registration.json``, or replace it; return its path. Raises OSError."""
    path = folder / REGISTRATION
    replace_file(path, (json.dumps(registration, indent=2) + "\n").encode(), 0o644)
    return path
