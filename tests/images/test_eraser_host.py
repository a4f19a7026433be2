"""The eraser's program with a file in place of memory: what it stores, answers, quotes, refuses."""

from __future__ import annotations

import hashlib
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.poly1305 import Poly1305

from nodeclient.images.eraser.compile import build_host_eraser
from tests.images.eraser_peer import Fill, Peer, Refused, expected_memory, pack

MIB = 1 << 20
SIZE, WINDOW = 24 * MIB, MIB
CANARY = b"QzS7vLkXn3Rw9TbY"
RANGES = ((2 * MIB, 4096), (3 * MIB, 9 * MIB + 8192), (16 * MIB, 8 * MIB))
PATIENCE = 60.0  # seconds: a busy computer


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_host_eraser(tmp_path_factory.mktemp("eraser"))


@contextmanager
def running(program: Path, folder: Path, *more: str) -> Iterator[tuple[Peer, Path]]:
    """The program, connected, with a memory full of canaries."""
    memory = folder / "memory"
    memory.write_bytes(CANARY * (SIZE // len(CANARY)))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        port = server.getsockname()[1]
        command = [str(program), f"memory={memory}", f"port={port}", f"window={WINDOW}"]
        process = subprocess.Popen(
            [*command, f"size={SIZE}", *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            connection, _ = server.accept()
            connection.settimeout(PATIENCE)
            with connection:
                yield Peer(connection), memory
        finally:
            process.kill()
            process.communicate()


def test_proof__honest__every_byte_stored_and_the_answer_right(
    program: Path, tmp_path: Path
) -> None:
    fill = Fill()
    with running(program, tmp_path) as (peer, memory):
        before = memory.read_bytes()
        hello = peer.hello()
        assert (hello.window, hello.regions) == (WINDOW, ((0, SIZE, 1),))
        proof = peer.prove(RANGES, fill=fill)
        assert proof.answer == proof.expected
        assert (proof.key, proof.quote, proof.log) == (b"", b"", b"")
        assert memory.read_bytes() == expected_memory(before, RANGES, fill.seed)


def test_proof__most_ranges__taken(program: Path, tmp_path: Path) -> None:
    ranges = tuple((WINDOW + 8192 * index, 4096) for index in range(256))
    with running(program, tmp_path) as (peer, _):
        peer.hello()
        proof = peer.prove(ranges)
        assert proof.answer == proof.expected


def test_proof__memory_that_changed_behind_its_back__other_answer(
    program: Path, tmp_path: Path
) -> None:
    """The answer comes from memory: one bit that is not as it was stored makes it another."""
    fill, length = Fill(), 4 * MIB
    with running(program, tmp_path) as (peer, memory):
        peer.hello()
        peer.order(bytes(32), ((8 * MIB, length),), b"", b"")
        peer.stream(fill, length)
        assert peer.message(8) == b"STORED__"
        with memory.open("r+b") as file:
            file.seek(8 * MIB + length // 2)
            changed = bytes([file.read(1)[0] ^ 1])
            file.seek(8 * MIB + length // 2)
            file.write(changed)
        peer.connection.sendall(fill.keys)
        assert peer.message(32) != fill.answer()


@pytest.mark.parametrize(
    ("cheat", "kept"),
    [
        ("CHEAT_KEEP_MIB=1", 1),
        ("CHEAT_KEEP_MIB=4", 4),
        ("CHEAT_SKIP", 9),
    ],
)
def test_proof__eraser_that_keeps_some__wrong_answer_and_canaries(
    tmp_path: Path, cheat: str, kept: int
) -> None:
    """The cheaters of the attack tests do what they are named for."""
    ranges = ((8 * MIB, 9 * MIB),)
    with running(build_host_eraser(tmp_path, cheat), tmp_path) as (peer, memory):
        peer.hello()
        proof = peer.prove(ranges)
        assert proof.answer != proof.expected
        covered = memory.read_bytes()[8 * MIB : 17 * MIB]
        assert covered.count(CANARY) == kept * MIB // len(CANARY)


def test_proof__fill_parked_on_a_disk__answer_right_though_memory_was_kept(tmp_path: Path) -> None:
    """No answer can show this: it is why an eraser's image has no block layer and is measured."""
    disk = tmp_path / "disk"
    disk.touch()
    program = build_host_eraser(tmp_path, "CHEAT_DISK=2")
    with running(program, tmp_path, f"disk={disk}") as (peer, memory):
        peer.hello()
        proof = peer.prove(((8 * MIB, 9 * MIB),))
        assert proof.answer == proof.expected
        assert memory.read_bytes()[8 * MIB : 17 * MIB].count(CANARY) == 2 * MIB // len(CANARY)
    assert disk.stat().st_size == 2 * MIB


@pytest.mark.parametrize(
    ("ranges", "reason"),
    [
        (((0, 4096),), "window"),
        (((WINDOW - 4096, 8192),), "window"),
        (((2 * MIB, 4096), (2 * MIB, 4096)), "ascend"),
        (((2 * MIB, 8192), (2 * MIB + 4096, 4096)), "overlap"),
        (((3 * MIB, 4096), (2 * MIB, 4096)), "ascend"),
        (((2 * MIB, 0),), "whole pages"),
        (((2 * MIB + 8, 4096),), "whole pages"),
        (((2 * MIB, 4097),), "whole pages"),
        (((SIZE - 4096, 8192),), "not memory"),
        (((1 << 40, 4096),), "not memory"),
        (((2 * MIB, (1 << 64) - 4096),), "no end"),
        (((2 * MIB, (1 << 64) - 2 * MIB),), "no end|not memory"),
    ],
)
def test_order__ranges_that_are_not_as_agreed__refused_and_nothing_written(
    program: Path, tmp_path: Path, ranges: tuple[tuple[int, int], ...], reason: str
) -> None:
    with running(program, tmp_path) as (peer, memory):
        peer.hello()
        peer.order(bytes(32), ranges, b"", b"")
        with pytest.raises(Refused, match=reason):
            peer.message(8)
        assert memory.read_bytes() == CANARY * (SIZE // len(CANARY))


CREATE = struct.pack(">HII", 0x8002, 12, 0x131) + bytes(2)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (struct.pack("<I", 0), "256 ranges"),
        (struct.pack("<I", 257), "256 ranges"),
        (struct.pack("<I", 0xFFFFFFFF), "256 ranges"),
        (pack(RANGES) + struct.pack("<I", 1025), "too long"),
        (pack(RANGES) + struct.pack("<II", 0, 65), "too long"),
    ],
)
def test_order__numbers_out_of_bounds__refused(
    program: Path, tmp_path: Path, body: bytes, reason: str
) -> None:
    with running(program, tmp_path) as (peer, _):
        peer.hello()
        peer.connection.sendall(bytes(32) + body)
        with pytest.raises(Refused, match=reason):
            peer.message(8)


@pytest.mark.parametrize(
    "command",
    [
        CREATE[:9],  # shorter than a header
        CREATE + b"\0",  # longer than it says
        struct.pack(">HII", 0x8001, 12, 0x131) + bytes(2),  # without its authorisation
        struct.pack(">HII", 0x8002, 12, 0x182) + bytes(2),  # TPM2_PCR_Extend
        struct.pack(">HII", 0x8002, 12, 0x120) + bytes(2),  # TPM2_EvictControl
        CREATE + struct.pack(">HII", 0x8002, 10, 0x182),  # a second one behind it
    ],
)
def test_order__any_other_tpm_command__refused(
    program: Path, tmp_path: Path, command: bytes
) -> None:
    with running(program, tmp_path) as (peer, _):
        peer.hello()
        peer.order(bytes(32), RANGES, command, b"")
        with pytest.raises(Refused, match="CreatePrimary"):
            peer.message(8)


def test_bye__other_words__refused(program: Path, tmp_path: Path) -> None:
    fill = Fill()
    with running(program, tmp_path) as (peer, _):
        peer.hello()
        peer.order(bytes(32), ((2 * MIB, 4096),), b"", b"")
        peer.stream(fill, 4096)
        assert peer.message(8) == b"STORED__"
        peer.connection.sendall(fill.keys)
        peer.message(32)
        assert [peer.sized(1), peer.sized(1), peer.sized(1)] == [b"", b"", b""]
        peer.connection.sendall(b"STAY____")
        with pytest.raises(Refused, match="goodbye"):
            peer.message(8)


def mac(program: Path, key: bytes, message: bytes) -> bytes:
    done = subprocess.run(
        [str(program), f"mac={key.hex()}"], input=message, capture_output=True, check=True
    )
    return bytes.fromhex(done.stdout.decode())


# RFC 8439, §2.5.2 and appendix A.3: (key, message, tag).
IETF = (
    b"Any submission to the IETF intended by the Contributor for publication as all or part of an "
    b"IETF Internet-Draft or RFC and any statement made within the context of an IETF activity is "
    b'considered an "IETF Contribution". Such statements include oral statements in IETF sessions, '
    b"as well as written and electronic communications made at any time or place, which are "
    b"addressed to"
)
R = bytes.fromhex("36e5f6b5c5e06070f0efca96227a863e")
VECTORS = [
    (
        "85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b",
        b"Cryptographic Forum Research Group",
        "a8061dc1305136c6c22b8baf0c0127a9",
    ),
    ("00" * 32, bytes(64), "00" * 16),
    ("00" * 16 + R.hex(), IETF, R.hex()),
    (R.hex() + "00" * 16, IETF, "f3477e7cd95417af89a6b8794c310cf0"),
    (
        "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0",
        b"'Twas brillig, and the slithy toves\nDid gyre and gimble in the wabe:\n"
        b"All mimsy were the borogoves,\nAnd the mome raths outgrabe.",
        "4541669a7eaaee61e708dc7cbcc5eb62",
    ),
    ("02" + "00" * 31, b"\xff" * 16, "03" + "00" * 15),
    ("02" + "00" * 15 + "ff" * 16, b"\x02" + bytes(15), "03" + "00" * 15),
    (
        "01" + "00" * 31,
        b"\xff" * 16 + b"\xf0" + b"\xff" * 15 + b"\x11" + bytes(15),
        "05" + "00" * 15,
    ),
    (
        "01" + "00" * 31,
        b"\xff" * 16 + b"\xfb" + b"\xfe" * 15 + b"\x01" * 16,
        "00" * 16,
    ),
    ("02" + "00" * 31, b"\xfd" + b"\xff" * 15, "fa" + "ff" * 15),
    (
        "0100000000000000040000000000000000000000000000000000000000000000",
        bytes.fromhex(
            "e33594d7505e43b900000000000000003394d7505e4379cd01000000000000000000000000000000"
            "000000000000000001000000000000000000000000000000"
        ),
        "14000000000000005500000000000000",
    ),
    (
        "0100000000000000040000000000000000000000000000000000000000000000",
        bytes.fromhex(
            "e33594d7505e43b900000000000000003394d7505e4379cd01000000000000000000000000000000"
            "0000000000000000"
        ),
        "13" + "00" * 15,
    ),
]


@pytest.mark.parametrize(("key", "message", "tag"), VECTORS)
def test_poly1305__vectors_of_rfc_8439__same(
    program: Path, key: str, message: bytes, tag: str
) -> None:
    assert mac(program, bytes.fromhex(key), message).hex() == tag


def test_poly1305__keys_and_lengths_at_random__as_openssl(program: Path) -> None:
    for length in (0, 1, 15, 16, 17, 31, 36, 37, 38, 74, 1000, 4096, 100_003):
        key = hashlib.sha256(b"key%d" % length).digest()
        for message in (hashlib.shake_256(key).digest(length), b"\xff" * length):
            assert mac(program, key, message) == Poly1305.generate_tag(key, message)


@pytest.mark.parametrize("length", [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000])
def test_sha256__lengths_around_its_blocks__as_openssl(program: Path, length: int) -> None:
    message = hashlib.shake_256(b"message").digest(length)
    done = subprocess.run(
        [str(program), "sha256=1"], input=message, capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == hashlib.sha256(message).hexdigest()
