"""Files of a TPM root, which come back from a disk that others may have written to."""

from __future__ import annotations

from collections.abc import Iterator

from agent.formats.cbor import FormatError
from agent.formats.hashes import sha256
from agent.formats.p256 import SigningKey
from nodeclient.core.tpm.public import ROOT_ATTRIBUTES, parse_root_key
from nodeclient.roots.tpm2.objects import KeyFile, private_of, public_of, sealed_object, signing_key
from nodeclient.roots.tpm2.sealed import Sealed
from tests.core.tpm_builder import ak_public, sized
from tests.fuzz.check import Target

POINT = SigningKey.generate().public


def all_targets() -> Iterator[Target]:
    """Every parser of this kind."""
    root = ak_public(POINT, ROOT_ATTRIBUTES)
    yield Target(
        "root key",
        (root,),
        parse_root_key,
        (FormatError,),
        lambda data, value: value.digest == sha256(data),  # type: ignore[attr-defined]
        ("nodeclient.core.tpm.public:parse_root_key",),
        codec="bytes",
    )
    file = KeyFile(b"\0\x0b" + bytes(32), sized(root), sized(bytes(120)))
    yield Target(
        "TPM key file",
        (file.encode(),),
        KeyFile.decode,
        (FormatError,),
        lambda data, value: isinstance(value, KeyFile) and value.encode() == data,
        ("nodeclient.roots.tpm2.objects:KeyFile.decode",),
    )
    public = bytes(sealed_object(b"").marshal())
    bound = Sealed(frozenset({7}), public, sized(bytes(90)), bytes(20))
    free = Sealed.encrypt(frozenset(), public, sized(bytes(90)), bytes(32), b"secret", "label")
    yield Target(
        "sealed by a TPM",
        (bound.encode(), free.encode()),
        Sealed.decode,
        (FormatError,),
        lambda data, value: isinstance(value, Sealed) and value.encode() == data,
        ("nodeclient.roots.tpm2.sealed:Sealed.decode",),
        codec="bytes",
    )
    yield Target(
        "public area",
        (public, bytes(signing_key().marshal())),
        public_of,
        (FormatError,),
        lambda data, value: bytes(value.marshal()) == data,  # type: ignore[attr-defined]
        (),
        codec="bytes",
        steps=50_000,
    )
    yield Target(
        "wrapped key",
        (sized(bytes(90)),),
        private_of,
        (FormatError,),
        lambda data, value: bytes(value.marshal()) == data,  # type: ignore[attr-defined]
        (),
        codec="bytes",
        steps=50_000,
    )
