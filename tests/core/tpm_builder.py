"""A PC as its TPM, firmware and kernel tell of it: made of bytes, each of which a test can change.

Nothing here is shared with the parsers but the constants of the specifications.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.formats.context import Context
from agent.formats.p256 import SigningKey
from agent.formats.quote import QUOTED_PCRS, Quote, qualifying_data

SHA1, SHA256, SHA384 = 0x4, 0xB, 0xC
HASHES = {SHA1: hashlib.sha1, SHA256: hashlib.sha256, SHA384: hashlib.sha384}
NO_ACTION, SEPARATOR, EVENT_TAG, IPL, S_CRTM, VARIABLE, APPLICATION, DRIVER, ACTION = (
    *(0x3, 0x4, 0x6, 0xD, 0x8, 0x80000001, 0x80000003, 0x80000004, 0x80000007),
)
UKI, INNER = b"\x81" * 32, b"\x82" * 32
STUB = tuple(bytes([n]) * 32 for n in range(0x91, 0x97))
OPTIONS, INITRD = b"\x98" * 32, STUB[-1]
CALLING = b"Calling EFI Application from Boot Option"


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@dataclass
class Measurement:
    """One event; without ``digest``, that of the data."""

    pcr: int
    kind: int
    data: bytes
    digest: bytes | None = None

    @property
    def extended(self) -> bytes:
        return sha(self.data) if self.digest is None else self.digest


def honest_boot() -> list[Measurement]:
    """What firmware and systemd-stub log of a boot of the image (UKI, INNER, STUB)."""
    return [
        Measurement(0, S_CRTM, b"1.0\0"),
        Measurement(7, VARIABLE, b"SecureBoot"),
        Measurement(1, VARIABLE, b"BootOrder"),
        Measurement(4, ACTION, CALLING),
        *(Measurement(pcr, SEPARATOR, bytes(4)) for pcr in range(8)),
        Measurement(4, APPLICATION, b"\x01path", UKI),
        *(Measurement(11, IPL, b"part", digest) for digest in STUB),
        Measurement(4, APPLICATION, b"\x02path", INNER),
        Measurement(9, EVENT_TAG, b"options", OPTIONS),
        Measurement(9, EVENT_TAG, b"initrd", INITRD),
        Measurement(5, ACTION, b"Exit Boot Services Invocation"),
    ]


def encode_header(
    banks: Sequence[int] = (SHA1, SHA256), signature: bytes = b"Spec ID Event03"
) -> bytes:
    spec = signature.ljust(16, b"\0") + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(banks))
    spec += b"".join(struct.pack("<HH", bank, HASHES[bank]().digest_size) for bank in banks) + b"\0"
    return struct.pack("<II20xI", 0, NO_ACTION, len(spec)) + spec


def encode_event(event: Measurement, banks: Sequence[int] = (SHA1, SHA256)) -> bytes:
    digests = b"".join(
        struct.pack("<H", bank)
        + (event.extended if bank == SHA256 else HASHES[bank](event.extended).digest())
        for bank in banks
    )
    head = struct.pack("<III", event.pcr, event.kind, len(banks))
    return head + digests + struct.pack("<I", len(event.data)) + event.data


def encode_log(events: Sequence[Measurement], banks: Sequence[int] = (SHA1, SHA256)) -> bytes:
    return encode_header(banks) + b"".join(encode_event(event, banks) for event in events)


def extend(events: Sequence[Measurement]) -> dict[int, bytes]:
    """The PCRs as a TPM has them afterwards."""
    values = {n: bytes(32) for n in range(24)}
    for event in events:
        if event.kind != NO_ACTION:
            values[event.pcr] = sha(values[event.pcr] + event.extended)
        elif event.data.startswith(b"StartupLocality"):
            values[0] = event.data[-1:].rjust(32, b"\0")
    return values


def ima_fields(path: str, digest: bytes, algorithm: bytes = b"sha256") -> bytes:
    """Template data of one ima-ng entry."""
    parts = (algorithm + b":\0" + digest, path.encode() + b"\0")
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def encode_entry(data: bytes, template: bytes = b"ima-ng", shown: bytes | None = None) -> bytes:
    shown = hashlib.sha1(data).digest() if shown is None else shown
    return (
        struct.pack("<I20sI", 10, shown, len(template)) + template
        + struct.pack("<I", len(data)) + data
    )  # fmt: skip


def encode_ima(rows: Sequence[tuple[str, bytes]]) -> bytes:
    return b"".join(encode_entry(ima_fields(path, digest)) for path, digest in rows)


def sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def ak_public(point: bytes, attributes: int = 0x50472, curve: int = 3) -> bytes:
    """TPMT_PUBLIC of an attestation key."""
    head = struct.pack(">HHIHHHHHH", 0x23, 0xB, attributes, 0, 0x10, 0x18, 0xB, curve, 0x10)
    return head + sized(point[:32]) + sized(point[32:])


@dataclass
class SoftTpm:
    """Signs what it is told: an honest TPM and, with a field changed, a forger of quotes."""

    key: SigningKey = field(default_factory=SigningKey.generate)
    magic: int = 0xFF544347
    kind: int = 0x8018
    time_ms: int = 5000
    resets: int = 7
    restarts: int = 0
    safe: int = 1
    selection: Sequence[tuple[int, Sequence[int]]] = ((SHA256, QUOTED_PCRS),)
    over: Sequence[int] = QUOTED_PCRS
    scheme: int = 0x18
    attributes: int = 0x50472

    @property
    def public(self) -> bytes:
        return ak_public(self.key.public, self.attributes)

    def quote(self, values: dict[int, bytes], qualifying: bytes) -> Quote:
        banks = struct.pack(">I", len(self.selection))
        for bank, pcrs in self.selection:
            bits = sum(1 << pcr for pcr in pcrs)
            banks += struct.pack(">HB", bank, 3) + bits.to_bytes(3, "little")
        attest = (
            struct.pack(">IH", self.magic, self.kind) + sized(b"\0\x0b" + sha(b"signer"))
            + sized(qualifying)
            + struct.pack(">QIIBQ", self.time_ms, self.resets, self.restarts, self.safe, 1)
            + banks + sized(sha(b"".join(values[pcr] for pcr in self.over)))
        )  # fmt: skip
        rs = self.key.sign(sha(attest))
        signature = struct.pack(">HH", self.scheme, SHA256) + sized(rs[:32]) + sized(rs[32:])
        return Quote(attest, signature, self.public)


@dataclass
class Pc:
    """A PC at one moment. ``edits`` change the claims after the TPM signed."""

    tpm: SoftTpm
    events: list[Measurement] = field(default_factory=honest_boot)
    files: list[tuple[str, bytes]] | None = None
    newer: list[tuple[str, bytes]] = field(default_factory=list)
    nonce: bytes | None = None
    session: bytes | None = None
    context: Context | None = None
    edits: list[Callable[[dict[str, Any]], object]] = field(default_factory=list)

    def aggregate(self) -> tuple[str, bytes]:
        values = extend(self.events)
        return "boot_aggregate", sha(b"".join(values[n] for n in range(10)))

    def state(self, claims: dict[str, Any], nonce: bytes, session: bytes, said: Context) -> None:
        """Put the claims of this moment into ``claims``."""
        files = [self.aggregate()] if self.files is None else self.files
        values = extend(self.events)
        for path, digest in files:
            values[10] = sha(values[10] + sha(ima_fields(path, digest)))
        qualifying = qualifying_data(
            self.nonce or nonce, self.session or session, self.context or said
        )
        claims["quote"] = self.tpm.quote(values, qualifying).to_body()
        claims["event_log"] = encode_log(self.events)
        claims["ima"] = encode_ima([*files, *self.newer])
        for edit in self.edits:
            edit(claims)
