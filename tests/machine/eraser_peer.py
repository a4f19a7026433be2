"""An eraser in Python over a socket, with its memory in a bytearray; and ways in which it lies.

The real one is C (nodeclient/images/eraser); this one can be told to break any single step.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.poly1305 import Poly1305

from agent.formats import erasure as wire
from agent.formats.erasure import Hello, Range, qualifying_data

Words = Callable[["Peer"], None]


@dataclass
class Peer:
    """One eraser on its socket. A step that stands in `lies` is done by that instead."""

    link: socket.socket
    hello: Hello = Hello(wire.WINDOW, ((0, 1 << 30, 1),))  # noqa: RUF009 - frozen
    lies: dict[str, Words] = field(default_factory=dict)
    quote: Callable[[bytes, bytes, bytes], tuple[bytes, bytes, bytes]] = lambda *_: (b"", b"", b"")
    nonce: bytes = b""
    ranges: tuple[Range, ...] = ()
    create: bytes = b""
    selection: bytes = b""
    memory: bytearray = field(default_factory=bytearray)
    keys: bytes = b""
    answer: bytes = b""
    ended: bytes = b""
    over: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Called by the test: whatever it waits for, it gets nothing more."""
        self.over.set()
        with contextlib.suppress(OSError):
            self.link.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        """All steps, until it is told to go or loses its peer."""
        with self.link:
            self.link.settimeout(30)
            steps: tuple[tuple[str, Words], ...] = (
                ("hello", lambda me: me.link.sendall(me.hello.encode())),
                ("order", Peer.take_order),
                ("fill", Peer.take_fill),
                ("stored", lambda me: me.link.sendall(wire.STORED)),
                ("keys", Peer.take_keys),
                ("answer", lambda me: me.link.sendall(me.tags())),
                ("testimony", Peer.testify),
                ("bye", Peer.take_bye),
            )
            try:
                for name, step in steps:
                    self.lies.get(name, step)(self)
            except (OSError, EOFError):
                return

    def take(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self.link.recv(min(size - len(data), 1 << 16))
            if not part:
                raise EOFError
            data += part
        return bytes(data)

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def take_order(self) -> None:
        self.nonce = self.take(32)
        self.ranges = tuple((self.number(8), self.number(8)) for _ in range(self.number(4)))
        self.create, self.selection = (self.take(self.number(4)) for _ in range(2))

    @property
    def size(self) -> int:
        return sum(length for _, length in self.ranges)

    def take_fill(self) -> None:
        self.memory[:] = self.take(self.size)

    def take_keys(self) -> None:
        self.keys = self.take(wire.KEYS)

    def tags(self) -> bytes:
        keys = self.keys[:32], self.keys[32:]
        self.answer = b"".join(Poly1305.generate_tag(key, bytes(self.memory)) for key in keys)
        return self.answer

    def testify(self) -> None:
        over = qualifying_data(self.nonce, self.ranges, self.keys, self.answer or self.tags())
        for part in self.quote(self.create, self.selection, over):
            self.link.sendall(len(part).to_bytes(4, "little") + part)

    def take_bye(self) -> None:
        self.ended = self.take(wire.WORD)


def refuse(text: bytes) -> Words:
    """The eraser's no."""
    return lambda me: me.link.sendall(wire.REFUSED + len(text).to_bytes(4, "little") + text)


def hang_up(me: Peer) -> None:
    """The connection goes."""
    me.link.close()
    raise EOFError


def send(data: bytes) -> Words:
    """Something else in the place of a step."""
    return lambda me: me.link.sendall(data)


def silence(me: Peer) -> None:
    """Nothing more, until the other side gives up."""
    while me.link.recv(1 << 16):
        pass
    raise EOFError
