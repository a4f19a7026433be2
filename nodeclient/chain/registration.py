"""`<node>/registration.json`: read what a Node says of itself, and check that it says it.

Written by `nodeclient.identity.registration` (`sealrun node init`), sent by
`ape run register_node`. All of it is public:

    {"chain_id": 31337, "registry": "0x…", "account": "0x…",
     "registration": {"root_x": 1, "root_y": 2, "root_class": 1, "vrf_x": 3, "vrf_prefix": 2,
                      "hardware_id": "0x…", "attestation_key": "0x…"},
     "contact": "0x…", "r": 4, "s": 5}

(r, s) is the root's P-256 signature over `core.digests.registration_digest`, s in the lower half.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from nodeclient.chain.rpc import blob
from nodeclient.core.digests import registration_digest
from nodeclient.core.registration import Registration, RegistrationKeys
from nodeclient.core.types import Address
from nodeclient.errors import BadInput, ChainUnavailable

FILE_NAME = "registration.json"
MAX_FILE = 64 * 1024
MAX_CONTACT = 2048
_HALF_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 // 2


class RegistrationInvalid(BadInput):
    """A registration file is missing, malformed or not signed by its own root key."""


def load(path: Path) -> Registration:
    """Read the file and check the root's signature: a wrong one would only burn gas.

    Raises `RegistrationInvalid`.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise RegistrationInvalid(
            f"cannot read {path}: {error.strerror}", "run `sealrun node init` first"
        ) from error
    try:
        if len(raw) > MAX_FILE:
            raise ValueError("too large")
        found = _parse(json.loads(raw))
    except (KeyError, TypeError, ValueError, RecursionError, ChainUnavailable) as error:
        raise RegistrationInvalid(
            f"{path} is malformed ({type(error).__name__})", "run `sealrun node init` again"
        ) from error
    if not is_signed(found):
        raise RegistrationInvalid(
            f"{path} is not signed by its root key", "run `sealrun node init` again"
        )
    return found


def is_signed(registration: Registration) -> bool:
    """Whether the signature is the root key's, with low s, as the contract wants it."""
    keys = registration.keys
    digest = registration_digest(
        registration.chain_id,
        registration.registry,
        registration.account,
        keys,
        registration.contact,
    )
    r, s = registration.signature
    try:
        public = ec.EllipticCurvePublicNumbers(keys.root_x, keys.root_y, ec.SECP256R1())
        signature = encode_dss_signature(r, s)
        public.public_key().verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    except (InvalidSignature, ValueError):
        return False
    return s <= _HALF_ORDER


def _parse(data: Mapping[str, Any]) -> Registration:
    keys = data["registration"]
    contact = blob(data["contact"])
    if len(contact) > MAX_CONTACT:
        raise ValueError("contact record too large")
    return Registration(
        chain_id=_number(data["chain_id"], 64),
        registry=Address(blob(data["registry"], 20)),
        account=Address(blob(data["account"], 20)),
        keys=RegistrationKeys(
            root_x=_number(keys["root_x"]),
            root_y=_number(keys["root_y"]),
            root_class=_number(keys["root_class"], 64),
            vrf_x=_number(keys["vrf_x"]),
            vrf_prefix=_number(keys["vrf_prefix"], 64),
            hardware_id=blob(keys["hardware_id"], 32),
            attestation_key=blob(keys["attestation_key"], 32),
        ),
        contact=contact,
        signature=(_number(data["r"]), _number(data["s"])),
    )


def _number(value: object, bits: int = 256) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << bits:
        raise ValueError("no natural number")
    return value
