"""What an eraser says to its Pi, and what a Pi shows of it to others."""

from __future__ import annotations

from collections.abc import Iterator

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.erasure import ErasureProof, Hello
from agent.formats.tpm_command import HEADER, SESSIONS, u16, u32
from nodeclient.core.claims import read_memory
from nodeclient.core.erasure import read_quoted
from nodeclient.core.tpm.responses import parse_created, parse_quoted, parse_relayed
from tests.core.erasure_kit import MEMORY, honest_erasure
from tests.core.evidence_kit import TPM
from tests.core.tpm_builder import sized
from tests.fuzz.check import Target, same


def response(parameters: bytes, handle: bytes = b"") -> bytes:
    """What a TPM answers to a command under a password: parameters, then its session's part."""
    body = handle + u32(len(parameters)) + parameters + sized(b"") + b"\x01" + sized(b"")
    return u16(SESSIONS) + u32(HEADER + len(body), 0) + body


def all_targets() -> Iterator[Target]:
    """Every parser of this kind."""
    encoded = honest_erasure(TPM, 8).encode()
    proof = ErasureProof.decode(encoded)
    quote = proof.quote
    assert quote is not None
    yield Target(
        "ErasureProof",
        (encoded,),
        ErasureProof.decode,
        (FormatError,),
        same(lambda value: value.encode()),  # type: ignore[attr-defined]
        ("agent.formats.erasure:ErasureProof.decode",),
    )
    yield Target(
        "quoted erasure",
        (encoded,),
        lambda data: read_quoted(ErasureProof.decode(data)),
        (FormatError,),
        # Whatever is changed, nothing new is signed by this key and bound to what it says.
        lambda data, value: (
            not (value.genuine and value.bound)  # type: ignore[attr-defined]
            or ErasureProof.decode(data).qualifying == proof.qualifying
        ),
        ("nodeclient.core.erasure:read_quoted",),
    )
    hello = Hello(16 << 20, ((0, 1 << 30, 1), (1 << 30, 1 << 31, 2)))
    yield Target(
        "eraser's hello",
        (hello.encode(), Hello(0, ()).encode()),
        Hello.decode,
        (FormatError,),
        same(lambda value: value.encode()),  # type: ignore[attr-defined]
        ("agent.formats.erasure:Hello.decode",),
        codec="bytes",
    )
    created = response(sized(quote.ak) + b"created", u32(0x80000000))
    quoted = response(sized(quote.attest) + quote.signature)
    yield Target(
        "created key",
        (created,),
        parse_created,
        (FormatError,),
        lambda data, value: isinstance(value, bytes) and value in data,
        ("nodeclient.core.tpm.responses:parse_created",),
        codec="bytes",
    )
    yield Target(
        "relayed quote",
        (quoted,),
        parse_quoted,
        (FormatError,),
        lambda data, value: all(part in data for part in value),  # type: ignore[attr-defined]
        ("nodeclient.core.tpm.responses:parse_quoted",),
        codec="bytes",
    )
    yield Target(
        "relayed key and quote",
        (quoted,),
        lambda data: parse_relayed(created, data),
        (FormatError,),
        lambda data, value: value.attest in data,  # type: ignore[attr-defined]
        ("nodeclient.core.tpm.responses:parse_relayed",),
        codec="bytes",
    )
    yield Target(
        "memory map",
        (cbor.encode(MEMORY),),
        lambda data: read_memory(cbor.decode(data, 1 << 20)),
        (FormatError,),
        same(lambda value: cbor.encode([[r.start, r.end, r.kind] for r in value])),  # type: ignore[attr-defined]
        ("nodeclient.core.claims:read_memory",),
    )
