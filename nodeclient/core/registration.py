"""What a Node says of itself when it registers: everything public, signed by its root key."""

from __future__ import annotations

from dataclasses import dataclass

from nodeclient.core.types import Address


@dataclass(frozen=True, slots=True)
class RegistrationKeys:
    """The struct `Registration` of `NodeRegistry`, field by field.

    `root_class` as in `RootClass`; `vrf_prefix` is 2 or 3 (SEC 1, compressed point).
    """

    root_x: int
    root_y: int
    root_class: int
    vrf_x: int
    vrf_prefix: int
    hardware_id: bytes
    attestation_key: bytes


@dataclass(frozen=True, slots=True)
class Registration:
    """A registration for one account on one registry. `signature` is the root's (r, s) over
    `digests.registration_digest`."""

    chain_id: int
    registry: Address
    account: Address
    keys: RegistrationKeys
    contact: bytes
    signature: tuple[int, int]
