"""The rig's one task: a function that waits, in an image that holds one program of nine bytes.

Preparing it costs a slow Machine next to nothing; it is sealed, released and run as any.
"""

from __future__ import annotations

import io
import secrets
import struct
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.formats import hpke
from agent.formats.archive import pack
from agent.formats.capsule import Kind, seal_stream
from agent.formats.messages import Context, Prepare, Release
from agent.formats.p256 import SigningKey
from agent.formats.protocol import release_info
from agent.formats.taskspec import FunctionRef, Limits, Receiver, TaskSpec, commitment_of
from nodeclient.core.evidence_policy import Expected, Nonce
from nodeclient.core.types import Address, NodeRecord, NodeStatus, Phase, RootClass
from nodeclient.images.pack import ImageConfig, write_image, write_layer

EPOCH: Final = 1_735_689_600  # as the boot image's
LIMITS: Final = Limits(
    seconds=3600, memory_bytes=64 << 20, scratch_bytes=8 << 20, pids=16, cpu_milli=1000
)
NODE: Final = Address(b"\x22" * 20)
TASK: Final = 7
WAITS: Final = "waits"  # the program: pause(2), for ever
_PAUSE: Final = b"\xb8\x22\x00\x00\x00\x0f\x05\xeb\xf7"  # mov eax, 34; syscall; jmp to begin
_BASE, _HEADERS = 0x400000, 64 + 56  # ELF-64: file header, one program header


@dataclass(frozen=True, slots=True)
class RuntimeImage:
    """A runtime image (ID, 32 bytes) and its tar."""

    image_id: bytes
    path: Path


def small_runtime(folder: Path) -> RuntimeImage:
    """A runtime image with one program in it, which waits."""
    root, layer, target = folder / "root.tar", folder / "layer.tar", folder / "image.tar"
    program = waiting_program()
    with tarfile.open(root, "w") as tar:
        item = tarfile.TarInfo(WAITS)
        item.size, item.mode = len(program), 0o755
        tar.addfile(item, io.BytesIO(program))
    digest = write_layer(root, layer, EPOCH)
    config = ImageConfig("amd64", EPOCH, ())
    return RuntimeImage(write_image(layer, digest, target, config), target)


def waiting_program(more: bytes = b"") -> bytes:
    """An ELF file that waits until it is killed. `more`: bytes behind its code."""
    code = _PAUSE + more
    size = _HEADERS + len(code)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return ident + head + load + code


@dataclass(frozen=True, slots=True)
class Errand:
    """A task on one Node. `key`: of its function's Capsule, whose `blocks` lie on the Pi."""

    spec: TaskSpec
    chain_id: int
    market: Address
    number: int
    key: bytes
    blocks: Mapping[str, bytes]

    @classmethod
    def of(cls, image: bytes, chain_id: int, market: Address, number: int = TASK) -> Errand:
        """A task in the runtime image `image`, posted on this market."""
        blocks: dict[str, bytes] = {}
        key = secrets.token_bytes(32)
        function = _sealed_function(blocks, key)
        spec = TaskSpec(
            salt=secrets.token_bytes(32),
            requester=b"\x44" * 20,
            number=0,
            function=function,
            command=(f"/{WAITS}",),
            runtime_image=image,
            inputs=(),
            receivers=(Receiver("owner", b"\x44" * 20, hpke.generate()[1]),),
            connections=(),
            devices=(),
            limits=LIMITS,
        )
        return cls(spec, chain_id, market, number, key, blocks)

    @property
    def commitment(self) -> bytes:
        """Under which it stands on chain."""
        return commitment_of(self.spec.encode())

    @property
    def context(self) -> Context:
        """BEFORE the run, first attempt."""
        return self.at(Phase.BEFORE)

    def at(self, phase: Phase) -> Context:
        """A phase of the first attempt."""
        where = self.chain_id, self.market, self.number, self.commitment, NODE
        return Context(*where, phase.value, 0)

    def order(self) -> object:
        """Body of the Agent's call `prepare`."""
        return Prepare(self.spec.encode(), self.context, 3).to_body()

    def release(self, session: bytes, root: bytes) -> object:
        """Body of the Agent's call `release`: the owner's key for the session (HPKE public key)
        that answered with the Evidence of this root."""
        cid = self.spec.function.cid
        info = release_info(self.chain_id, self.market, self.number, cid, root)
        return Release(cid, hpke.seal(session, info, self.key)).to_body()

    def expected(self, nonce: bytes, phase: Phase = Phase.BEFORE) -> Expected:
        """What a verifier of it knows, who asked this nonce."""
        return Expected(
            chain_id=self.chain_id,
            market=self.market,
            task=self.number,
            commitment=self.commitment,
            node=NODE,
            phase=phase,
            attempt=0,
            nonce=Nonce(nonce),
            spec=self.spec,
        )


def _sealed_function(blocks: dict[str, bytes], key: bytes) -> FunctionRef:
    """A function of one file that nobody reads: what runs is the image's program."""
    owner, archive = SigningKey.generate(), io.BytesIO()
    with tempfile.TemporaryDirectory() as name:
        Path(name, "main").write_bytes(b"nothing")
        pack(Path(name), archive)
    archive.seek(0)
    sealed = seal_stream(
        archive,
        blocks.__setitem__,
        kind=Kind.FUNCTION,
        owner=owner.public,
        sign=owner.sign,
        content_key=key,
    )
    return FunctionRef(sealed.cid, b"\x33" * 20, sealed.digest)


def record_of(attestation_key: bytes, root_public: bytes) -> NodeRecord:
    """What the registry would hold of the Node after its enrolment."""
    return NodeRecord(
        id=1,
        address=NODE,
        status=NodeStatus.ACTIVE,
        root_class=RootClass.SOFTWARE,
        root_public=root_public,
        vrf_public=b"",
        hardware_id=bytes(32),
        attestation_key=attestation_key,
        contact_digest=bytes(32),
        deposit=0,
        tier=1,
        engaged=True,
        fixed_at=0,
    )
