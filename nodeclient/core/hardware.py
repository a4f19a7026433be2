"""Does a candidate's endorsement show the hardware that it registered? Pure.

What is judged here are the documents: certificates, keys, ids. That the chip is there *now* shows
by what it answers (`attestation.activation` for a TPM, a signed challenge for a Zymkey), which only
its committee members can ask. A Zymkey has no maker's chain: its documents prove nothing by
themselves, which is why the ledger wants an admitter's signature before a committee is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import rsa

from agent.formats.cbor import FormatError
from agent.formats.endorsement import Endorsement
from agent.formats.hashes import keccak256, sha256
from nodeclient.core.admission import MAKER_ZYMBIT, Motion, MotionKind
from nodeclient.core.digests import words
from nodeclient.core.tpm.endorsement import believed_above, check_endorsement
from nodeclient.core.tpm.public import AttestationKey, EkKey, parse_root_key
from nodeclient.core.types import Address, NodeRecord, NodeStatus, RootClass
from nodeclient.core.zymkey import parse_zymkey

CHALLENGE_DOMAIN = keccak256(b"sealrun/root-challenge/v1")


class HardwareFault(FormatError):
    """The candidate's hardware is not what it registered, or not what this Node believes."""


def check_candidate(motion: Motion, record: NodeRecord) -> None:
    """The motion is about the node that waits now. Raises HardwareFault."""
    if motion.kind is not MotionKind.ADMIT or motion.proposer != record.address:
        raise HardwareFault("hardware: the motion admits somebody else")
    if record.status is not NodeStatus.PENDING or record.id != motion.number:
        raise HardwareFault("hardware: the node does not wait for admission")
    if record.hardware_id != motion.subject:
        raise HardwareFault("hardware: the motion names another hardware id")


@dataclass(frozen=True, slots=True)
class Chip:
    """A TPM by its documents. `ek`, `key`: its endorsement and root key, ready for activation.

    `makers`: SHA-256 of every believed certificate over the EK's, 32 bytes each; the first is the
    maker that the ledger notes, and a bar of any of them holds for the chip.
    """

    ek: EkKey
    key: AttestationKey
    makers: tuple[bytes, ...]


def check_tpm(
    motion: Motion, record: NodeRecord, endorsement: bytes, makers: Sequence[bytes]
) -> Chip:
    """The chip of a TPM2 root.

    `makers`: DER of the certificates that this Node believes. The motion must name the topmost of
    them over the chip's EK: if the candidate could choose, it would escape a bar by naming one
    below or above what was barred. Raises HardwareFault, FormatError, TpmError.
    """
    _check_digest(motion, endorsement)
    said = Endorsement.decode(endorsement)
    ek = check_endorsement(said.certificates, said.ek, makers)
    above = makers_of(said.certificates, makers)
    if motion.maker != above[0]:
        raise HardwareFault(
            "hardware: the motion names another maker than the topmost believed one, "
            f"0x{above[0].hex()}"
        )
    if not isinstance(ek, rsa.RSAPublicKey):
        # Nearly every chip has two certified keys: by the other one it could stand a second time,
        # and come back after it was barred.
        raise HardwareFault("hardware: only its RSA endorsement key names a chip")
    if keccak256(said.ek) != record.hardware_id:
        raise HardwareFault("hardware: the endorsement key is not that of the hardware id")
    key = parse_root_key(said.ak)
    if key.point != record.root_public:
        raise HardwareFault("hardware: the TPM's key is not the registered root key")
    return Chip(ek, key, above)


def makers_of(chain: Sequence[bytes], makers: Sequence[bytes]) -> tuple[bytes, ...]:
    """SHA-256 of every believed certificate over an EK's `chain`, the topmost first.

    Raises EndorsementError.
    """
    return tuple(sha256(der) for der in believed_above(chain, makers))


def check_zymkey(
    motion: Motion, record: NodeRecord, endorsement: bytes, *, accept_simulated: bool
) -> None:
    """The documents of a ZYMKEY root. Raises HardwareFault, FormatError."""
    _check_digest(motion, endorsement)
    said = parse_zymkey(endorsement)
    if motion.maker != MAKER_ZYMBIT:
        raise HardwareFault("hardware: the motion names another maker than Zymbit")
    if said.public_key != record.root_public:
        raise HardwareFault("hardware: the Zymkey's key is not the registered root key")
    if keccak256(said.public_key) != record.hardware_id:
        raise HardwareFault("hardware: the key is not that of the hardware id")
    if not said.serial:
        raise HardwareFault("hardware: the Zymkey has no serial number")
    if said.binding is None and not said.can_be_silent_on_binding:
        raise HardwareFault("hardware: the Zymkey keeps quiet about its binding, which it has")
    if said.binding is not None and not said.binding.bound:
        raise HardwareFault("hardware: the Zymkey is not bound to its host")
    if said.simulated and not accept_simulated:
        raise HardwareFault("hardware: the Zymkey is a stand-in")


def check_class(record: NodeRecord) -> RootClass:
    """The class, where it is one that a committee judges. Raises HardwareFault."""
    if record.root_class is RootClass.SOFTWARE:
        raise HardwareFault("hardware: a software root needs no admission")
    return record.root_class


def challenge_digest(chain_id: int, ledger: Address, motion: int, nonce: bytes) -> bytes:
    """What a candidate's root key signs for a member: in a domain of its own."""
    return sha256(words(CHALLENGE_DOMAIN, chain_id, ledger, motion, nonce))


def _check_digest(motion: Motion, endorsement: bytes) -> None:
    if keccak256(endorsement) != motion.evidence:
        raise HardwareFault("hardware: not the endorsement that the motion names")
