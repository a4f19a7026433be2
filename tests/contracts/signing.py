"""What nodes sign in the contract tests: root signatures (P-256) and votes (EIP-712).

Written against the formats of the contracts' docstrings with `cryptography` and eth-account, so
that contract and test cannot share a mistake.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount
from web3 import Web3

from nodeclient.core import ecvrf

P256_N: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SECP256K1_N: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
BEFORE, DURING, AFTER = 1, 2, 3
AFFIRMING, CONTRAINDICATED = 2, 96
_VOTE: Final = [
    {"name": "task", "type": "uint256"},
    {"name": "phase", "type": "uint8"},
    {"name": "attempt", "type": "uint8"},
    {"name": "header", "type": "bytes32"},
    {"name": "verdict", "type": "uint8"},
    {"name": "validUntil", "type": "uint64"},
]
_DOMAIN: Final = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
]


def tagged(text: str) -> bytes:
    """keccak256 of a domain name."""
    return bytes(Web3.keccak(text=text))


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """The keys of one node: its account, hardware root and VRF secret."""

    account: LocalAccount
    root: ec.EllipticCurvePrivateKey
    vrf: bytes

    @classmethod
    def derive(cls, label: str) -> NodeKeys:
        """Keys derived from a label, the same in every run."""
        seeds = [hashlib.sha256(f"{label}/{part}".encode()).digest() for part in range(3)]
        root = ec.derive_private_key(int.from_bytes(seeds[1], "big") >> 1, ec.SECP256R1())
        return cls(Account.from_key(seeds[0]), root, seeds[2])

    @property
    def address(self) -> str:
        """Checksummed account address."""
        return str(self.account.address)

    @property
    def root_public(self) -> tuple[int, int]:
        """X and Y of the root key."""
        numbers = self.root.public_key().public_numbers()
        return numbers.x, numbers.y

    @property
    def hardware_id(self) -> bytes:
        """What stands for hardware where there is none: a hash of the root key."""
        x, y = (word.to_bytes(32, "big") for word in self.root_public)
        return bytes(Web3.keccak(b"sealrun/software-root/v1" + x + y))

    @property
    def vrf_public(self) -> tuple[int, int]:
        """x and prefix of the VRF key."""
        public = ecvrf.public_key(ecvrf.SECP256K1_TAI, self.vrf)
        return int.from_bytes(public[1:], "big"), public[0]

    def root_sign(self, digest: bytes) -> tuple[int, int]:
        """Low-s P-256 signature (r, s) of a 32-byte digest."""
        der = self.root.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        r, s = decode_dss_signature(der)
        return r, min(s, P256_N - s)


@dataclass(frozen=True, slots=True)
class Header:
    """An attestation header before it is signed."""

    task: int
    commitment: bytes
    node: str
    phase: int
    attempt: int = 1
    nonce_root: bytes = b"\x11" * 31 + b"\x00"
    evidence_root: bytes = b"\x22" * 31 + b"\x00"
    session_key_hash: bytes = b"\x33" * 32

    def digest(self, chain_id: int, ledger: str) -> bytes:
        """What the hardware root signs."""
        types = [
            "bytes32", "uint256", "address", "uint256", "bytes32", "address", "uint8", "uint8",
            "bytes32", "bytes32", "bytes32",
        ]  # fmt: skip
        values = [
            tagged("sealrun/attestation-header/v1"), chain_id, ledger, self.task, self.commitment,
            self.node, self.phase, self.attempt, self.nonce_root, self.evidence_root,
            self.session_key_hash,
        ]  # fmt: skip
        return hashlib.sha256(encode(types, values)).digest()

    def statement(self, signature: tuple[int, int]) -> tuple[Any, ...]:
        """The struct `Statement`."""
        roots = (self.nonce_root, self.evidence_root, self.session_key_hash)
        return (self.attempt, *roots, *signature)

    def whole(self, signature: tuple[int, int]) -> tuple[Any, ...]:
        """The struct `Header`."""
        front = (self.task, self.commitment, self.node, self.phase)
        return (*front, *self.statement(signature))


@dataclass(frozen=True, slots=True)
class Vote:
    """A member's vote before it is signed."""

    task: int
    phase: int
    header: bytes
    attempt: int = 1
    verdict: int = AFFIRMING
    valid_until: int = field(default=2**63)

    def as_tuple(self) -> tuple[Any, ...]:
        """The struct `Vote`."""
        return (
            self.task, self.phase, self.attempt, self.header, self.verdict, self.valid_until
        )  # fmt: skip

    def sign(self, chain_id: int, ledger: str, account: LocalAccount) -> tuple[int, int]:
        """EIP-2098 signature (r, vs) of the EIP-712 vote."""
        message = {
            "types": {"EIP712Domain": _DOMAIN, "Vote": _VOTE},
            "primaryType": "Vote",
            "domain": {
                "name": "sealrun",
                "version": "1",
                "chainId": chain_id,
                "verifyingContract": ledger,
            },
            "message": {
                "task": self.task,
                "phase": self.phase,
                "attempt": self.attempt,
                "header": self.header,
                "verdict": self.verdict,
                "validUntil": self.valid_until,
            },
        }
        signed = account.sign_message(encode_typed_data(full_message=message))
        return int(signed.r), int(signed.s) | (int(signed.v) - 27) << 255
