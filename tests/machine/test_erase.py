"""The verifier of an erasure against peers that lie in one step, and against the real eraser."""

from __future__ import annotations

import asyncio
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.poly1305 import Poly1305

from agent.formats import erasure as wire
from agent.formats.erasure import ErasureProof, Hello
from agent.formats.tpm_command import SELECTION, create_attestation_key
from agent.tpm import Tpm
from agent.tpm_wire import Transport
from nodeclient.core.erasure import read_quoted
from nodeclient.errors import MachineError
from nodeclient.images.eraser.compile import build_host_eraser
from nodeclient.machine.netboot.erase import Eraser, Patience
from nodeclient.machine.netboot.fill import PART, Fill
from tests.machine.eraser_peer import Peer, Words, hang_up, refuse, send, silence

IMAGE = b"\x31" * 32
WINDOW = wire.WINDOW
MIB = 1 << 20
RANGES = ((WINDOW, 5 * MIB + 4096), (WINDOW + 8 * MIB, 3 * MIB))
SOON = Patience(hello=0.3, part=0.3, per_gib=0.3, step=0.3)


@dataclass
class Bench:
    """One connection: the verifier's end, and a peer that runs in a thread."""

    lies: dict[str, Words] = field(default_factory=dict)
    patience: Patience = Patience()
    ranges: tuple[tuple[int, int], ...] = RANGES

    async def run(self) -> tuple[Peer, ErasureProof]:
        """Raises MachineError as the verifier does."""
        ours, theirs = _pair()
        peer = self.peer = Peer(theirs, lies=self.lies)
        with ours:
            running = asyncio.create_task(asyncio.to_thread(peer.run))
            try:
                eraser = Eraser(ours, self.patience)
                hello = await eraser.hello()
                proof = await eraser.prove(IMAGE, self.ranges, hello.window)
            finally:
                ours.close()
                await running
        return peer, proof


def _pair() -> tuple[socket.socket, socket.socket]:
    """A TCP connection over loopback: a socket pair has no send queue of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    ours.setblocking(False)
    return ours, theirs


async def test_prove__honest_eraser__holds_the_fill_and_answers_for_it() -> None:
    peer, proof = await Bench().run()
    assert (peer.ranges, peer.nonce, peer.keys) == (RANGES, proof.nonce, proof.keys)
    assert (peer.create, peer.selection) == (create_attestation_key(), SELECTION)
    fill = Fill(proof.seed, proof.keys, proof.covered)
    assert b"".join(fill.parts()) == bytes(peer.memory)
    assert fill.tags() == proof.answer == peer.answer
    assert (proof.image, proof.window, proof.quote) == (IMAGE, 20 << 20, None)
    assert peer.ended == wire.BYE
    assert ErasureProof.decode(proof.encode()) == proof


async def test_prove__twice__nothing_is_used_again() -> None:
    (_, one), (_, two) = await Bench().run(), await Bench().run()
    for name in ("nonce", "seed", "keys", "answer"):
        assert getattr(one, name) != getattr(two, name)


def dropped(count: int, at: int) -> Words:
    """Some bytes of the fill are not kept."""

    def take(me: Peer) -> None:
        me.take_fill()
        me.memory[at : at + count] = bytes(count)

    return take


def first_key_only(me: Peer) -> None:
    tag = Poly1305.generate_tag(me.keys[:32], bytes(me.memory))
    me.link.sendall(tag + secrets.token_bytes(16))


def second_key_only(me: Peer) -> None:
    tag = Poly1305.generate_tag(me.keys[32:], bytes(me.memory))
    me.link.sendall(secrets.token_bytes(16) + tag)


def stored_early(me: Peer) -> None:
    """It says that it stored after a part, and takes the rest."""
    me.memory[:] = me.take(PART)
    me.link.sendall(wire.STORED)
    me.memory += me.take(me.size - PART)


def keeps_in_the_queue(me: Peer) -> None:
    """The last MiB stays where it is: in the Pi's own send queue, to be fetched with the keys."""
    me.link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    me.memory[:] = me.take(me.size - MIB)


def fetches_late(me: Peer) -> None:
    me.memory += me.take(MIB)
    me.take_keys()


