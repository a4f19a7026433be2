"""What is signed, byte for byte: the digests that the contracts recompute. Pure.

Everything is `abi.encode` of static words (32 bytes each, big-endian, Solidity ABI): no length can
be ambiguous. Every digest names its domain, the chain id and the contract, so that a signature
counts once, there.
"""

from __future__ import annotations

from agent.formats.hashes import keccak256, sha256
from nodeclient.core.registration import RegistrationKeys
from nodeclient.core.types import Address, Commitment, Phase, Statement, TaskId, Vote

REGISTRATION_DOMAIN = keccak256(b"sealrun/registration/v1")
CONTACT_DOMAIN = keccak256(b"sealrun/contact/v1")
HEADER_DOMAIN = keccak256(b"sealrun/attestation-header/v1")
VOTE_DOMAIN_TYPE = keccak256(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
VOTE_TYPE = keccak256(
    b"Vote(uint256 task,uint8 phase,uint8 attempt,bytes32 header,uint8 verdict,uint64 validUntil)"
)
_NAME = keccak256(b"sealrun")
_VERSION = keccak256(b"1")


def words(*values: int | bytes) -> bytes:
    """`abi.encode` of static values: numbers, bytes32, and addresses (20 bytes).

    Raises `ValueError` for a negative or too large number and for bytes of another length.
    """
    parts = []
    for value in values:
        if isinstance(value, int):
            if not 0 <= value < 1 << 256:
                raise ValueError("a number does not fit into 256 bits; check the input")
            parts.append(value.to_bytes(32, "big"))
        elif len(value) == 32:
            parts.append(bytes(value))
        elif len(value) == 20:
            parts.append(bytes(12) + bytes(value))
        else:
            raise ValueError(f"{len(value)} bytes are neither a word nor an address")
    return b"".join(parts)


def registration_digest(
    chain_id: int, registry: Address, account: Address, keys: RegistrationKeys, contact: bytes
) -> bytes:
    """What a root key signs to register `account` (NodeRegistry.register)."""
    return sha256(
        words(
            REGISTRATION_DOMAIN,
            chain_id,
            registry,
            account,
            keys.root_x,
            keys.root_y,
            keys.root_class,
            keys.vrf_x,
            keys.vrf_prefix,
            keys.hardware_id,
            keys.attestation_key,
            keccak256(contact),
        )
    )


def contact_digest(chain_id: int, registry: Address, account: Address, contact: bytes) -> bytes:
    """What a root key signs to replace its contact record (NodeRegistry.set_contact)."""
    return sha256(words(CONTACT_DOMAIN, chain_id, registry, account, keccak256(contact)))


def header_digest(
    chain_id: int,
    ledger: Address,
    task: TaskId,
    commitment: Commitment,
    node: Address,
    phase: Phase,
    statement: Statement,
) -> bytes:
    """What the Executor's root key signs over a phase's Evidence (AttestationLedger.attest)."""
    return sha256(
        words(
            HEADER_DOMAIN,
            chain_id,
            ledger,
            task,
            commitment,
            node,
            phase,
            statement.attempt,
            statement.nonce_root,
            statement.evidence_root,
            statement.session_key_hash,
        )
    )


def vote_digest(chain_id: int, ledger: Address, vote: Vote) -> bytes:
    """What a member's account key signs: EIP-712, domain "sealrun" version "1"."""
    domain = keccak256(words(VOTE_DOMAIN_TYPE, _NAME, _VERSION, chain_id, ledger))
    message = keccak256(
        words(
            VOTE_TYPE,
            vote.task,
            vote.phase,
            vote.attempt,
            vote.header,
            vote.verdict,
            vote.valid_until,
        )
    )
    return keccak256(b"\x19\x01" + domain + message)
