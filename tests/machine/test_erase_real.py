"""The verifier and the real eraser, compiled for this host: a file is its memory, swtpm its TPM."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.formats.erasure import WINDOW, ErasureProof
from agent.tpm import Tpm
from nodeclient.core.erasure import read_quoted
from nodeclient.core.tpm.material import SELECTION
from nodeclient.core.tpm.public import parse_attestation_key
from nodeclient.errors import MachineError
from nodeclient.images.eraser.compile import build_host_eraser
from nodeclient.machine.netboot.erase import Eraser, Patience
from nodeclient.machine.netboot.fill import Fill
from tests.agent.swtpm import provision, running
from tests.core.tpm_builder import encode_log, honest_boot

IMAGE, MIB = b"\x31" * 32, 1 << 20
SIZE = 320 * MIB
RANGES = ((WINDOW, 3 * MIB), (300 * MIB, 20 * MIB))  # the second where CHEAT_RANGES likes none


@dataclass
class Memory:
    """A file in the place of memory, every byte of it old."""

    path: Path

    def __post_init__(self) -> None:
        with self.path.open("wb") as sink:
            os.truncate(sink.fileno(), SIZE)
            for start, length in RANGES:
                os.pwrite(sink.fileno(), b"\xc5" * length, start)

    def read(self, start: int, length: int) -> bytes:
        with self.path.open("rb") as source:
            return os.pread(source.fileno(), length, start)

    def old(self) -> int:
        """Pages that still hold what was there before."""
        return sum(
            self.read(at, 4096) == b"\xc5" * 4096
            for start, length in RANGES
            for at in range(start, start + length, 4096)
        )


async def prove(folder: Path, *defines: str, options: tuple[str, ...] = ()) -> ErasureProof:
    """Run the eraser of these defines against the verifier. Raises MachineError."""
    program = await asyncio.to_thread(build_host_eraser, folder, *defines)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        words = (f"memory={folder / 'memory'}", f"port={port}", f"window={WINDOW}", f"size={SIZE}")
        process = await asyncio.create_subprocess_exec(
            str(program), *words, *options, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            peer, _ = await asyncio.get_running_loop().sock_accept(listener)
            with peer:
                eraser = Eraser(peer, Patience())
                hello = await eraser.hello()
                proof = await eraser.prove(IMAGE, RANGES, hello.window)
            assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    return proof


async def test_prove__real_eraser__fill_lies_in_memory_and_nothing_old_is_left(
    tmp_path: Path,
) -> None:
    memory = Memory(tmp_path / "memory")
    assert memory.old() == sum(length for _, length in RANGES) // 4096  # the control
    proof = await prove(tmp_path)
    assert proof.quote is None
    fill = b"".join(Fill(proof.seed, proof.keys, proof.covered).parts())
    assert fill == b"".join(memory.read(start, length) for start, length in RANGES)
    assert memory.old() == 0


async def test_prove__with_a_tpm__quoted_by_the_key_that_the_agent_quotes_with(
    tmp_path: Path,
) -> None:
    Memory(tmp_path / "memory")
    provision(tmp_path / "tpm")
    log = tmp_path / "log"
    log.write_bytes(encode_log(honest_boot()))
    with running(tmp_path / "tpm") as transport:
        agents = Tpm(transport).quote(secrets.token_bytes(32)).ak
        transport.close()
        proof = await prove(tmp_path, options=(f"tpm={tmp_path / 'tpm' / 'socket'}", f"log={log}"))
    assert proof.quote is not None
    assert proof.quote.ak == agents
    quoted = read_quoted(ErasureProof.decode(proof.encode()))
    assert (quoted.genuine, quoted.bound) == (True, True)
    assert quoted.key == parse_attestation_key(agents)
    assert quoted.attested.selection == SELECTION
    assert proof.event_log == log.read_bytes()


@pytest.mark.parametrize(
    ("define", "words"),
    [
        ("CHEAT_SKIP", "speaks before it was given everything"),
        ("CHEAT_KEEP_MIB=1", "answer is wrong"),
        ("CHEAT_KEEP_MIB=16", "answer is wrong"),
        ("CHEAT_RANGES", "answer is wrong"),
    ],
)
async def test_prove__eraser_that_keeps_something__refused(
    tmp_path: Path, define: str, words: str
) -> None:
    memory = Memory(tmp_path / "memory")
    with pytest.raises(MachineError, match=words):
        await prove(tmp_path, define)
    assert memory.old() > 0


async def test_prove__fill_parked_on_a_disk__answered_rightly_as_only_the_quote_can_tell(
    tmp_path: Path,
) -> None:
    """What the protocol cannot see by itself (docs/erasure.md): places that are not memory."""
    memory = Memory(tmp_path / "memory")
    (tmp_path / "disk").touch()
    proof = await prove(tmp_path, "CHEAT_DISK=1", options=(f"disk={tmp_path / 'disk'}",))
    assert proof.ranges == RANGES
    assert memory.old() == MIB // 4096
