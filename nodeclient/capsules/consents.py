"""Consents: a data owner's countersignature of a commitment. One consent, one task, one use.

A consent is canonical CBOR [owner account, CIDs, signature]; the owner's root key signs
sha256(domain ‖ chain id ‖ market ‖ commitment ‖ CIDs), so it is void on any other chain or market.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.formats import cbor, p256
from agent.formats.cbor import FormatError
from agent.formats.hashes import sha256
from agent.formats.shape import as_bytes, as_list, as_text
from agent.formats.taskspec import TaskSpec
from nodeclient.core.types import Address, Commitment, Parameters

MAX_CONSENT = 2048
DOMAIN = b"sealrun/consent/v1"


def consent_digest(
    parameters: Parameters, commitment: Commitment, owner: Address, cids: Sequence[str]
) -> bytes:
    """What the owner's root key signs (32 bytes)."""
    where = [parameters.chain_id, parameters.market, commitment, owner, list(cids)]
    return sha256(DOMAIN + cbor.encode(where))


def build_consent(
    parameters: Parameters,
    commitment: Commitment,
    owner: Address,
    cids: Sequence[str],
    sign: Callable[[bytes], bytes],
) -> bytes:
    """Sign; the same input may be signed again, it says the same."""
    digest = consent_digest(parameters, commitment, owner, cids)
    return cbor.encode([owner, list(cids), sign(digest)])


def owners_of(spec: TaskSpec) -> dict[Address, tuple[str, ...]]:
    """Every owner of a TaskSpec's data Capsules and what it must agree to.

    The requester's own function needs no consent: posting is the consent.
    """
    wanted: dict[Address, tuple[str, ...]] = {}
    for item in spec.inputs:
        owner = Address(item.owner)
        wanted[owner] = (*wanted.get(owner, ()), item.cid)
    if spec.function.owner != spec.requester:
        owner = Address(spec.function.owner)
        wanted[owner] = (spec.function.cid, *wanted.get(owner, ()))
    return wanted


def check_consents(
    parameters: Parameters,
    commitment: Commitment,
    spec: TaskSpec,
    consents: Sequence[bytes],
    root_keys: dict[Address, bytes],
) -> None:
    """Every owner agreed to exactly its Capsules.

    ``root_keys``: owner -> P-256 root key X‖Y as registered.

    Raises:
        FormatError: a consent is missing, malformed, or not signed by the owner's root.
    """
    given: dict[bytes, bytes] = {}
    for consent in consents:
        owner, cids, signature = as_list(cbor.decode(consent, MAX_CONSENT), 3, 3, "consent")
        who = Address(as_bytes(owner, 20, "consent owner"))
        names = tuple(as_text(cid, 1, 80, "consent cid") for cid in as_list(cids, 1, 32, "cids"))
        digest = consent_digest(parameters, commitment, who, names)
        key = root_keys.get(who)
        if key is None or not p256.verify(key, digest, as_bytes(signature, 64, "signature")):
            raise FormatError("consent: not signed by the owner's root; ask the owner again")
        given[who] = b"\0".join(name.encode() for name in names)
    for owner, cids in owners_of(spec).items():
        needed = b"\0".join(cid.encode() for cid in cids)
        if owner != spec.requester and given.get(owner) != needed:
            raise FormatError(f"consent: 0x{owner.hex()} did not agree; ask the owner first")
