"""Templates of a TPM root's objects, and the file that brings its key back.

Everything is born in the TPM and cannot leave it (fixedTPM, fixedParent, sensitiveDataOrigin).
Everything is exempt from the dictionary-attack lockout (noDA): no object has a password that could
be guessed, and a Pi whose power fails a few times would find its own keys locked.
Structures: TPM 2.0 Library, Part 2, §11-§12.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpm2_pytss import TSS2_Exception
from tpm2_pytss.constants import TPM2_ALG, TPMA_OBJECT
from tpm2_pytss.types import (
    TPM2B_PRIVATE,
    TPM2B_PUBLIC,
    TPML_PCR_SELECTION,
    TPMS_KEYEDHASH_PARMS,
    TPMT_KEYEDHASH_SCHEME,
    TPMT_PUBLIC,
    TPMT_SYM_DEF,
    TPMU_PUBLIC_PARMS,
    TPMU_SYM_KEY_BITS,
    TPMU_SYM_MODE,
)

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.quote import MAX_PUBLIC
from agent.formats.shape import as_bytes, as_int, as_map
from nodeclient.files import FileRefused, read_private
from nodeclient.roots.base import RootError
from nodeclient.roots.tpm2.limits import MAX_PRIVATE

KEY_FILE = "root.tpm2"
_VERSION = 1
_MAX_FILE = 4096  # bytes
_NAMES = ("version", "parent", "public", "private")

_KEPT = TPMA_OBJECT.FIXEDTPM | TPMA_OBJECT.FIXEDPARENT
_OURS = _KEPT | TPMA_OBJECT.USERWITHAUTH | TPMA_OBJECT.NODA
_BORN = _OURS | TPMA_OBJECT.SENSITIVEDATAORIGIN


def storage_key() -> Any:
    """The primary in the owner hierarchy that wraps the rest; the same each time it is derived."""
    attributes = _BORN | TPMA_OBJECT.RESTRICTED | TPMA_OBJECT.DECRYPT
    return TPM2B_PUBLIC(TPMT_PUBLIC.parse("ecc:aes128cfb", objectAttributes=attributes))


def signing_key() -> Any:
    """The root key: P-256, for ECDSA over ready digests, and for nothing else."""
    attributes = _BORN | TPMA_OBJECT.SIGN_ENCRYPT
    return TPM2B_PUBLIC(TPMT_PUBLIC.parse("ecc:ecdsa_sha256", objectAttributes=attributes))


def sealed_object(policy: bytes) -> Any:
    """Data that the TPM gives back: under ``policy``, or where that is empty to this user."""
    attributes = _OURS & ~TPMA_OBJECT.USERWITHAUTH if policy else _OURS
    scheme = TPMS_KEYEDHASH_PARMS(scheme=TPMT_KEYEDHASH_SCHEME(scheme=TPM2_ALG.NULL))
    return TPM2B_PUBLIC(
        TPMT_PUBLIC(
            type=TPM2_ALG.KEYEDHASH,
            nameAlg=TPM2_ALG.SHA256,
            objectAttributes=attributes,
            authPolicy=policy,
            parameters=TPMU_PUBLIC_PARMS(keyedHashDetail=scheme),
        )
    )


def session_cipher() -> Any:
    """AES-128-CFB: what passes between CPU and TPM is encrypted."""
    return TPMT_SYM_DEF(
        algorithm=TPM2_ALG.AES,
        keyBits=TPMU_SYM_KEY_BITS(sym=128),
        mode=TPMU_SYM_MODE(sym=TPM2_ALG.CFB),
    )


def selection(pcrs: Iterable[int]) -> Any:
    """These registers of the SHA-256 bank."""
    return TPML_PCR_SELECTION.parse("sha256:" + ",".join(map(str, sorted(pcrs))))


def public_of(data: bytes) -> Any:
    """A TPM2B_PUBLIC. Raises FormatError for anything else, also for one with more behind it."""
    return _whole(TPM2B_PUBLIC, as_bytes(data, 2, "public area", MAX_PUBLIC))


def private_of(data: bytes) -> Any:
    """A TPM2B_PRIVATE. Raises FormatError."""
    return _whole(TPM2B_PRIVATE, as_bytes(data, 2, "wrapped key", MAX_PRIVATE))


def _whole(kind: Any, data: bytes) -> Any:
    try:
        found, used = kind.unmarshal(data)
    except (TSS2_Exception, ValueError) as error:
        raise FormatError(f"{kind.__name__}: malformed") from error
    # Once more, because the library's reader forgives what its writer would not write.
    if used != len(data) or bytes(found.marshal()) != data:
        raise FormatError(f"{kind.__name__}: not as a TPM writes it")
    return found


@dataclass(frozen=True, slots=True)
class KeyFile:
    """``parent``: Name of the storage key (34 bytes). ``public``, ``private``: the root key,
    wrapped by it: of use in this TPM alone."""

    parent: bytes
    public: bytes
    private: bytes

    def encode(self) -> bytes:
        """Bytes for `decode`."""
        return cbor.encode(
            {
                "version": _VERSION,
                "parent": self.parent,
                "public": self.public,
                "private": self.private,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> KeyFile:
        """Parse. Raises FormatError."""
        body = as_map(cbor.decode(data, _MAX_FILE), _NAMES, "key file")
        as_int(body["version"], _VERSION, _VERSION, "key file version")
        return cls(
            as_bytes(body["parent"], 34, "name of the storage key"),
            as_bytes(body["public"], 2, "public area", MAX_PUBLIC),
            as_bytes(body["private"], 2, "wrapped key", MAX_PRIVATE),
        )

    @classmethod
    def load(cls, path: Path) -> KeyFile:
        """Read it. Raises RootError."""
        try:
            return cls.decode(read_private(path))
        except FileRefused as error:
            raise RootError(f"root: {error.message}", error.next_step) from error
        except FormatError as error:
            raise RootError(f"root: {path}: {error}", "restore it from a backup") from error
