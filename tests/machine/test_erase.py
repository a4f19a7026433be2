"""The verifier of an erasure against peers that lie in one step, and against the real eraser."""

from __future__ import annotations

import asyncio
import secrets
import socket
from dataclasses import dataclass, field, replace

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.poly1305 import Poly1305

from agent.formats import erasure as wire
from agent.formats.erasure import ErasureProof
from agent.formats.tpm_command import SELECTION, create_attestation_key
from nodeclient.errors import MachineError
from nodeclient.machine.netboot.erase import Eraser, Patience
from nodeclient.machine.netboot.fill import PART, Fill
from tests.machine.eraser_peer import Peer, Words, hang_up, refuse, send, silence

IMAGE = b"\x31" * 32
WINDOW = wire.WINDOW
MIB, LEFT = 1 << 20, 256 << 10
RANGES = ((WINDOW, 5 * MIB + 4096), (WINDOW + 8 * MIB, 3 * MIB))
_SO_SNDBUFFORCE = 32  # socket(7): more than the system permits, for root
SOON = Patience(hello=0.3, part=0.3, per_gib=0.3, step=0.3)


@dataclass
class Bench:
    """One connection: the verifier's end, and a peer that runs in a thread."""

    lies: dict[str, Words] = field(default_factory=dict)
    patience: Patience = Patience()  # noqa: RUF009 - frozen
    ranges: tuple[tuple[int, int], ...] = RANGES
    receives: int = 1 << 20
    quoted: bool = False

    async def run(self) -> tuple[Peer, ErasureProof]:
        """Raises MachineError as the verifier does."""
        ours, theirs = _pair(self.receives)
        peer = self.peer = Peer(theirs, lies=self.lies)
        with ours:
            running = asyncio.create_task(asyncio.to_thread(peer.run))
            try:
                eraser = Eraser(ours, self.patience)
                hello = await eraser.hello()
                proof = await eraser.prove(IMAGE, self.ranges, hello.window, quoted=self.quoted)
            finally:
                peer.stop()
                await running
        return peer, proof


def _pair(receives: int) -> tuple[socket.socket, socket.socket]:
    """A TCP connection over loopback whose other end holds so many bytes unread."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.socket()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        theirs.connect(server.getsockname())
        ours, _ = server.accept()
    ours.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 8 * LEFT)
    ours.setblocking(False)
    return ours, theirs


async def test_prove__honest_eraser__holds_the_fill_and_answers_for_it() -> None:
    peer, proof = await Bench().run()
    assert (peer.ranges, peer.nonce, peer.keys) == (RANGES, proof.nonce, proof.keys)
    assert (peer.create, peer.selection) == (create_attestation_key(), SELECTION)
    fill = Fill(proof.seed, proof.keys, proof.covered)
    assert b"".join(fill.parts()) == bytes(peer.memory)
    assert fill.tags() == proof.answer == peer.answer
    assert (proof.image, proof.window, proof.quote) == (IMAGE, WINDOW, None)
    assert peer.ended == wire.BYE
    assert ErasureProof.decode(proof.encode()) == proof


async def test_prove__twice__nothing_is_used_again() -> None:
    (_, one), (_, two) = await Bench().run(), await Bench().run()
    for name in ("nonce", "seed", "keys", "answer"):
        assert getattr(one, name) != getattr(two, name)


def dropped(count: int, at: int) -> Words:
    """Some bytes of the fill are not kept: others stand there, each of them surely wrong."""

    def take(me: Peer) -> None:
        me.take_fill()
        me.memory[at : at + count] = bytes(b ^ 0xFF for b in me.memory[at : at + count])

    return take


def first_key_only(me: Peer) -> None:
    tag = me.tags()[:16]
    me.link.sendall(tag + secrets.token_bytes(16))


def second_key_only(me: Peer) -> None:
    tag = me.tags()[16:]
    me.link.sendall(secrets.token_bytes(16) + tag)


def stored_early(me: Peer) -> None:
    """It says that it stored after a part, and takes the rest."""
    me.memory[:] = me.take(PART)
    me.link.sendall(wire.STORED)
    me.memory += me.take(me.size - PART)


def keeps_in_the_queue(me: Peer) -> None:
    """The last part stays where it is: in the Pi's own send queue, to be fetched with the keys."""
    me.memory[:] = me.take(me.size - LEFT)


def fetches_late(me: Peer) -> None:
    me.memory += me.take(LEFT)
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
    lies: dict[str, Words] = {step: stands_still if step == "fill" else silence}
    with pytest.raises(MachineError, match=words):
        await Bench(lies, SOON, ((WINDOW, 64 * MIB),)).run()


async def test_prove__eraser_that_drips__given_up_as_a_whole() -> None:
    """No part of the fill takes longer than a part may; the connection's end comes later."""
    whole = replace(Patience(), whole=0.3, whole_per_gib=0.0)
    with pytest.raises(MachineError, match="takes longer than 0 s"):
        await Bench({"fill": drips}, whole, ((WINDOW, 64 * MIB),)).run()


def drips(me: Peer) -> None:
    for _ in range(60):
        me.take(4096)
        if me.over.wait(0.05):
            break
    hang_up(me)


async def test_prove__more_memory_than_one_stream_fills__refused_before_the_order() -> None:
    with pytest.raises(MachineError, match="more memory than one key stream fills"):
        await Bench(ranges=((WINDOW, 1 << 38),)).run()


async def test_prove__tpm_vouched_and_none_quotes__no_proof() -> None:
    assert (await Bench().run())[1].quote is None
    with pytest.raises(MachineError, match="brings no quote, but a TPM vouched"):
        await Bench(quoted=True).run()


def stands_still(me: Peer) -> None:
    """It is there and takes nothing: the queues fill."""
    me.over.wait(30)
    raise EOFError


async def test_prove__fill_left_in_our_send_queue__no_keys_are_shown() -> None:
    """Else a prover without room could have this host keep its last part until it knows the keys.

    It would answer rightly: nothing but the queue gives it away.
    """
    bench = Bench(
        {"fill": keeps_in_the_queue, "keys": fetches_late},
        ranges=((WINDOW, 4 * LEFT),),
        receives=4096,
    )
    with pytest.raises(MachineError, match="stored what it did not take"):
        await bench.run()
    assert bench.peer.keys == b""


@pytest.mark.parametrize("size", [1, 16, PART - 1, PART, PART + 1, 3 * PART])
def test_fill__any_size__the_key_stream_and_its_tags(size: int) -> None:
    seed, keys = secrets.token_bytes(32), secrets.token_bytes(64)
    fill = Fill(seed, keys, size)
    parts = list(fill.parts())
    assert all(len(part) == PART for part in parts[:-1])
    whole = Cipher(ChaCha20(seed, bytes(16)), None).encryptor().update(bytes(size))
    assert b"".join(parts) == whole
    tags = [Poly1305.generate_tag(key, whole) for key in (keys[:32], keys[32:])]
    assert fill.tags() == b"".join(tags)
