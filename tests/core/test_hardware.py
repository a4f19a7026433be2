"""What a candidate's documents must show before a committee member affirms its hardware."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.formats.endorsement import Endorsement
from agent.formats.hashes import keccak256, sha256
from nodeclient.core.admission import Motion, MotionKind
from nodeclient.core.hardware import HardwareFault, check_tpm
from nodeclient.core.tpm.public import ROOT_ATTRIBUTES
from nodeclient.core.types import Address, NodeRecord, NodeStatus, RootClass
from tests.core.ek_builder import authority, certify, der, ek_public, rsa_key
from tests.core.tpm_builder import ak_public

MAKER = authority("maker")
NODE = Address(b"\x11" * 20)
_NUMBERS = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
POINT = _NUMBERS.x.to_bytes(32, "big") + _NUMBERS.y.to_bytes(32, "big")


def candidate(key: Any, point: bytes = POINT) -> tuple[Motion, NodeRecord, bytes]:
    """A node whose chip has this endorsement key, certified by MAKER."""
    ek = ek_public(key)
    leaf = der(certify(key, "tpm", MAKER))
    endorsement = Endorsement((leaf,), ek, ak_public(point, ROOT_ATTRIBUTES)).encode()
    record = NodeRecord(
        id=7,
        address=NODE,
        status=NodeStatus.PENDING,
        root_class=RootClass.TPM2,
        root_public=POINT,
        vrf_public=bytes(33),
        hardware_id=keccak256(ek),
        attestation_key=bytes(32),
        contact_digest=bytes(32),
        deposit=10**18,
        tier=0,
        engaged=False,
        fixed_at=1,
    )
    motion = Motion(
        id=1,
        kind=MotionKind.ADMIT,
        proposer=NODE,
        number=7,
        subject=record.hardware_id,
        maker=sha256(MAKER.der),
        evidence=keccak256(endorsement),
        round=100,
    )
    return motion, record, endorsement


def test_check_tpm__certified_rsa_key_and_the_registered_root__both_keys() -> None:
    key = rsa_key().public_key()
    ek, root = check_tpm(*candidate(key), [MAKER.der])
    assert ek == key
    assert root.point == POINT


def test_check_tpm__the_chips_other_certified_key__refused() -> None:
    """Else one chip has two identities, and a bar is escaped."""
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(HardwareFault, match="only its RSA"):
        check_tpm(*candidate(other), [MAKER.der])


def test_check_tpm__other_documents_than_registered__refused() -> None:
    motion, record, endorsement = candidate(rsa_key().public_key())
    for changed, makers, why in (
        (replace(record, hardware_id=bytes(32)), [MAKER.der], "not that of the hardware id"),
        (replace(record, root_public=POINT[::-1]), [MAKER.der], "not the registered root key"),
        (record, [], "none that this node believes"),
    ):
        with pytest.raises(HardwareFault, match=why):
            check_tpm(motion, changed, endorsement, makers)
    with pytest.raises(HardwareFault, match="not the endorsement"):
        check_tpm(replace(motion, evidence=bytes(32)), record, endorsement, [MAKER.der])