LIES: list[tuple[str, dict[str, Words], str]] = [
    ("13 bytes dropped", {"fill": dropped(13, 4096)}, "the eraser's answer is wrong"),
    ("last byte dropped", {"fill": dropped(1, sum(n for _, n in RANGES) - 1)}, "answer is wrong"),
    ("1 MiB dropped", {"fill": dropped(MIB, 0)}, "answer is wrong"),
    ("answer to one key", {"answer": first_key_only}, "answer is wrong"),
    ("answer to the other", {"answer": second_key_only}, "answer is wrong"),
    ("a guess", {"answer": send(bytes(32))}, "answer is wrong"),
    ("says stored at once", {"fill": send(wire.STORED), "stored": silence}, "speaks before"),
    ("says stored early", {"fill": stored_early, "stored": silence}, "speaks before"),
    ("something else than stored", {"stored": send(b"STORED!!")}, "something else than"),
    ("another protocol", {"hello": send(b"SEALERA2" + bytes(12))}, "of another protocol"),
    ("257 rows", {"hello": send(wire.HELLO + bytes(8) + b"\1\1\0\0")}, "257 rows exceed 256"),
    ("refuses at once", {"hello": refuse(b"no memory")}, r"refused \(no memory\)"),
    ("refuses the order", {"fill": refuse(b"not mine"), "stored": silence}, r"refused \(not mine"),
    ("refuses to store", {"stored": refuse(b"gone\n\xff")}, r"refused \(gone\?"),
    ("refuses to answer", {"answer": refuse(b"why")}, r"refused \(why\)"),
    ("refuses to quote", {"testimony": refuse(b"tpm")}, r"refused \(tpm\)"),
    ("half a refusal", {"testimony": send(b"REFUSING")}, "no answer"),
    ("quote too long", {"testimony": send(b"\xff\xff\xff\x7f")}, "more than 4096"),
    ("no quote but garbage", {"testimony": send(b"\1\0\0\0x" * 3)}, "quote is none"),
    ("hangs up at once", {"hello": hang_up}, "closed the connection"),
    ("hangs up before it takes the fill", {"fill": hang_up}, "closed the connection|is gone"),
    ("hangs up before it answers", {"answer": hang_up}, "closed the connection|is gone"),
]


@pytest.mark.parametrize(("lies", "words"), [row[1:] for row in LIES], ids=[row[0] for row in LIES])
async def test_prove__one_step_broken__refused_for_that_reason(
    lies: dict[str, Words], words: str
) -> None:
    with pytest.raises(MachineError, match=words):
        await Bench(lies).run()


@pytest.mark.parametrize("step", ["hello", "fill", "stored", "answer", "testimony"])
async def test_prove__silent_eraser__given_up(step: str) -> None:
    words = "takes no more" if step == "fill" else "is silent"
    lies: dict[str, Words] = {step: _stands_still if step == "fill" else silence}
    with pytest.raises(MachineError, match=words):
        await Bench(lies, SOON, ((WINDOW, 64 * MIB),)).run()


def _stands_still(me: Peer) -> None:
    """It is there and takes nothing: the queues fill."""
    me.link.settimeout(None)
    while True:
        try:
            me.link.recv(1, socket.MSG_PEEK | socket.MSG_WAITALL)
            import select

            poll = select.poll()
            poll.register(me.link, select.POLLHUP | select.POLLERR | select.POLLRDHUP)
            poll.poll()
        finally:
            raise EOFError


async def test_prove__fill_left_in_our_send_queue__no_keys_are_shown() -> None:
    """Else a prover without room could have this host keep its last part until it knows the keys.

    Control: it answers rightly, so nothing but the queue gives it away.
    """
    bench = Bench({"fill": keeps_in_the_queue, "keys": fetches_late})
    with pytest.raises(MachineError, match="stored what it did not take"):
        await bench.run()
    assert bench.peer.keys == b""


@pytest.mark.parametrize("size", [1, 16, PART - 1, PART, PART + 1, 3 * PART])
def test_fill__any_size__the_key_stream_and_its_tags(size: int) -> None:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

    seed, keys = secrets.token_bytes(32), secrets.token_bytes(64)
    fill = Fill(seed, keys, size)
    parts = list(fill.parts())
    assert all(len(part) == PART for part in parts[:-1])
    whole = Cipher(ChaCha20(seed, bytes(16)), None).encryptor().update(bytes(size))
    assert b"".join(parts) == whole
    tags = [Poly1305.generate_tag(key, whole) for key in (keys[:32], keys[32:])]
    assert fill.tags() == b"".join(tags)
