"""The Pi's side of the proof, written by hand from the protocol: for tests of the eraser alone."""

from __future__ import annotations

import hashlib
import secrets
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.poly1305 import Poly1305

Ranges = Sequence[tuple[int, int]]
_PART = 1 << 20


class Refused(Exception):
    """The eraser said why it goes no further."""


@dataclass(frozen=True, slots=True)
class Hello:
    """window: bytes. regions: (start, end, kind)."""

    window: int
    regions: tuple[tuple[int, int, int], ...]


@dataclass
class Fill:
    """A keystream of ChaCha20 and what it must be answered with."""

    seed: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    keys: bytes = field(default_factory=lambda: secrets.token_bytes(64))

    def __post_init__(self) -> None:
        self._stream = Cipher(ChaCha20(self.seed, bytes(16)), None).encryptor()
        self._macs = [Poly1305(self.keys[:32]), Poly1305(self.keys[32:])]

    def next(self, size: int) -> bytes:
        part = self._stream.update(bytes(size))
        for mac in self._macs:
            mac.update(part)
        return part

    def answer(self) -> bytes:
        return b"".join(mac.finalize() for mac in self._macs)


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of it, and what it was asked over."""

    answer: bytes
    expected: bytes
    key: bytes
    quote: bytes
    log: bytes
    qualifying: bytes


class Peer:
    """One connection of an eraser."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def read(self, size: int) -> bytes:
        """Raises Refused, or ConnectionError when the eraser is gone."""
        data = b""
        while len(data) < size:
            part = self.connection.recv(min(size - len(data), _PART))
            if not part:
                raise ConnectionError("the eraser is gone")
            data += part
        return data

    def message(self, size: int) -> bytes:
        """`size` >= 8 bytes that are no refusal."""
        head = self.read(8)
        if head == b"REFUSED_":
            raise Refused(self.sized(200).decode("ascii"))
        return head + self.read(size - 8)

    def sized(self, most: int) -> bytes:
        (size,) = struct.unpack("<I", self.read(4))
        assert size <= most
        return self.read(size)

    def hello(self) -> Hello:
        head = self.message(20)
        assert head[:8] == b"SEALERA1"
        window, count = struct.unpack("<QI", head[8:])
        assert count <= 256
        regions = tuple(struct.iter_unpack("<QQI", self.read(20 * count)))
        return Hello(window, regions)

    def order(self, nonce: bytes, ranges: Ranges, command: bytes, selection: bytes) -> None:
        packed = pack(ranges)
        for part in (command, selection):
            packed += struct.pack("<I", len(part)) + part
        self.connection.sendall(nonce + packed)

    def stream(self, fill: Fill, size: int) -> None:
        while size:
            part = min(size, _PART)
            self.connection.sendall(fill.next(part))
            size -= part

    def prove(
        self,
        ranges: Ranges,
        command: bytes = b"",
        selection: bytes = b"",
        fill: Fill | None = None,
    ) -> Proof:
        """The whole of it behind hello."""
        fill, nonce = fill or Fill(), secrets.token_bytes(32)
        self.order(nonce, ranges, command, selection)
        self.stream(fill, sum(length for _, length in ranges))
        assert self.message(8) == b"STORED__"
        self.connection.sendall(fill.keys)
        answer = self.message(32)
        parts = [self.sized(4096), self.sized(4096), self.sized(512 << 10)]
        self.connection.sendall(b"BYE_____")
        bound = hashlib.sha256(pack(ranges)).digest()
        said = b"sealrun/erasure/v1" + nonce + bound + fill.keys + answer
        return Proof(answer, fill.answer(), *parts, hashlib.sha256(said).digest())


def pack(ranges: Ranges) -> bytes:
    """As the order has them."""
    return struct.pack("<I", len(ranges)) + b"".join(struct.pack("<QQ", *each) for each in ranges)


def expected_memory(before: bytes, ranges: Ranges, seed: bytes) -> bytes:
    """What memory must hold afterwards."""
    stream = Cipher(ChaCha20(seed, bytes(16)), None).encryptor()
    memory = bytearray(before)
    for start, length in ranges:
        memory[start : start + length] = stream.update(bytes(length))
    return bytes(memory)
