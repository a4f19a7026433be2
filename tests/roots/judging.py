"""A committee member's look at the documents of a TPM root, without a chain."""

from __future__ import annotations

from collections.abc import Sequence

from agent.formats.endorsement import Endorsement
from agent.formats.hashes import keccak256
from nodeclient.core.admission import Motion, MotionKind
from nodeclient.core.hardware import Chip, check_tpm, makers_of
from nodeclient.core.types import Address, NodeRecord, NodeStatus, RootClass
from nodeclient.roots.tpm2.root import Tpm2Root


def judged(
    root: Tpm2Root,
    makers: Sequence[bytes],
    believed: Sequence[bytes] | None = None,
    point: bytes | None = None,
) -> Chip:
    """As a committee member judges the root of a candidate that names its topmost maker."""
    endorsement = root.endorsement()
    record = NodeRecord(
        id=1,
        address=Address(bytes(20)),
        status=NodeStatus.PENDING,
        root_class=RootClass.TPM2,
        root_public=root.public_key() if point is None else point,
        vrf_public=bytes(33),
        hardware_id=root.hardware_id(),
        attestation_key=bytes(32),
        contact_digest=bytes(32),
        deposit=0,
        tier=0,
        engaged=False,
        fixed_at=1,
    )
    maker = makers_of(Endorsement.decode(endorsement).certificates, makers)[0]
    motion = Motion(
        id=1,
        kind=MotionKind.ADMIT,
        proposer=record.address,
        number=record.id,
        subject=record.hardware_id,
        maker=maker,
        evidence=keccak256(endorsement),
        round=1,
    )
    return check_tpm(motion, record, endorsement, makers if believed is None else believed)
